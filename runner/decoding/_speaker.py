"""Loaded weights as a speaker (runner/asking.py): questions wait, and are answered in batches of about one length."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from importlib import import_module

import torch

from runner import chat, decoding, models, questions
from runner.asking import Answer, Ask, Refused, Speakers
from runner.decoding import together
from runner.decoding._generate import Batch
from runner.models import Loaded
from runner.service import answer_of
from runner.step import Decoding, Model, Step

AT_ONCE = 256


@dataclass
class _Waiting:
    """A question, the tokens of its prompt once they are known, and all who wait for its answer."""

    ask: Ask
    futures: list[Future[Answer]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


class Local:
    """Weights of one model with one decoding. They are loaded when the first question comes that has no answer yet."""

    at_once = AT_ONCE

    def __init__(self, model: Model, how: Decoding, step: Step, say: Callable[[str], None], speakers: Speakers) -> None:
        self.model, self.how, self.say = model, how, say
        self.seed, self.artifacts, self.texts = step.params.get("seed", 0), step.artifacts, step.texts
        self.replies, self.spending = speakers.replies, speakers.spending
        self._loaded: Loaded | None = None
        self._waiting: dict[str, _Waiting] = {}
        self._most, self._shortened = AT_ONCE, 0

    def submit(self, ask: Ask) -> Future[Answer]:
        future: Future[Answer] = Future()
        if self.how.prompts:
            ask = replace(ask, variables={**ask.variables, "texts": self.texts})
        key = questions.local_key(self.model, self.how, ask, self.seed)
        reply = self.replies.get(key)
        if reply is not None:
            self.spending.cached += 1
            future.set_result(answer_of(reply))
        else:
            self._waiting.setdefault(key, _Waiting(ask)).futures.append(future)
        return future

    def flush(self) -> None:
        """Answer one batch: the question that has waited longest, and those whose prompts are nearest to its in length."""
        if not self._waiting:
            return
        loaded = self._ready()
        for key, one in list(self._waiting.items()):
            if not one.ids and not self._fits(loaded, one):
                del self._waiting[key]
        if self._waiting:
            length = len(next(iter(self._waiting.values())).ids)
            nearest = sorted(self._waiting, key=lambda key: abs(len(self._waiting[key].ids) - length))
            most = min(length + self.how.params["max_new_tokens"], loaded.context)
            self._answer(loaded, nearest[: min(self._size, together(loaded, self.how, most))])

    def close(self, patience: float) -> None:
        """Nothing is on its way here."""
        if self._shortened:
            self.say(f"{self.model.name}: {self._shortened} conversations were too long and lost their oldest turns")
            self._shortened = 0

    def _ready(self) -> Loaded:
        if self._loaded is None:
            models.prepare(self.seed)
            self._loaded = models.load([self.model], self.artifacts, self.say, self.how.models)[0]
            self._size = AT_ONCE
        return self._loaded

    def _fits(self, loaded: Loaded, one: _Waiting) -> bool:
        """Cut a prompt into tokens, without its oldest turns where it is too long; False where it is too long even so."""
        room = loaded.context - self.how.params["max_new_tokens"]
        asked = list(one.ask.messages)
        begun = [asked.pop()] if asked[-1]["role"] == "assistant" else []
        fitted = chat.fit(loaded.tokenizer, asked, room)
        self._shortened += len(fitted) < len(asked)
        one.ids = chat.prompt_ids(loaded.tokenizer, [*fitted, *begun])
        if len(one.ids) <= max(room, loaded.context // 2):
            return True
        error = Refused(f"a prompt of {len(one.ids)} tokens is too long for a context of {loaded.context}")
        for future in one.futures:
            future.set_exception(error)
        return False

    def _answer(self, loaded: Loaded, keys: list[str]) -> None:
        rows = [self._waiting[key] for key in keys]
        asks = [one.ask for one in rows]
        batch = Batch(
            [ask.messages for ask in asks],
            [one.ids for one in rows],
            [questions.seed_of(self.seed, ask) for ask in asks],
            [ask.variables for ask in asks],
            [ask.schema for ask in asks],
        )
        try:
            made = import_module(f"runner.decoding.{self.how.mode}").generate(loaded, batch, self.how)
        except torch.OutOfMemoryError:
            if len(keys) == 1:
                raise
            torch.cuda.empty_cache()
            self._most = (len(keys) + 1) // 2
            self.say(f"{self.model.name}: out of memory with {len(keys)} answers at a time; going on with {self._most}")
            return
        most = min(self.how.params["max_new_tokens"], loaded.context - max(len(one.ids) for one in rows))
        for key, ids in zip(keys, made, strict=True):
            self._give(loaded, key, ids, most)

    def _give(self, loaded: Loaded, key: str, ids: list[int], most: int) -> None:
        """Keep an answer and hand it on."""
        one, stops = self._waiting.pop(key), self.how.params.get("stop") or []
        whole = decoding.text_of(loaded, ids, None)
        cut = len(ids) >= most and not any(stop in whole for stop in stops)
        text, finish = decoding.text_of(loaded, ids, stops), "length" if cut else "stop"
        reply = {"text": text, "finish": finish, "input": len(one.ids), "output": len(ids), "request": None}
        self.replies.put(key, f"weights {self.model.name}", reply)
        self.spending.add(len(one.ids), len(ids))
        first, *others = one.futures
        first.set_result(Answer(text, finish, len(one.ids), len(ids)))
        for future in others:
            future.set_result(answer_of(reply))
