"""Columns whose values rows must share, or must not share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.errors import DataError
from runner.files import Row, canonical
from runner.step import pick


def listed(value: str | Sequence[str] | None) -> list[str]:
    """One name, several or none as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def shared(row: Row, columns: Sequence[str], key: str) -> str:
    """The values of these columns as one text, equal for equal values. Raises DataError where a row lacks one."""
    return canonical([value(row, column, key) for column in columns])


def value(row: Row, column: str, key: str) -> Any:
    """A column's value, or a value inside it ('who.name'). Raises DataError where it is missing or empty (null)."""
    try:
        found = pick(row, column)
    except (KeyError, TypeError):
        found = None
    if found is None:
        raise DataError(f"{where(row)}: no value in column '{column}', which {key}: needs. Fill it, or drop such rows before.")
    return found


def where(row: Row) -> str:
    """What a user finds a row by."""
    return str(row.get("source") or row.get("id") or canonical(row)[:60])
