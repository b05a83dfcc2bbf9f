"""Labels from values: letters of a type, a map, thresholds, thirds that are learned from train, or shares of a normal curve."""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import PARTS, Out, Step, pick

WAYS = ("letter", "letters", "map", "threshold", "tertiles", "normal")
DROP = "drop"
Part = str | None
Label = Callable[[Any, int], Any]  # the label of a value of column number n; raises ValueError with the reason for none


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows with their labels; those that have none are dropped, counted by reason.

    Raises StepError where not one way is chosen, DataError where a part has no row left.
    """
    way = _way(step)
    facts: dict[str, Any] = {"tables": []}
    label = _learned(step, way, facts)
    counts: dict[str, Counter[Any]] = {}
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        dropped: Counter[str] = Counter()
        with out.rows(part) as rows:
            for row in step.rows(part):
                try:
                    found = _labelled(step, way, _value(step, row), label)
                except ValueError as reason:
                    dropped[str(reason)] += 1
                    out.reject(row, str(reason))
                    continue
                counts.setdefault(part or step.name, Counter()).update(_discrete(found))
                rows.write({**row, **found})
        if not rows.count:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "no rows came in"
            raise DataError(
                f"{step.name}{'.' + part if part else ''}: no row has a label ({why}). Check column: and {way}:."
            )
    facts["tables"] += _table(counts)
    return facts


def _way(step: Step) -> str:
    ways = [way for way in WAYS if step.params.get(way) is not None and step.params[way] is not False]
    if len(ways) != 1:
        said = " and ".join(f"{way}:" for way in ways) or "none"
        raise StepError(f"{step.name}: one way to label is needed, {said} given. Choose one of: {', '.join(WAYS)}.")
    return ways[0]


def _value(step: Step, row: Row) -> Any:
    """The value to label, or a list of values."""
    column = step.params.get("column", "value")
    try:
        return [pick(row, name) for name in column] if isinstance(column, list) else pick(row, column)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where(row)}: no column {column!r}, which label needs. Name the one that is there: column: …."
        ) from error


def _labelled(step: Step, way: str, held: Any, label: Label) -> Row:
    """The columns of the labels. Raises ValueError with the reason where a value has none."""
    into = step.params["letters"] if way == "letters" else step.params["into"]
    made = [label(one, number) for number, one in enumerate(held)] if isinstance(held, list) else label(held, 0)
    if isinstance(into, str):
        return {into: made}
    if not isinstance(made, list) or len(made) != len(into) or isinstance(made[0], list):
        raise StepError(
            f"{step.name}: {len(into)} columns to write ({', '.join(into)}), which does not fit the values read."
        )
    return dict(zip(into, made, strict=True))


# The ways


def _learned(step: Step, way: str, facts: dict[str, Any]) -> Label:
    """How a value becomes a label; what has to be learned of the values is learned from train."""
    if way == "tertiles":
        return _thirds(step, facts)
    given = step.params[way]
    ways: dict[str, Label] = {
        "letter": lambda held, number: _letter(held, given),
        "letters": lambda held, number: [_either(held, pair) for pair in given],
        "map": lambda held, number: _mapped(held, given),
        "threshold": lambda held, number: _cut(_number(held), given, step),
        "normal": lambda held, number: statistics.NormalDist().cdf(_number(held)),
    }
    return ways[way]


def _letter(held: Any, place: int) -> str:
    if not isinstance(held, str) or len(held.strip()) < place:
        raise ValueError(f"no letter number {place}")
    return held.strip()[place - 1]


def _either(held: Any, pair: str) -> str:
    """The one letter of a pair that a type holds, as the pair writes it."""
    found = {letter.lower() for letter in str(held)} & {letter.lower() for letter in pair}
    if not isinstance(held, str) or len(found) != 1:
        raise ValueError(f"not one letter of {pair}")
    return next(letter for letter in pair if letter.lower() in found)


def _mapped(held: Any, given: dict[str, Any]) -> Any:
    written = str(held).lower() if isinstance(held, bool) else str(held)
    if held is None or written not in given:
        raise ValueError("value not in map")
    return _kept(given[written], "map")


def _kept(label: Any, way: str) -> Any:
    if label == DROP:
        raise ValueError(f"dropped by {way}")
    return label


def _number(held: Any) -> float:
    """A finite number, also one written as text."""
    try:
        found = math.nan if isinstance(held, bool) or not isinstance(held, str | int | float) else float(held)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("value is not a number")
    return found


def _cut(held: float, given: Any, step: Step) -> str:
    """One threshold: below it, or from it on. Two: up to the lower one, between, from the upper one on."""
    cuts = given if isinstance(given, list) else [given]
    names = step.params.get("names") or (["low", "high"] if len(cuts) == 1 else ["low", DROP, "high"])
    if len(names) != len(cuts) + 1 or list(cuts) != sorted(set(cuts)):
        raise StepError(
            f"{step.name}.threshold: {len(cuts)} rising thresholds need {len(cuts) + 1} names, from low to high."
        )
    if len(cuts) == 1:
        return str(_kept(names[held >= cuts[0]], "threshold"))
    return str(_kept(names[0] if held <= cuts[0] else names[-1] if held >= cuts[-1] else names[1], "threshold"))


def _thirds(step: Step, facts: dict[str, Any]) -> Label:
    """Up to the first third, up to the second, above; the cuts are learned from train, or from plain rows."""
    names = step.params["tertiles"]
    if len(names) != 3:
        raise StepError(f"{step.name}.tertiles: {len(names)} labels for three thirds. Give three, from low to high.")
    learned: dict[int, array[float]] = {}
    for row in step.rows(PARTS[0] if step.parts() else None):
        held = _value(step, row)
        for number, one in enumerate(held if isinstance(held, list) else [held]):
            numbers = learned.setdefault(number, array("d"))
            with suppress(ValueError):
                numbers.append(_number(one))
    cuts = {number: _two_cuts(step, numbers) for number, numbers in learned.items()}
    rows = [[number + 1, low, high] for number, (low, high) in cuts.items()]
    facts["tables"].append(
        {"title": "Thirds, learned from train", "columns": ["value", "low up to", "high above"], "rows": rows}
    )

    def label(found: Any, number: int) -> str:
        value, (low, high) = _number(found), cuts[number]
        return str(_kept(names[0] if value <= low else names[2] if value > high else names[1], "tertiles"))

    return label


def _two_cuts(step: Step, numbers: array[float]) -> tuple[float, float]:
    if len(numbers) < 3:
        raise DataError(f"{step.name}.tertiles: {len(numbers)} numbers to learn from; three at least are needed.")
    ordered = sorted(numbers)
    low, high = _third(ordered, 1), _third(ordered, 2)
    if low == high or not any(number > high for number in numbers):
        raise DataError(
            f"{step.name}.tertiles: the thirds are cut at {low} and {high}, so one is empty. Use threshold:."
        )
    return low, high


def _third(ordered: list[float], number: int) -> float:
    """Where the first or second third ends: between two values, in a straight line."""
    place, rest = divmod(number * (len(ordered) - 1), 3)
    return ordered[place] + (ordered[place + 1] - ordered[place]) * rest / 3 if rest else ordered[place]


# Facts


def _discrete(found: Row) -> list[tuple[str, str]]:
    return [(column, held) for column, held in found.items() if isinstance(held, str)]


def _table(counts: dict[str, Counter[Any]]) -> list[dict[str, Any]]:
    """The labels by part, in the order of their names."""
    labels = sorted({found for counter in counts.values() for found in counter})
    if not labels or len(labels) > 60:
        return []
    rows = [[column, label, *(counter[column, label] for counter in counts.values())] for column, label in labels]
    return [{"title": "Labels", "columns": ["column", "label", *counts], "rows": rows}]
