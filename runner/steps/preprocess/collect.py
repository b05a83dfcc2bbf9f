"""Rows of one record back into one row: their values by name in an object or in columns, or all in a list."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, canonical, where
from runner.step import Out, Step
from runner.steps.preprocess._expressions import need
from runner.steps.preprocess._shelf import Shelf

Part = str | None
OWN = ("id", "source", "record")  # columns that may differ between the rows of one record


def run(step: Step, out: Out) -> dict[str, Any]:
    """A row for each record, in the order of first rows; the other columns must be the same in all rows of a record.

    Raises StepError where the keys do not say what is collected, DataError where rows of a record contradict each other.
    """
    _check(step)
    lacking: Counter[str] = Counter()
    records = 0
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with Shelf(out.folder) as shelf, out.rows(part) as rows:
            for row in step.rows(part):
                shelf.add(row)
            made = _draws(step, shelf) if "draw" in step.params else _records(step, shelf, lacking)
            rows.write_all(made)
        if not rows.count:
            raise DataError(f"{step.name}{'.' + part if part else ''}: there are no rows to collect.")
        records += rows.count
    notes = [f"{count} of {records} records have no '{name}'." for name, count in lacking.most_common(20)]
    return {"notes": notes}


def _check(step: Step) -> None:
    given = {name for name in ("key", "value", "column", "draw", "into", "spread", "by") if step.params.get(name)}
    fine = ({"key", "value"} <= given and not given & {"column", "draw"}) or (
        "column" in given and not given & {"key", "value", "spread"} and ("draw" not in given or "by" not in given)
    )
    if not fine or {"into", "spread"} <= given:
        raise StepError(
            f"{step.name}: give key: and value: (an object, by into: elsewhere, or with spread: columns), "
            "or column: for a list, with by: or draw:."
        )


# By what the rows say


def _records(step: Step, shelf: Shelf, lacking: Counter[str]) -> Iterator[Row]:
    groups: dict[str, array[int]] = {}
    for number in range(len(shelf)):
        row = shelf[number]
        groups.setdefault(canonical(need(row, _by(step, row), "by")), array("Q")).append(number)
    if len(shelf) > 1 and len(groups) == len(shelf):
        by = _by(step, shelf[0])
        raise DataError(
            f"{step.name}: no two rows have the same {by}, so there is nothing to collect. Say what they share: by: …."
        )
    counts: Counter[str] = Counter()
    for numbers in groups.values():
        made = _record(step, [shelf[number] for number in numbers], counts)
        yield made
    lacking.update({name: len(groups) - count for name, count in counts.items() if count < len(groups)})


def _by(step: Step, row: Row) -> str:
    return str(step.params.get("by") or ("record" if "record" in row else "id"))


def _record(step: Step, rows: list[Row], counts: Counter[str]) -> Row:
    first = rows[0]
    gathered = [step.params[name] for name in ("key", "value", "column") if name in step.params]
    for row in rows[1:]:
        differing = [
            name for name in {**first, **row} if name not in (*gathered, *OWN) and first.get(name) != row.get(name)
        ]
        if differing:
            raise DataError(
                f"{where(row)}: column '{differing[0]}' differs from that in {where(first)}, a row of the same record. "
                "Drop it before, or collect it too."
            )
    made = {name: held for name, held in first.items() if name not in (*gathered, "record")}
    if _by(step, first) == "record":
        made["id"] = first["record"]
    into = step.params.get("into") or gathered[-1]
    if "column" in step.params:
        return {**made, into: [need(row, step.params["column"], "column") for row in rows]}
    fields = _fields(step, rows)
    counts.update(fields.keys())
    if not step.params["spread"]:
        return {**made, into: fields}
    taken = sorted(fields.keys() & made.keys())
    if taken:
        raise DataError(
            f"{where(first)}: spread: would write column '{taken[0]}', which is there already. Use into:, or drop it before."
        )
    return {**made, **fields}


def _fields(step: Step, rows: list[Row]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for row in rows:
        name = str(need(row, step.params["key"], "key"))
        if name in fields:
            raise DataError(f"{where(row)}: a second '{name}' in one record. Say what tells the records apart: by: ….")
        if step.params["value"] not in row:
            raise DataError(f"{where(row)}: no column '{step.params['value']}', which value: names.")
        fields[name] = row[step.params["value"]]
    return fields


# By chance


def _draws(step: Step, shelf: Shelf) -> Iterator[Row]:
    """Bundles of values drawn by chance, each from all rows."""
    draw = step.params["draw"]
    if not draw["replace"] and draw["rows"] > len(shelf):
        raise DataError(
            f"{step.name}.draw: {draw['rows']} rows asked for, {len(shelf)} there. Ask for less, or set replace: true."
        )
    if not len(shelf):
        return
    chance = random.Random(draw["seed"])
    column = step.params["column"]
    for number in range(1, draw["times"] + 1):
        places = range(len(shelf))
        drawn = chance.choices(places, k=draw["rows"]) if draw["replace"] else chance.sample(places, draw["rows"])
        yield {
            "id": f"draw-{number}",
            step.params.get("into") or column: [need(shelf[place], column, "column") for place in drawn],
        }
