"""`mode: sample`: a token by its probability, the distribution sharpened and cut as asked."""

from __future__ import annotations

from typing import Any

from runner.decoding._best import drawn
from runner.decoding._generate import Batch, run
from runner.decoding._processors import Draw, warpers
from runner.models import Loaded
from runner.step import Decoding


def generate(
    loaded: Loaded, batch: Batch, decoding: Decoding, streamer: Any = None, cancelled: Any = None
) -> list[list[int]]:
    """The new token ids of each row."""
    params = decoding.params

    def once(rows: Batch, draw: Draw, stream: Any) -> list[list[int]]:
        return run(loaded, rows, params, [*warpers(params), draw], stream, cancelled)

    return drawn(loaded, batch, params, once, streamer)
