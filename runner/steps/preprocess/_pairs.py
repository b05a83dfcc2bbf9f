"""Which rows are rejected for which: of the same scenario at another level, or the nearest of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BLOCK = 512


@dataclass
class Answers:
    """What pairs are made by, a value a row: its scenario, its level, the level as people read it, what is asked."""

    groups: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    def add(self, group: str, level: str, shown: str, query: str | None) -> None:
        self.groups.append(group)
        self.levels.append(level)
        self.names.append(shown)
        if query is not None:
            self.queries.append(query)

    def members(self) -> dict[str, list[int]]:
        """The numbers of the rows of each scenario, in order."""
        found: dict[str, list[int]] = {}
        for number, group in enumerate(self.groups):
            found.setdefault(group, []).append(number)
        return found


def alike_scenario(answers: Answers) -> Iterator[tuple[int, list[int]]]:
    """Each row with one row of every other level in its scenario: the one at the same place among those of its level."""
    members = answers.members()
    levels: dict[str, dict[str, list[int]]] = {}
    places: dict[int, int] = {}
    for group, numbers in members.items():
        held = levels.setdefault(group, {})
        for number in numbers:
            rows = held.setdefault(answers.levels[number], [])
            places[number] = len(rows)
            rows.append(number)
    for number, group in enumerate(answers.groups):
        others = [rows for level, rows in levels[group].items() if level != answers.levels[number]]
        yield number, [rows[places[number] % len(rows)] for rows in others]


def nearest_other(
    answers: Answers, texts: Sequence[str], asked: Vectors, said: Vectors, skip: int, below: float | None
) -> Iterator[tuple[int, list[int]]]:
    """Each row with the answer of another level that is nearest to what the row asks, after `skip` nearer ones.

    Passed over are answers with the row's own words, and those whose cosine with its own answer is not below `below`.
    """
    levels = np.unique(answers.levels, return_inverse=True)[1]
    found: dict[int, list[int]] = {}
    for members in map(np.array, answers.members().values()):
        for start in range(0, len(members), BLOCK):
            block = members[start : start + BLOCK]
            near, alike = asked[block] @ said[members].T, said[block] @ said[members].T
            near[levels[block][:, None] == levels[members]] = -np.inf
            for place, number in enumerate(block.tolist()):
                order = np.argsort(-near[place], kind="stable")[: np.isfinite(near[place]).sum()][skip:]
                fits = order if below is None else order[alike[place, order] < below]
                differ = (other for other in members[fits].tolist() if texts[other] != texts[number])
                found[number] = list(islice(differ, 1))
    return iter(sorted(found.items()))
