"""What modes are made of: one call of transformers' `generate` a batch, and what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from runner import chat
from runner.chat import Message
from runner.decoding._adapters import acting
from runner.decoding._processors import Draw, penalties
from runner.decoding._steer import Steer, padded
from runner.errors import StepError
from runner.models import Loaded


@dataclass(frozen=True)
class Batch:
    """Conversations that are answered together: their prompts as token ids, a seed each, and variables for the prompts
    that a mode's other models are given; the JSON Schema of each answer, () where all are free."""

    conversations: Sequence[Sequence[Message]]
    prompts: Sequence[list[int]]
    seeds: Sequence[int]
    variables: Sequence[dict[str, Any]]
    schemas: Sequence[dict[str, Any] | None] = ()

    def rows(self, which: Sequence[int]) -> Batch:
        return Batch(
            [self.conversations[at] for at in which],
            [self.prompts[at] for at in which],
            [self.seeds[at] for at in which],
            [self.variables[at] for at in which],
            [self.schemas[at] for at in which] if self.schemas else (),
        )


def run(
    loaded: Loaded,
    batch: Batch,
    params: dict[str, Any],
    choose: Sequence[LogitsProcessor] = (),
    streamer: Any = None,
    cancelled: Event | None = None,
    steer: Steer | None = None,
    **search: Any,
) -> list[list[int]]:
    """The new token ids of each row, up to what ends its answer, by transformers' `generate`, padded on the left.

    A token goes through: steering, the rows' schemas, penalties, what `choose` says, and the likeliest is taken.
    choose: the mode's own processors; steer: what other models add; search: how several ways are followed (num_beams…).
    """
    tokenizer, ends = loaded.tokenizer, chat.end_ids(loaded.tokenizer)
    steer = steer or Steer(loaded, batch.prompts)
    ids, mask = padded(steer.prompts, tokenizer.pad_token_id, loaded.weights.device)
    width = ids.shape[1]
    room = min(loaded.context - width, steer.room)
    if room < 1:
        raise StepError(f"{loaded.name}: a prompt of {width} tokens leaves no room in its context of {loaded.context}.")
    config = GenerationConfig(
        do_sample=False,
        **{"num_beams": 1, **search},
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=min(params["max_new_tokens"], room),
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    held = _held(loaded, batch, params, width, config, ends)
    processors = [*_watching(choose), *held, *choose]
    stop = _Stop(tokenizer, width, params.get("stop") or [], cancelled, steer.copies)
    with torch.inference_mode(), ExitStack() as open_:
        network = open_.enter_context(acting(loaded.weights, steer.adapters, len(batch.prompts)))
        steer.open(open_, width)
        made = network.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([steer.around(LogitsProcessorList(processors))]),
            stopping_criteria=StoppingCriteriaList([stop]),
            streamer=streamer,
        )
    return [_until(row, ends) for row in made[: len(batch.prompts), width:].tolist()]


def _held(
    loaded: Loaded, batch: Batch, params: dict[str, Any], width: int, config: GenerationConfig, ends: list[int]
) -> list[LogitsProcessor]:
    """Processors for the rows' schemas and for penalties."""
    pads = [width - len(ids) for ids in batch.prompts for _ in range(config.num_beams)]
    made = penalties(params, pads, ends)
    if any(batch.schemas):
        from runner.decoding._constrained import Constrained  # only here, so that nothing else needs its library

        made = [Constrained(loaded.tokenizer, batch.schemas, width, config.max_new_tokens, ends), *made]
    return made


def _watching(choose: Sequence[LogitsProcessor]) -> list[LogitsProcessor]:
    return [one.watch for one in choose if isinstance(one, Draw) and one.watch]


def _until(ids: list[int], ends: list[int]) -> list[int]:
    return ids[: next((at for at, one in enumerate(ids) if one in ends), len(ids))]


class _Stop(StoppingCriteria):
    """Ends a row, with all its copies, where its text holds a stop string, and all rows when the reader has gone."""

    def __init__(
        self, tokenizer: Any, width: int, stops: Sequence[str], cancelled: Event | None, copies: int = 1
    ) -> None:
        self.tokenizer, self.width, self.stops, self.cancelled = tokenizer, width, stops, cancelled
        self.copies = copies
        self.back = max((len(stop.encode()) for stop in stops), default=0) + 1

    def __call__(self, input_ids: Any, scores: Any, **held: Any) -> Any:
        rows = len(input_ids) // self.copies
        found = [bool(self.cancelled and self.cancelled.is_set())] * rows
        if self.stops:
            new = input_ids[:rows, max(self.width, input_ids.shape[1] - self.back) :].tolist()
            found = [gone or self._stopped(row) for gone, row in zip(found, new, strict=True)]
        return torch.tensor(found * self.copies, dtype=torch.bool, device=input_ids.device)

    def _stopped(self, new: list[int]) -> bool:
        tail = self.tokenizer.decode(new, skip_special_tokens=True)
        return any(stop in tail for stop in self.stops)
