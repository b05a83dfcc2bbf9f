"""`best_of`: several answers drawn to each prompt, and the best one of them by a named score."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from runner.decoding._generate import Batch
from runner.decoding._processors import Draw, Watch
from runner.models import Loaded

Generate = Callable[
    [Batch, Draw, Any], list[list[int]]
]  # a batch, how its tokens are drawn, a streamer → new token ids


def drawn(loaded: Loaded, batch: Batch, params: dict[str, Any], generate: Generate, streamer: Any) -> list[list[int]]:
    """The new token ids of each row: the one answer drawn, or the best of `best_of` by `best_by`; then not streamed."""
    count = params.get("best_of") or 1
    if count == 1:
        return generate(batch, Draw(batch.seeds), streamer)
    each = [at for at in range(len(batch.prompts)) for _ in range(count)]
    many = batch.rows(each)
    seeds = [_seed(seed, at % count) for at, seed in enumerate(many.seeds)]
    watch = Watch() if params["best_by"] == "likelihood" else None
    draw = Draw(seeds, watch)
    made = generate(many, draw, None)
    scores = _likelihoods(draw, made) if watch else [_SCORES[params["best_by"]](loaded, ids) for ids in made]
    best = (max(range(start, start + count), key=lambda at: (scores[at], -at)) for start in range(0, len(made), count))
    return [made[at] for at in best]


def _seed(seed: int, number: int) -> int:
    """Another seed for each answer but the first, which is what is drawn without best_of."""
    return seed if number == 0 else int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8], "big") >> 1


def _likelihoods(draw: Draw, made: Sequence[list[int]]) -> list[float]:
    """The mean log-probability of each answer's tokens, the token that ends it included, as the model gave them."""
    steps = [one.tolist() for one in draw.logs]
    sums = []
    for row, ids in enumerate(made):
        logs = [step[row] for step in steps[: len(ids) + 1]]
        sums.append(sum(logs) / len(logs))
    return sums


def _words(loaded: Loaded, ids: Sequence[int]) -> list[str]:
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True)).split()


def _varied(loaded: Loaded, ids: Sequence[int]) -> float:
    """The share of runs of three words that are different ones; 0 for an answer without words."""
    words = _words(loaded, ids)
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(runs)) / len(runs) if runs else float(bool(words))


_SCORES: dict[str, Callable[[Loaded, Sequence[int]], float]] = {
    "varied": _varied,
    "longest": lambda loaded, ids: len(_words(loaded, ids)),
    "shortest": lambda loaded, ids: -len(_words(loaded, ids)),
}
