"""Columns whose values rows must share, or must not share."""

from __future__ import annotations

from collections.abc import Sequence

from runner.files import Row, canonical, where
from runner.steps.preprocess._expressions import need


def shared(row: Row, columns: Sequence[str], key: str) -> str:
    """The values of these columns as one text, equal for equal values. Raises DataError where a row lacks one."""
    return canonical([need(row, column, key) for column in columns])


def name(row: Row) -> str:
    """A row's id as text; where it has none, what a user finds it by."""
    return where(row) if row.get("id") is None else str(row["id"])
