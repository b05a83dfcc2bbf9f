"""What stands between a model's logits and the choice of a token: penalties, constraints of single rows, cuts, the draw.

Processors get what transformers hands to its own: the token ids of the rows, padded on the left, and scores of shape
(rows, vocabulary). None of them sees the padding, and none leaves a row without a token to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

LIKELY = 1024  # tokens among which the most likely ones that make up top_p nearly always are


def penalties(params: dict[str, Any], pads: Sequence[int], ends: list[int]) -> list[LogitsProcessor]:
    """Processors for repetition_penalty and no_repeat_ngram. They never make it harder to end the answer.

    pads: how many tokens of padding each row begins with; ends: the tokens that end an answer.
    """
    wanted: list[LogitsProcessor] = []
    if params.get("repetition_penalty", 1.0) != 1.0:
        wanted.append(RepetitionPenaltyLogitsProcessor(penalty=params["repetition_penalty"]))
    if params.get("no_repeat_ngram"):
        wanted.append(NoRepeatNGramLogitsProcessor(params["no_repeat_ngram"]))
    return [Unpadded(one, pads, ends) for one in wanted]


class Unpadded(LogitsProcessor):
    """A processor of transformers, row by row and without the padding; where it leaves a row nothing, it is not heard."""

    def __init__(self, inner: LogitsProcessor, pads: Sequence[int], ends: list[int]) -> None:
        self.inner, self.pads, self.ends = inner, pads, ends

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        rows = [self.inner(input_ids[at : at + 1, pad:], scores[at : at + 1]) for at, pad in enumerate(self.pads)]
        made = torch.cat(rows)
        made[:, self.ends] = scores[:, self.ends]
        return not_empty(made, scores)


def not_empty(made: Any, before: Any) -> Any:
    """The scores, but those from before in a row where nothing is possible any more."""
    empty = made.amax(-1, keepdim=True) == -torch.inf
    return torch.where(empty, before, made)


def warpers(params: dict[str, Any]) -> list[LogitsProcessor]:
    """Temperature, then the cuts, in transformers' order; each only where it does something."""
    made: list[LogitsProcessor] = []
    if params.get("temperature", 1.0) != 1.0:
        made.append(TemperatureLogitsWarper(float(params["temperature"])))
    if params.get("top_k"):
        made.append(TopKLogitsWarper(params["top_k"]))
    if params.get("top_p", 1.0) < 1.0:
        made.append(TopP(float(params["top_p"])))
    if params.get("min_p"):
        made.append(MinPLogitsWarper(float(params["min_p"])))
    return made


class TopP(LogitsProcessor):
    """The most likely tokens that together have the probability p, at least one; all others become impossible.

    As transformers' own, which sorts the whole vocabulary: here only the likely tokens are sorted, and all of them in
    rows where these do not make up p. Among equally likely tokens the choice is that of `topk`.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return scores.masked_fill(self.cut(scores), -torch.inf)

    def cut(self, scores: Any) -> Any:
        """Which tokens (rows, vocabulary) become impossible."""
        size = min(LIKELY, scores.shape[-1])
        cut, enough = self._cut(scores, size)
        if not enough.all():
            few = ~enough
            cut[few] = self._cut(scores[few], scores.shape[-1])[0]
        return cut

    def _cut(self, scores: Any, size: int) -> tuple[Any, Any]:
        likely, places = scores.topk(size, dim=-1)
        shares = (likely - scores.logsumexp(-1, keepdim=True)).exp()
        before = shares.cumsum(-1) - shares
        gone = before >= self.p
        gone[:, 0] = False
        enough = gone[:, -1] | (size == scores.shape[-1])
        return torch.ones_like(scores, dtype=torch.bool).scatter_(1, places, gone), enough


class Cut(LogitsProcessor):
    """Forbids what `impossible()` says (rows, vocabulary; None: nothing), but in rows where nothing would be left."""

    def __init__(self, impossible: Callable[[], Any]) -> None:
        self.impossible = impossible

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        cut = self.impossible()
        return scores if cut is None else not_empty(scores.masked_fill(cut, -torch.inf), scores)


class Draw(LogitsProcessor):
    """Picks a token of each row by its probability, with the row's own generator: all others become impossible.

    With `watch`, `logs` keeps the log-probability of every pick (rows,) by what that processor has seen.
    """

    def __init__(self, seeds: Sequence[int], watch: Watch | None = None) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.watch = watch
        self.logs: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        points = [torch.rand((1,), generator=one, dtype=torch.float64) for one in self.generators]
        summed = scores.double().softmax(-1).cumsum(-1)
        picked = torch.searchsorted(summed, torch.stack(points).to(scores.device) * summed[:, -1:], right=True)
        picked = picked.clamp(max=scores.shape[1] - 1)
        if self.watch:
            self.logs.append(self.watch.seen.log_softmax(-1).gather(1, picked)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, picked, 0.0)


class Watch(LogitsProcessor):
    """Changes nothing; remembers the scores before anything was forbidden."""

    seen: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.seen = scores
        return scores
