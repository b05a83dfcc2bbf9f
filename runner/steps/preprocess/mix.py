"""Rows of several steps mixed: each repeated, or drawn by its weight, and shuffled by a seed."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any

from runner.errors import DataError, StepError
from runner.step import Input, Out, Step, listed
from runner.steps.preprocess._shelf import Shelf

Part = str | None


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows in an order that the seed decides; the second copy of a row gets `~2` after its id, and so on.

    The rows go through a file, and memory holds some numbers a row. Raises StepError where repeat: or weights: do not
    fit from:, DataError where a step has no rows.
    """
    groups = _groups(step)
    tables = []
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with Shelf(out.folder) as shelf, out.rows(part) as rows:
            numbers = [_shelved(step, shelf, inputs, part) for _, inputs in groups]
            chosen = _chosen(step, groups, numbers, part)
            for number, copy in _shuffled(step, chosen):
                row = shelf[number]
                rows.write(row if copy == 1 or row.get("id") is None else {**row, "id": f"{row['id']}~{copy}"})
        lines = [[name, len(held), len(taken)] for (name, _), held, taken in zip(groups, numbers, chosen, strict=True)]
        title = f"Rows of {part}" if part else "Rows"
        tables.append({"title": title, "columns": ["from", "rows", "in the mix"], "rows": lines})
    return {"tables": tables}


def _groups(step: Step) -> list[tuple[str, list[Input]]]:
    """The inputs by the name in from: that they come from; a name stands for all siblings of a matrix."""
    names, inputs = listed(step.params["from"]), step.inputs["from"]
    meant = Counter(one.named for one in inputs)
    written, following = Counter(names), iter(inputs)
    return [(name, list(islice(following, meant[name] // written[name]))) for name in names]


def _shelved(step: Step, shelf: Shelf, inputs: list[Input], part: Part) -> array[int]:
    rows = replace(step, inputs={"from": tuple(inputs)}).rows(part)
    return array("Q", [shelf.add(row) for row in rows])


def _chosen(
    step: Step, groups: list[tuple[str, list[Input]]], numbers: list[array[int]], part: Part
) -> list[list[tuple[int, int]]]:
    """For each name of from: the rows to write, as (number, which copy of it)."""
    empty = [name for (name, _), held in zip(groups, numbers, strict=True) if not held]
    if empty:
        raise DataError(
            f"{step.name}{'.' + part if part else ''}: '{empty[0]}' has no rows. Leave it out of from:, or make it give some."
        )
    repeat, weights = step.params.get("repeat"), step.params.get("weights")
    for key, given in (("repeat", repeat), ("weights", weights)):
        if given is not None and len(given) != len(groups):
            raise StepError(
                f"{step.name}.{key}: {len(given)} numbers for {len(groups)} names in from:. Give one for each."
            )
    if weights is not None:
        if repeat is not None:
            raise StepError(f"{step.name}: repeat: and weights: both say how often rows come. Choose one.")
        return _weighted(step, numbers, [Fraction(str(weight)) for weight in weights])
    times = repeat or [1] * len(groups)
    return [
        [(number, copy) for copy in range(1, count + 1) for number in held]
        for held, count in zip(numbers, times, strict=True)
    ]


def _weighted(step: Step, numbers: list[array[int]], weights: list[Fraction]) -> list[list[tuple[int, int]]]:
    """Rows drawn so that each name has its share; left out rows:, as many as there are without a row twice."""
    shares = [weight / sum(weights) for weight in weights]
    most = min(len(held) / share for held, share in zip(numbers, shares, strict=True))
    total = step.params.get("rows") or int(most)
    exact = [total * share for share in shares]
    counts = [int(one) for one in exact]
    for place in sorted(range(len(exact)), key=lambda at: counts[at] - exact[at])[: total - sum(counts)]:
        counts[place] += 1
    if not all(counts):
        raise StepError(
            f"{step.name}.weights: {total} rows leave nothing of one of them. Raise rows:, or weigh less unevenly."
        )
    return [
        _drawn(step, list(held), count, place) for place, (held, count) in enumerate(zip(numbers, counts, strict=True))
    ]


def _drawn(step: Step, held: list[int], count: int, place: int) -> list[tuple[int, int]]:
    """So many rows by chance: every row before any comes again."""
    chance = random.Random(f"{step.params['seed']}:{place}")
    made: list[tuple[int, int]] = []
    copy = 1
    while len(made) < count:
        made += [(number, copy) for number in chance.sample(held, min(len(held), count - len(made)))]
        copy += 1
    return made


def _shuffled(step: Step, chosen: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    made = [one for held in chosen for one in held]
    if step.params["shuffle"]:
        random.Random(step.params["seed"]).shuffle(made)
    return made
