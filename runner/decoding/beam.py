"""`mode: beam`: the likeliest of several ways that are followed at once, by transformers' beam search."""

from __future__ import annotations

from typing import Any

from runner.decoding._generate import Batch, run
from runner.models import Loaded
from runner.step import Decoding


def generate(
    loaded: Loaded, batch: Batch, decoding: Decoding, streamer: Any = None, cancelled: Any = None
) -> list[list[int]]:
    """The new token ids of each row. Nothing is streamed: until the end it is not known which way wins."""
    params = decoding.params
    search = {"num_beams": params["beams"], "length_penalty": float(params["length_penalty"])}
    return run(loaded, batch, params, (), None, cancelled, **search)
