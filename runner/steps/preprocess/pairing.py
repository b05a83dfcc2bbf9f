"""Characters paired with others: so many each by chance, never with themselves, or as a given list says."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import DataError, StepError
from runner.files import loads, where
from runner.step import Out, Step
from runner.steps.preprocess._expressions import need
from runner.steps.preprocess._shelf import Shelf

Part = str | None
Pair = tuple[int, int]


def run(step: Step, out: Out) -> dict[str, Any]:
    """A row for each pair: id, and the two characters' whole rows in the columns that `as:` names.

    Raises StepError where `as:` does not name two columns, DataError where there are too few characters or the list
    names one who is not among them.
    """
    names = step.params["as"]
    if len(names) != 2 or names[0] == names[1] or "id" in names:
        raise StepError(f"{step.name}.as: {', '.join(names)} must be two different columns, none of them id.")
    tables = []
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with Shelf(out.folder) as shelf, out.rows(part) as rows:
            numbers = _characters(step, shelf, part)
            pairs = list(_listed(step, out, numbers) if "list" in step.params else _drawn(step, len(shelf), part))
            for first, second in pairs:
                one, other = shelf[first], shelf[second]
                ids = [str(need(character, step.params["by"], "by")) for character in (one, other)]
                rows.write({"id": "+".join(ids), names[0]: one, names[1]: other})
        if not rows.count:
            raise DataError(f"{step.name}{'.' + part if part else ''}: no pair is left. Check list: and by:.")
        tables.append(_table(names, part, pairs))
    return {"tables": tables}


def _characters(step: Step, shelf: Shelf, part: Part) -> dict[str, int]:
    """Every character's number by the value of by:, in order."""
    numbers: dict[str, int] = {}
    for row in step.rows(part):
        name = str(need(row, step.params["by"], "by"))
        if name in numbers:
            raise DataError(
                f"{where(row)}: a second character with {step.params['by']} {name!r}. Name another column: by: …."
            )
        numbers[name] = shelf.add(row)
    return numbers


def _drawn(step: Step, count: int, part: Part) -> Iterator[Pair]:
    each = step.params["each"]
    if each > count - 1:
        raise DataError(
            f"{step.name}{'.' + part if part else ''}: {count} characters cannot have {each} others each. Lower each:."
        )
    chance = random.Random(step.params["seed"])
    for first in range(count):
        for place in chance.sample(range(count - 1), each):
            yield first, place + (place >= first)


def _listed(step: Step, out: Out, numbers: dict[str, int]) -> Iterator[Pair]:
    """The pairs of a file, in its order: {first: [second, …]} or [[first, second], …]."""
    path = _file(step)
    for first, second in _pairs(path):
        missing = [name for name in (first, second) if name not in numbers]
        if missing and step.params["missing"] == "fail":
            raise DataError(
                f"{path.name}: names {missing[0]!r}, which is not among the {len(numbers)} rows by {step.params['by']}. "
                "Check by:, or set missing: drop."
            )
        if missing:
            out.reject({"pair": [first, second], "source": path.name}, "a character is missing")
        elif first == second:
            raise DataError(f"{path.name}: pairs {first!r} with itself. Remove that pair.")
        else:
            yield numbers[first], numbers[second]


def _file(step: Step) -> Path:
    if step.folder is None:
        raise StepError(f"{step.name}.list: say in which dataset folder the file is: folder: ….")
    path = step.folder / step.params["list"]
    if path not in step.files:
        known = ", ".join(str(found.relative_to(step.folder)) for found in step.files) or "nothing"
        raise DataError(f"{path}: no such file. The folder holds: {known}.")
    return path


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        held = loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}). Write {{first: [second, …]}} or [[first, second], …].") from error
    pairs = [[first, second] for first, others in held.items() for second in others] if isinstance(held, dict) else held
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError(f"{path}: no list of pairs. Write {{first: [second, …]}} or [[first, second], …].")
    yield from ((str(first), str(second)) for first, second in pairs)


def _table(names: list[str], part: Part, pairs: list[Pair]) -> dict[str, Any]:
    """How often characters come on either side."""
    title = f"Pairs of {part}" if part else "Pairs"
    counts = [Counter(pair[side] for pair in pairs) for side in (0, 1)]
    rows = [
        [name, len(held), min(held.values()), statistics.median(held.values()), max(held.values())]
        for name, held in zip(names, counts, strict=True)
    ]
    return {"title": title, "columns": ["as", "characters", "fewest pairs", "median", "most"], "rows": rows}
