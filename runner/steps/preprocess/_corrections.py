"""A person's edits as files: YAML, JSON Lines or CSV, each edit with the id of its row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.errors import DataError, RunnerError
from runner.files import loads
from runner.steps.preprocess._reading import Source
from runner.strict_yaml import Map, Seq, parse

FORMS = (".yaml", ".yml", ".jsonl", ".csv")
DROP = "drop"


@dataclass
class Edit:
    """What to do with one row: drop it, or give columns new values; `typed` where they are text from a table's cells."""

    places: list[str]
    drop: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    typed: bool = False


def edits(files: list[Source]) -> dict[str, Edit]:
    """The edits of all files by row id. Raises DataError naming every entry that cannot be one."""
    made: dict[str, Edit] = {}
    problems = []
    for source in files:
        try:
            for place, entry in _entries(source):
                problem = _add(made, place, entry, source.path.suffix.lower() == ".csv")
                problems += [f"{place}: {problem}"] if problem else []
        except RunnerError as error:
            problems += error.lines
        except UnicodeDecodeError:
            problems.append(f"{source.shown}: not UTF-8. Save the file as UTF-8.")
    if problems:
        raise DataError(*problems)
    return made


def _entries(source: Source) -> Iterator[tuple[str, Any]]:
    read = {".jsonl": _lines, ".csv": _cells, ".yaml": _yaml, ".yml": _yaml}.get(source.path.suffix.lower())
    if read is None:
        raise DataError(f"{source.shown}: corrections are {', '.join(FORMS)} files. Rename it, or move it away.")
    return read(source)


def _yaml(source: Source) -> Iterator[tuple[str, Any]]:
    """A list of {id, column: value}, or {id: {column: value}}."""
    held = parse(source.path.read_text(encoding="utf-8-sig"), source.shown)
    if isinstance(held, Map):
        for key, value in held.items():
            place = f"{source.shown}:{held.keys_at[key].line}"
            yield place, {"id": key, **value} if isinstance(value, Map) else value
    elif isinstance(held, Seq):
        for value, mark in zip(held, held.items_at, strict=True):
            yield f"{source.shown}:{mark.line}", value
    elif held is not None:
        raise DataError(f"{source.shown}: no list of corrections. Write: - {{id: …, column: new value}}.")


def _lines(source: Source) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(source.path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                yield f"{source.shown}:{number}", loads(line)
            except ValueError as error:
                raise DataError(f"{source.shown}:{number}: not JSON ({error}). Mend the line.") from error


def _cells(source: Source) -> Iterator[tuple[str, Any]]:
    """A header with id and columns; an empty cell leaves the value as it is."""
    with source.path.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, strict=True)
        try:
            for cells in table:
                place = f"{source.shown}:{table.line_num}"
                if None in cells or None in cells.values():
                    raise DataError(f"{place}: more or fewer cells than the header has. Mend the row.")
                kept = {name: cell for name, cell in cells.items() if cell != ""}
                yield place, {**kept, DROP: _yes(place, kept[DROP])} if DROP in kept else kept
        except csv.Error as error:
            raise DataError(f"{source.shown}:{table.line_num + 1}: not CSV ({error}). Mend the row.") from error


def _yes(place: str, cell: str) -> bool:
    said = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(cell.strip().lower())
    if said is None:
        raise DataError(f"{place}: drop is {cell!r}, neither true nor false.")
    return said


def _add(made: dict[str, Edit], place: str, entry: Any, typed: bool) -> str | None:
    """Join an entry to those of its row; what is wrong with it, if anything."""
    if not isinstance(entry, dict) or entry.get("id") is None:
        return "no id. Write the id of the row to correct: {id: …, column: new value}."
    values = {key: value for key, value in entry.items() if key not in ("id", DROP)}
    drop = entry.get(DROP, False)
    if not isinstance(drop, bool):
        return f"drop is {drop!r}, neither true nor false."
    if drop == bool(values):
        return (
            "both drop and new values. Choose one."
            if drop
            else "nothing to do. Give a column a new value, or: drop: true."
        )
    held = made.setdefault(str(entry["id"]), Edit([], drop, typed=typed))
    twice = [name for name in values if name in held.values]
    if twice or held.drop != drop or held.typed != typed:
        about = f"column '{twice[0]}'" if twice else "it"
        return f"row '{entry['id']}' is corrected twice, {about} at {held.places[-1]} too. Keep one."
    if "source" in values:
        return "source says where a row comes from and cannot be changed."
    held.places.append(place)
    held.values |= values
    return None
