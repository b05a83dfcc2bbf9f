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
                _one(record, columns, tally, rows)
            counts.append([table.source.name, tally.read - before[0], tally.count - before[1]])
            advance(1, note=table.source.name)
    tally.finish()
    shown = [{"title": "Files", "columns": ["file", "rows", "unreadable"], "rows": counts[:20]}]
    return {"metrics": {"files": len(found)}, "tables": shown, "notes": columns.notes()}


def _one(record: Record, columns: _Columns, tally: Unreadable, rows: RowWriter) -> None:
    at, own, theirs, reason, raw = record
    if theirs is None:
        tally.reject(at, reason, raw)
        return
    try:
        made = columns.row(own, at, theirs)
    except Unfit as error:
        tally.reject(at, str(error), row={"source": at, **theirs})
        return
    try:
        rows.write(made)
    except ValueError:  # 1e999, or half of a surrogate pair
        tally.reject(at, UNWRITABLE, repr(theirs))
        return
    tally.read += 1


# For each column of the rows, its name in the file and the type it gets; None where the rows are as the file has them.
Plan = list[tuple[str, str, str | None]] | None


class _Columns:
    """The columns of the rows: the same for every file, renamed and cast."""

    def __init__(self, step: Step) -> None:
        self.mapping: dict[str, str] = step.params.get("columns") or {}
        self.types: dict[str, str] = step.params.get("types") or {}
        self.empty = step.params["nan"] == "empty"
        self.plan: dict[str, str] = {}
        self.table: Table | None = None
        self.seen: dict[tuple[str, ...], Plan] = {}
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
        self.seen.clear()

    def _learn(self, made: dict[str, str]) -> None:
        assert self.table is not None
        self.plan = made
        unknown = [name for name in self.types if name not in made]
        if unknown:
            have = ", ".join(made)
            raise DataError(f"{self.table.source.shown}: no column '{unknown[0]}' for types. There are: {have}.")

    def _plan(self, keys: tuple[str, ...]) -> Plan:
        """The plan for a row with these keys: the first row decides what every row has; others have more."""
        assert self.table is not None
        if len(self.seen) > MOST_SHAPES:
            self.seen.clear()
        where = self.table.source.shown
        made = self.plan
        if self.table.form != "csv":
            if not self.plan:
                self._learn(plan(keys, self.mapping, where))
            asked = [name.split(".")[0] for name in self.plan.values()]
            made = {**self.plan, **plan(dict.fromkeys([*keys, *asked]), self.mapping, where)}
        same = not self.types and list(made.items()) == [(key, key) for key in keys]
        self.seen[keys] = None if same else [(ours, name, self.types.get(ours)) for ours, name in made.items()]
        return self.seen[keys]

    def row(self, own: str, at: str, theirs: Row) -> Row:
        """One row: id and source first. Raises Unfit where a cell is not of its type, or an id is missing."""
        keys = tuple(theirs)
        chosen = self.seen[keys] if keys in self.seen else self._plan(keys)
        if chosen is None:
            made: Row = {"id": own, "source": at, **theirs}
        else:
            made = {"id": own, "source": at}
            for ours, name, kind in chosen:
                held = theirs[name] if name in theirs else self._inside(ours, name, theirs)
                made[ours] = held if kind is None else cast(ours, held, kind, self.empty)
        named = made["id"]
        if not isinstance(named, (str, int)) or named == "":
            raise Unfit("no id")
        made["id"] = str(named)
        return made

    def _inside(self, ours: str, name: str, theirs: Row) -> Any:
        held = value(theirs, name)
        if held is None and name.partition(".")[0] not in theirs:
            self.missing[ours] += 1
        return held

    def notes(self) -> list[str]:
        return [f"{count} rows lack '{name}': it is null there." for name, count in self.missing.most_common(10)]
