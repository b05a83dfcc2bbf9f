"""What `generate: rows` asks about: the rows in order, each with its samples and its exchanged columns, round after round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

from runner import making
from runner.errors import StepError
from runner.files import Row
from runner.step import Step

IDLE = 3  # rounds without a row that passes, after which it makes no sense to go on


class Asked(NamedTuple):
    """One row to ask about: its place among all, the part of a split that it belongs to, and which sample it is."""

    number: int
    part: str | None
    row: Row
    sample: int


@dataclass
class Rounds:
    """The rows of a step to ask about, once, or with `accept:` round after round. Whoever asks `tell`s what passed."""

    step: Step
    passed: int = 0
    rounds: int = 0
    _idle: int = 0  # answers since the last one that passed
    _size: int = 0  # of a round

    def tell(self, passed: int) -> None:
        """A row was answered, and this many rows came of it that are not rejected."""
        self.passed += passed
        self._idle = 0 if passed else self._idle + 1

    def __post_init__(self) -> None:
        if self.step.params.get("accept") and self.step.parts():
            advice = "Name one part, or leave accept: out."
            raise StepError(f"{self.step.name}.accept: rows of a whole split are not gone round. {advice}")

    def __iter__(self) -> Iterator[Asked]:
        number = 0
        for place in count() if self.step.params.get("accept") else (0,):
            self.rounds = place + 1
            for part, row, sample in self._round(place):
                if self._size and self._idle >= IDLE * self._size:
                    return
                yield Asked(number, part, row, sample)
                number += 1
            self._size = self._size or number
            if not number:
                return

    def _round(self, place: int) -> Iterator[tuple[str | None, Row, int]]:
        samples = self.step.params.get("samples", 1)
        numbered = "samples" in self.step.params or "accept" in self.step.params
        for part, row in self._rows():
            for sample in range(place * samples, (place + 1) * samples):
                own = {**row, "id": f"{row['id']}#{sample + 1}", "sample": sample + 1} if numbered else row
                yield part, own, sample

    def _rows(self) -> Iterator[tuple[str | None, Row]]:
        """Every row with an id, and where two columns are to be exchanged, a second time with these exchanged."""
        swap = self.step.params.get("swap")
        for part, at, row in self._given():
            held = {**row, "id": str(row["id"]) if row.get("id") is not None else str(at)}
            if not swap:
                yield part, held
                continue
            first, second = swap
            yield part, {**held, "swapped": False}
            exchanged = {first: held[second], second: held[first], "id": f"{held['id']}#swapped", "swapped": True}
            yield part, {**held, **exchanged}

    def _given(self) -> Iterator[tuple[str | None, int, Row]]:
        numbers, limit = count(1), self.step.params.get("limit")
        if "from" not in self.step.inputs:
            yield None, next(numbers), {}
            return
        for part in self.step.parts() or (None,):
            for row in islice(self.step.rows(part), limit):
                yield part, next(numbers), row


def total(step: Step) -> int:
    """How many rows a round asks about, in this process's share of them."""
    rows = Rounds(step)
    return sum(1 for _ in making.share(((at, None) for at, _ in enumerate(rows._round(0))), step.shard))  # noqa: SLF001
