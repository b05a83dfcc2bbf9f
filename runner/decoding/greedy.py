"""`mode: greedy`: always the most likely token."""

from __future__ import annotations

from typing import Any

from runner.decoding._generate import Batch, run
from runner.models import Loaded
from runner.step import Decoding


def generate(
    loaded: Loaded, batch: Batch, decoding: Decoding, streamer: Any = None, cancelled: Any = None
) -> list[list[int]]:
    """The new token ids of each row."""
    return run(loaded, batch, decoding.params, (), streamer, cancelled)
