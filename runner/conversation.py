"""One conversation with a persona, in the terminal or on the page: what was said, by whom, with which memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runner import dials
from runner.chat import Message
from runner.memories import Choice
from runner.persona import Persona, Told
from runner.step import Decoding
from runner.voices import Pieces


@dataclass
class Said:
    """One turn. how: what was set for it; memory and passages: what it was made with."""

    role: str
    content: str
    memory: Choice | None = None
    passages: dict[str, str] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)
    finish: str = ""

    def record(self) -> dict[str, Any]:
        """The turn as a row of a transcript; what is empty is left out."""
        made: dict[str, Any] = {"role": self.role, "content": self.content, **self.how}
        if self.memory and self.memory.aspect:
            made |= {"aspect": self.memory.aspect, "memory": self.memory.text}
        return made | ({"passages": self.passages} if any(self.passages.values()) else {})

    @classmethod
    def read(cls, record: dict[str, Any]) -> Said:
        """A turn from a row of a transcript."""
        choice = Choice(record["aspect"], record["memory"], "chosen") if "aspect" in record else None
        own = ("role", "content", "aspect", "memory", "passages")
        how = {key: value for key, value in record.items() if key not in own}
        return cls(record["role"], record["content"], choice, record.get("passages", {}), how)


class Conversation:
    """What was said with a persona. `how` and `seed` may be changed between turns, the persona and its person too."""

    def __init__(self, persona: Persona, seed: int = 0) -> None:
        self.seed = seed
        self.turns: list[Said] = []
        self.become(persona)
        self.reset()

    def become(self, persona: Persona) -> None:
        """Somebody else answers from now on; what was said stays."""
        self.persona, self.how = persona, persona.decoding
        self.person = persona.people.at_first(self.seed) if persona.people else None
        self.waits = bool(persona.people and persona.people.score)  # the first words decide who answers

    def reset(self) -> None:
        """Forget what was said."""
        opener = self.persona.opener
        self.turns = [Said("assistant", opener)] if opener else []
        self.waits = bool(self.persona.people and self.persona.people.score)

    @property
    def messages(self) -> list[Message]:
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]

    @property
    def called(self) -> str:
        """The person who answers, '' where there is none to choose."""
        people = self.persona.people
        return people.called(self.person) if people and self.person is not None and not self.waits else ""

    def match(self, statement: str) -> list[tuple[str, float]]:
        """Let the scorer choose who answers; returns everybody with their score, the best first."""
        people = self.persona.people
        assert people is not None
        ranked = people.ranked(statement)
        self.person, self.waits = ranked[0][0], False
        return [(people.called(at), score) for at, score in ranked]

    def choose(self, which: str) -> str:
        """Say who answers: a number, an id or a name; returns what they are called."""
        people = self.persona.people
        assert people is not None
        self.person, self.waits = people.find(which), False
        return people.called(self.person)

    def tell(self, text: str) -> Told:
        """What the persona is told once the user has said this; the first words may decide who answers."""
        if self.waits:
            self.match(text)
        used = [turn.memory.aspect for turn in self.turns if turn.memory and turn.memory.aspect]
        return self.persona.tell([*self.messages, {"role": "user", "content": text}], self.person, used, self.seed)

    def answer(self, text: str, told: Told | None = None) -> Iterator[str]:
        """The answer in pieces. It is kept as far as it came, also where the reader stops; without one nothing is."""
        made = told or self.tell(text)

        return gathered(
            self.persona.answer(made, self.how, self.seed),
            lambda content, finish: self.keep(text, made, content, finish),
        )

    def keep(self, text: str, told: Told, content: str, finish: str) -> None:
        """Take an exchange into the conversation."""
        how = {"persona": self.persona.name, "person": self.called, **settings(self.how), "seed": self.seed}
        kept = {key: value for key, value in how.items() if value != ""}
        self.turns += [Said("user", text), Said("assistant", content, told.memory, told.passages, kept, finish)]

    def take_back(self) -> str:
        """Forget the last exchange; returns what the user had said, '' where nothing was."""
        if len(self.turns) < 2 or self.turns[-2].role != "user":
            return ""
        asked = self.turns[-2].content
        self.turns = self.turns[:-2]
        return asked

    def records(self) -> list[dict[str, Any]]:
        """The turns as rows of a transcript."""
        return [turn.record() for turn in self.turns]


def settings(how: Decoding) -> dict[str, Any]:
    """The decoding of a turn, for a transcript."""
    alphas = dials.alphas(how)
    held: dict[str, Any] = {"decoding": how.name}
    heat = dials.temperature(how)
    if heat is not None:
        held["temperature"] = heat
    return held | ({"alpha": alphas.get("", alphas)} if alphas else {})


def gathered(pieces: Pieces, keep: Callable[[str, str], None]) -> Iterator[str]:
    """Pieces as they come; at the end, or where the reader stops, `keep` gets what they make and how they ended."""
    said: list[str] = []
    finish = "stopped"
    try:
        while True:
            piece = next(pieces)
            said.append(piece)
            yield piece
    except StopIteration as stopped:
        finish = stopped.value.finish
    finally:
        pieces.close()
        content = "".join(said).strip()
        if content:
            keep(content, finish)
