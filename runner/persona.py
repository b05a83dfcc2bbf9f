"""An entry of `chat:`, opened: what it is told for the next answer, and what it then says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from runner import dials, prompts
from runner.chat import Message
from runner.memories import Choice
from runner.people import Memory, People
from runner.step import Decoding, Prompt
from runner.voices import Pieces, Voice

Finder = Callable[[str], dict[str, str]]  # from what is said to the passages for it, by variable


@dataclass(frozen=True)
class Told:
    """What the next answer is made from. `begun`: what it begins with, where that is part of what is said."""

    messages: list[Message]
    variables: dict[str, Any]
    memory: Choice | None = None
    passages: dict[str, str] = field(default_factory=dict)
    begun: str = ""


@dataclass(frozen=True)
class Persona:
    """Somebody to talk to. given: values for the prompt; typed: its variable that the user's words fill in."""

    name: str
    voice: Voice
    decoding: Decoding
    prompt: Prompt | None = None
    given: dict[str, Any] = field(default_factory=dict)
    typed: str | None = None
    texts: dict[str, Any] = field(default_factory=dict)
    opener: str | None = None
    people: People | None = None
    memory: Memory | None = None
    finder: Finder | None = None
    passages: tuple[str, ...] = ()
    model: str = ""
    plain: Voice | None = None  # the model under the training, where there was any

    def tell(self, talk: Sequence[Message], person: int | None, used: Sequence[str] = (), seed: int = 0) -> Told:
        """What the model is told for its next answer.

        talk: what was said so far as the two said it, the user's words last; a system message at its head is put after
        the persona's own. person: the row in its people; used: the aspects of the memories before.
        """
        head = [one["content"] for one in talk if one["role"] == "system"]
        said = [one for one in talk if one["role"] != "system"]
        row = self.people.rows[person or 0] if self.people else None
        values = dict(self.given)
        if self.people and row is not None:
            values[self.people.name] = row
        choice = None
        if self.memory and row is not None:
            chance = Random(f"{seed} {len(said)}")
            choice = self.memory.choose(row, said, used, chance, values, lambda asked: self._ask(asked, seed, values))
        last = said[-1]["content"] if said else ""
        passages = self.finder(last) if self.finder else {}
        now = {**values, **({"memory": choice.text} if choice else {}), **passages}
        system = "\n\n".join(filter(None, [self._system(now, last), *head]))
        messages = [{"role": "system", "content": system}] if system else []
        for at, one in enumerate(said):
            # As in dialogues and in what is learned from them: the prompt's user text stands for what was last heard
            heard = one["role"] == "user" and at == len(said) - 1
            messages.append({"role": one["role"], "content": self._heard(last, now) if heard else one["content"]})
        prefill = self._prefill(now, last)
        if prefill:
            messages.append({"role": "assistant", "content": prefill})
        return Told(messages, {**values, "texts": self.texts}, choice, passages, prefill if self._is_said() else "")

    def answer(self, told: Told, how: Decoding | None = None, seed: int = 0) -> Pieces:
        """The pieces of the answer to that; what it is made to begin with comes first, where that is part of it."""
        if told.begun:
            yield told.begun
        return (
            yield from self.voice.answer(
                told.messages, how or self.decoding, seed, {**told.variables, "texts": self.texts}
            )
        )

    def base(self) -> Persona:
        """The same without what makes the persona: no training and no steering, or where there is neither, no prompt."""
        if self.plain is not None or dials.alphas(self.decoding):
            how = dials.unsteered(self.decoding)
            return replace(self, voice=self.plain or self.voice, plain=None, decoding=how)
        kept = {"prompt": None, "typed": None, "people": None, "memory": None, "finder": None, "passages": ()}
        return replace(self, **kept)  # type: ignore[arg-type]

    def _ask(self, messages: list[Message], seed: int, values: dict[str, Any]) -> str:
        return "".join(self.voice.answer(messages, self.decoding, seed, values))

    def _system(self, values: dict[str, Any], typed: str) -> str | None:
        return prompts.system(self.prompt, self._with_typed(values, typed), self.texts)

    def _with_typed(self, values: dict[str, Any], typed: str) -> dict[str, Any]:
        return {**values, self.typed: typed} if self.typed else values

    def _heard(self, text: str, values: dict[str, Any]) -> str:
        """What the user's words become: the value of the prompt's open variable, or the turn as it is."""
        turn = self.prompt.turns[0].get("user") if self.prompt and self.typed else None
        if not turn or self.prompt is None:
            return text
        held = {**self._with_typed(values, text), "texts": self.texts}
        return prompts.render(turn, held, self.prompt.includes).strip()

    def _prefill(self, values: dict[str, Any], typed: str) -> str:
        turn = self.prompt.turns[0].get("prefill") if self.prompt else None
        if not turn or self.prompt is None:
            return ""
        held = {**self._with_typed(values, typed), "texts": self.texts}
        return prompts.render(turn, held, self.prompt.includes)

    def _is_said(self) -> bool:
        """Whether what an answer begins with is part of what is said: not where it tells a memory or passages."""
        turn = self.prompt.turns[0].get("prefill", "") if self.prompt else ""
        return not {path[0] for path in prompts.uses(turn)[0]} & {"memory", *self.passages}
