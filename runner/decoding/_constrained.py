"""Answers held to a JSON Schema while they are made, by llguidance: a token that would break it cannot be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import llguidance.hf
import llguidance.numpy
import numpy
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import LogitsProcessor

from runner.answer_bounds import grammar
from runner.errors import StepError


@lru_cache(maxsize=4)
def _tokens(tokenizer: Any, size: int, end: int) -> LLTokenizer:
    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=end)


class Constrained(LogitsProcessor):
    """Forbids, row by row, what would break the row's schema. First of all processors: what is forbidden stays so.

    schemas: one a row of the batch, None for a free answer; width: the tokens of the prompts, `tokens` those of an answer.
    A mode that follows several ways at once gives each of them a row of its own, those of one prompt side by side.
    """

    def __init__(
        self, tokenizer: Any, schemas: Sequence[dict[str, Any] | None], width: int, tokens: int, ends: list[int]
    ) -> None:
        self.tokenizer, self.schemas, self.width, self.tokens, self.ends = tokenizer, schemas, width, tokens, ends
        self._rows: list[tuple[LLMatcher, list[int]] | None] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if not self._rows:
            self._rows = self._begun(len(input_ids), scores.shape[1])
        answers = input_ids[:, self.width :].tolist()
        made = scores.clone()
        for at, held in enumerate(self._rows):
            if held is not None:
                allowed = self._allowed(*held, answers[at], scores.shape[1])
                made[at, ~torch.from_numpy(allowed).to(scores.device)] = -torch.inf
        return made

    def _begun(self, rows: int, size: int) -> list[tuple[LLMatcher, list[int]] | None]:
        each = rows // len(self.schemas)
        spread = (schema for schema in self.schemas for _ in range(each))
        return [None if schema is None else (self._matcher(schema, size), []) for schema in spread]

    def _matcher(self, schema: dict[str, Any], size: int) -> LLMatcher:
        wanted = grammar(schema, self.tokens, self._size)
        made = LLMatcher(_tokens(self.tokenizer, size, self.ends[0]), LLMatcher.grammar_from_lark(wanted))
        if made.is_error():
            raise StepError(f"output: this schema cannot be held to: {made.get_error().splitlines()[0]}.")
        return made

    def _size(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _allowed(self, matcher: LLMatcher, read: list[int], answer: list[int], size: int) -> Any:
        """Which tokens may follow, as booleans."""
        if answer[: len(read)] != read:  # the row goes on from another one
            matcher.reset()
            read.clear()
        for token in answer[len(read) :]:
            read.append(token)
            if token not in self.ends:
                matcher.consume_token(token)
        mask = llguidance.numpy.allocate_token_bitmask(1, size)
        llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
        allowed = numpy.unpackbits(mask.view(numpy.uint8)[0], bitorder="little")[:size].astype(bool)
        if matcher.is_accepting() or matcher.is_stopped() or not allowed.any():
            allowed[self.ends] = True
        return allowed
