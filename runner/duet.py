"""Two personas who talk with each other: each hears the other as its user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.chat import Message
from runner.chatting import Pair
from runner.conversation import Said, gathered, settings
from runner.persona import Persona, Told
from runner.step import pick
from runner.voices import Pieces

HELLO = "Hello."


class Duet:
    """What the two have said. The first begins with the opener; then they take turns. What one drew on of late rests for
    both."""

    def __init__(
        self, pair: Pair, sides: tuple[Persona, Persona], seed: int = 0, people: list[int | None] | None = None
    ) -> None:
        self.pair, self.sides, self.seed = pair, sides, seed
        self.hows = [side.decoding for side in sides]
        self.people = people or [side.people.at_first(seed) if side.people else None for side in sides]
        self.turns: list[tuple[int, Said]] = []
        if people is None:
            self.reset()

    def reset(self) -> None:
        """Forget what was said, and find out who suits whom."""
        self.open_with(self.pair.opener or self.sides[0].opener or HELLO)

    def open_with(self, text: str) -> None:
        """Begin anew with these words of the first."""
        self.turns = [(0, Said("assistant", text))]
        for at in (0, 1):
            self._match(at)

    @property
    def at(self) -> int:
        """Whose turn it is, 0 or 1."""
        return 1 - self.turns[-1][0]

    def called(self, at: int) -> str:
        """A side's name: its entry, and its person where it has one."""
        side, person = self.sides[at], self.people[at]
        return f"{side.name} ({side.people.called(person)})" if side.people and person is not None else side.name

    def tell(self) -> Told:
        """What the side whose turn it is is told."""
        at = self.at
        used = [said.memory.aspect for _, said in self.turns if said.memory and said.memory.aspect]
        return self.sides[at].tell(self._heard(at), self.people[at], used, self.seed)

    def answer(self, told: Told) -> Pieces:
        """The pieces of what that side then says."""
        return self.sides[self.at].answer(told, self.hows[self.at], self.seed)

    def keep(self, told: Told, content: str, finish: str) -> None:
        """Take a turn into the talk."""
        at = self.at
        how = {"persona": self.called(at), **settings(self.hows[at]), "seed": self.seed}
        self.turns.append((at, Said("assistant", content, told.memory, told.passages, how, finish)))

    def next(self) -> Iterator[str]:
        """The next turn in pieces, kept as far as it came."""
        told = self.tell()
        return gathered(self.answer(told), lambda content, finish: self.keep(told, content, finish))

    def records(self) -> list[dict[str, Any]]:
        """The turns as rows of a transcript."""
        return [{**said.record(), "role": self.sides[at].name, "persona": self.called(at)} for at, said in self.turns]

    def _heard(self, at: int) -> list[Message]:
        """The talk as one side lives it. It begins with the other's words: what a side opened with is kept before them."""
        return [{"role": "assistant" if who == at else "user", "content": said.content} for who, said in self.turns]

    def _match(self, at: int) -> None:
        """A person that a scorer chooses: by what it learned of the other, or else by the other's first words."""
        people, other = self.sides[at].people, self.sides[1 - at].people
        if people is None or people.score is None:
            return
        statement, row = self.turns[0][1].content, self.people[1 - at]
        if other and row is not None and people.statement and people.statement.startswith(f"{other.name}."):
            statement = str(pick(other.rows[row], people.statement.removeprefix(f"{other.name}.")))
        self.people[at] = people.ranked(statement)[0][0]
