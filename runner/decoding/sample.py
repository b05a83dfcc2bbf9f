"""`mode: sample`: a token by its probability, the distribution sharpened and cut as asked."""

from __future__ import annotations

from typing import Any

from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from runner.decoding._generate import Batch, Draw, penalties, run
from runner.models import Loaded
from runner.step import Decoding


def warpers(params: dict[str, Any]) -> list[LogitsProcessor]:
    """Temperature, then the cuts, in transformers' order; each only where it does something."""
    made: list[LogitsProcessor] = []
    if params["temperature"] != 1.0:
        made.append(TemperatureLogitsWarper(float(params["temperature"])))
    if params.get("top_k"):
        made.append(TopKLogitsWarper(params["top_k"]))
    if params.get("top_p", 1.0) < 1.0:
        made.append(TopPLogitsWarper(float(params["top_p"])))
    if params.get("min_p"):
        made.append(MinPLogitsWarper(float(params["min_p"])))
    return made


def generate(
    loaded: Loaded, batch: Batch, decoding: Decoding, streamer: Any = None, cancelled: Any = None
) -> list[list[int]]:
    """The new token ids of each row."""
    params = decoding.params
    processors = [*penalties(loaded, batch, params), *warpers(params), Draw(batch.seeds)]
    return run(loaded, batch, processors, params, streamer, cancelled)
