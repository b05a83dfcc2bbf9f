"""One row for each field of an object, or each item of a list, in a column."""

from __future__ import annotations

from typing import Any

from runner.errors import DataError
from runner.files import Row, digest, where
from runner.step import Out, Step, pick

Part = str | None


def run(step: Step, out: Out) -> dict[str, Any]:
    """Every row as often as its column has fields: `key` names the field (a list counts from 1), `value` is what it holds.

    `record` is the id of the row that it came from, which `collect` goes by, and `id` is that id with the field's name.
    Raises DataError where the column is neither an object nor a list.
    """
    key, value = step.params["key"], step.params["value"]
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with out.rows(part) as rows:
            for row in step.rows(part):
                fields = _fields(step, row)
                if not fields:
                    out.reject(row, "nothing to explode")
                record = str(row["id"]) if row.get("id") is not None else digest(row)[:20]
                for name, held in fields:
                    rows.write({**row, "id": f"{record}#{name}", "record": record, key: name, value: held})
        if not rows.count:
            raise DataError(
                f"{step.name}{'.' + part if part else ''}: no row has anything in column '{step.params['column']}'."
            )
    return {}


def _fields(step: Step, row: Row) -> list[tuple[str | int, Any]]:
    column = step.params["column"]
    try:
        held = pick(row, column)
    except (KeyError, TypeError) as error:
        raise DataError(f"{where(row)}: no column '{column}' to explode. It has: {', '.join(row)}.") from error
    if isinstance(held, dict):
        return list(held.items())
    if isinstance(held, list):
        return list(enumerate(held, 1))
    if held is None:
        return []
    raise DataError(f"{where(row)}: column '{column}' is a {type(held).__name__}, neither an object nor a list.")
