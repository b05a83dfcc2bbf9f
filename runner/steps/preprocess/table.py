"""Rows from tables: CSV, TSV, JSON lists, JSON Lines, Parquet, Arrow, and folders written by save_to_disk."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner.errors import DataError
from runner.files import Row, RowWriter
from runner.step import Out, Step
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._table_cells import Unfit, cast, plan, value
from runner.steps.preprocess._table_text import NOT_A_NUMBER, Record
from runner.steps.preprocess._tables import Table, tables

HINTS = {NOT_A_NUMBER: "To read NaN as no value, set nan: empty."}
MOST_SHAPES = 1000
UNWRITABLE = "a number or a character that JSON cannot hold"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id (theirs, or file and line), source, and the table's own columns, renamed by `columns:`.

    Raises DataError where files are no tables, their columns differ, or more rows than `rejects:` allows are broken.
    """
    found, tally = tables(step), Unreadable(step, out, hints=HINTS)
    counts: list[list[Any]] = []
    columns = _Columns(step)
    with out.rows() as rows, out.progress("reading", len(found)) as advance:
        for table in found:
            columns.begin(table)
            before = (tally.read, tally.count)
            for record in table.records():
                _one(table, record, columns, tally, rows)
            counts.append([table.source.name, tally.read - before[0], tally.count - before[1]])
            advance(1, note=table.source.name)
    tally.finish()
    shown = [{"title": "Files", "columns": ["file", "rows", "unreadable"], "rows": counts[:20]}]
    return {"metrics": {"files": len(found)}, "tables": shown, "notes": columns.notes()}


def _one(table: Table, record: Record, columns: _Columns, tally: Unreadable, rows: RowWriter) -> None:
    at = table.at(record)
    if record.row is None:
        tally.reject(at, record.reason, record.raw)
        return
    try:
        made = columns.row(table.id(record), at, record.row)
    except Unfit as error:
        tally.reject(at, str(error), row={"source": at, **record.row})
        return
    try:
        rows.write(made)
    except ValueError:  # 1e999, or half of a surrogate pair
        tally.reject(at, UNWRITABLE, repr(record.row))
        return
    tally.read += 1


class _Columns:
    """The columns of the rows: the same for every file, renamed and cast."""

    def __init__(self, step: Step) -> None:
        self.mapping: dict[str, str] = step.params.get("columns") or {}
        self.types: dict[str, str] = step.params.get("types") or {}
        self.empty = step.params["nan"] == "empty"
        self.plan: dict[str, str] = {}
        self.table: Table | None = None
        self.seen: dict[tuple[str, ...], dict[str, str]] = {}
        self.missing: Counter[str] = Counter()

    def begin(self, table: Table) -> None:
        """Raises DataError where a CSV file has other columns than the one before it."""
        header, before = table.header, self.table
        self.table = table
        if header is None:
            return
        made = plan(header, self.mapping, f"{table.source.shown}:1")
        if before is not None and self.plan and made.keys() != self.plan.keys():
            differ = ", ".join(name[:40] for name in sorted(made.keys() ^ self.plan.keys())[:6])
            raise DataError(
                f"{table.source.shown}:1: other columns than in {before.source.shown} ({differ}). "
                "Choose files with files:, or read them in steps of their own."
            )
        self._learn(made)

    def _learn(self, made: dict[str, str]) -> None:
        assert self.table is not None
        self.plan = made
        unknown = [name for name in self.types if name not in made]
        if unknown:
            have = ", ".join(made)
            raise DataError(f"{self.table.source.shown}: no column '{unknown[0]}' for types. There are: {have}.")

    def _plan(self, row: Row) -> dict[str, str]:
        """The plan for a row with these keys: the first row decides what every row has; others have more."""
        assert self.table is not None
        if self.table.form == "csv":
            return self.plan
        keys = tuple(row)
        if keys not in self.seen:
            if len(self.seen) > MOST_SHAPES:
                self.seen.clear()
            where = self.table.source.shown
            if not self.plan:
                self._learn(plan(keys, self.mapping, where))
            asked = [name.split(".")[0] for name in self.plan.values()]
            self.seen[keys] = {**self.plan, **plan(dict.fromkeys([*keys, *asked]), self.mapping, where)}
        return self.seen[keys]

    def row(self, own: str, at: str, theirs: Row) -> Row:
        """One row: id and source first. Raises Unfit where a cell is not of its type, or an id is missing."""
        made: Row = {"id": own, "source": at}
        for ours, name in self._plan(theirs).items():
            held = value(theirs, name)
            if held is None and name.split(".")[0] not in theirs:
                self.missing[ours] += 1
            made[ours] = cast(ours, held, self.types[ours], self.empty) if ours in self.types else held
        if not isinstance(made["id"], str | int) or made["id"] == "":
            raise Unfit("no id")
        made["id"] = str(made["id"])
        return made

    def notes(self) -> list[str]:
        return [f"{count} rows lack '{name}': it is null there." for name, count in self.missing.most_common(10)]
