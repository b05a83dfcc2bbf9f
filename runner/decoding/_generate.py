"""What modes are made of: one call of transformers' `generate` a batch, and processors that do not see its padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from runner import chat
from runner.chat import Message
from runner.models import Loaded, device


@dataclass(frozen=True)
class Batch:
    """Conversations that are answered together: their prompts as token ids, a seed each, and variables for the prompts
    that a mode's other models are given."""

    conversations: Sequence[Sequence[Message]]
    prompts: Sequence[list[int]]
    seeds: Sequence[int]
    variables: Sequence[dict[str, Any]]

    def rows(self, which: Sequence[int]) -> Batch:
        return Batch(
            [self.conversations[at] for at in which],
            [self.prompts[at] for at in which],
            [self.seeds[at] for at in which],
            [self.variables[at] for at in which],
        )


def run(
    loaded: Loaded,
    batch: Batch,
    processors: Sequence[LogitsProcessor],
    params: dict[str, Any],
    streamer: Any = None,
    cancelled: Event | None = None,
) -> list[list[int]]:
    """The new token ids of each row, up to what ends its answer, by transformers' `generate`, padded on the left."""
    tokenizer, ends = loaded.tokenizer, chat.end_ids(loaded.tokenizer)
    width = max(len(ids) for ids in batch.prompts)
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(one)) + one for one in batch.prompts], device=device())
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch.prompts], device=device())
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=min(params["max_new_tokens"], loaded.context - width),
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    stopping = StoppingCriteriaList([_Stop(tokenizer, width, params.get("stop") or [], cancelled)])
    with loaded.active() as network:
        made = network.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=stopping,
            streamer=streamer,
        )
    return [_until(row, ends) for row in made[:, width:].tolist()]


def _until(ids: list[int], ends: list[int]) -> list[int]:
    return ids[: next((at for at, one in enumerate(ids) if one in ends), len(ids))]


class _Stop(StoppingCriteria):
    """Ends a row where its text holds a stop string, and all rows when the reader has gone."""

    def __init__(self, tokenizer: Any, width: int, stops: Sequence[str], cancelled: Event | None) -> None:
        self.tokenizer, self.width, self.stops, self.cancelled = tokenizer, width, stops, cancelled
        self.back = max((len(stop.encode()) for stop in stops), default=0) + 1

    def __call__(self, input_ids: Any, scores: Any, **held: Any) -> Any:
        gone = bool(self.cancelled and self.cancelled.is_set())
        found = [gone or self._stopped(row) for row in input_ids]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)

    def _stopped(self, row: torch.Tensor) -> bool:
        if not self.stops:
            return False
        tail = self.tokenizer.decode(row[max(self.width, len(row) - self.back) :], skip_special_tokens=True)
        return any(stop in tail for stop in self.stops)


def penalties(loaded: Loaded, batch: Batch, params: dict[str, Any]) -> list[LogitsProcessor]:
    """Processors for repetition_penalty and no_repeat_ngram. They see the row without its padding, and never make it
    harder to end the answer."""
    wanted: list[LogitsProcessor] = []
    if params.get("repetition_penalty", 1.0) != 1.0:
        wanted.append(RepetitionPenaltyLogitsProcessor(penalty=params["repetition_penalty"]))
    if params.get("no_repeat_ngram"):
        wanted.append(NoRepeatNGramLogitsProcessor(params["no_repeat_ngram"]))
    width = max(len(ids) for ids in batch.prompts)
    pads, ends = [width - len(ids) for ids in batch.prompts], chat.end_ids(loaded.tokenizer)
    return [_Unpadded(one, pads, ends) for one in wanted]


class _Unpadded(LogitsProcessor):
    def __init__(self, inner: LogitsProcessor, pads: list[int], ends: list[int]) -> None:
        self.inner, self.pads, self.ends = inner, pads, ends

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        rows = [self.inner(input_ids[at : at + 1, pad:], scores[at : at + 1]) for at, pad in enumerate(self.pads)]
        made = torch.cat(rows)
        made[:, self.ends] = scores[:, self.ends]
        return made


class Draw(LogitsProcessor):
    """Picks a token of each row by its probability, with the row's own generator: all others become impossible."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        points = [torch.rand((1,), generator=one, dtype=torch.float64) for one in self.generators]
        summed = scores.double().softmax(-1).cumsum(-1)
        picked = torch.searchsorted(summed, torch.stack(points).to(scores.device) * summed[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, picked.clamp(max=scores.shape[1] - 1), 0.0)
