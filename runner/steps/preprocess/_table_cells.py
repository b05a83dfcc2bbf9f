"""From what a file holds to what a row holds: columns renamed, cells of a declared type."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from runner.errors import DataError
from runner.files import Row
from runner.step import pick
from runner.steps.preprocess._table_text import NOT_A_NUMBER

OWN = "source"


class Unfit(Exception):
    """A cell that is not of its declared type; the text is the reason."""


def plan(theirs: Iterable[str], mapping: dict[str, str], where: str) -> dict[str, str]:
    """Their name for each of our columns: the mapping's, then the columns that it does not rename.

    Raises DataError where the mapping names a column that is not there, or two columns would have one name.
    """
    have = list(theirs)
    for ours, name in mapping.items():
        if name.split(".")[0] not in have and name not in have:
            raise DataError(f"{where}: no column '{name}' for columns.{ours}. There are: {', '.join(have)}.")
    left = [name for name in have if name not in mapping.values()]
    twice = next((name for name in left if name in mapping), None)
    if twice:
        raise DataError(
            f"{where}: there is a column '{twice}' already. Rename that one too: columns: {{other_{twice}: {twice}}}."
        )
    if OWN in left or OWN in mapping:
        raise DataError(
            f"{where}: 'source' is the column that tells file and line. Rename theirs: columns: {{origin: source}}."
        )
    return {**mapping, **{name: name for name in left}}


def value(row: Row, path: str) -> Any:
    """A column, or a value inside it (profile.tone); None where it is missing."""
    if path in row:
        return row[path]
    try:
        return pick(row, path)
    except (KeyError, TypeError):
        return None


def cast(name: str, held: Any, kind: str, empty: bool) -> Any:
    """A cell as text, number, boolean, list or object. An empty cell is None, but as text. Raises Unfit."""
    if held is None or (held == "" and kind != "text"):
        return None
    made = _CASTS[kind](held)
    if kind == "number" and isinstance(made, float) and not math.isfinite(made):
        if empty:
            return None
        raise Unfit(NOT_A_NUMBER)
    if made is None:
        raise Unfit(f"{name} is not {_NAMES[kind]}")
    return made


def _text(held: Any) -> str | None:
    if isinstance(held, str):
        return held
    return json.dumps(held) if isinstance(held, bool | int | float) else None


def _number(held: Any) -> int | float | None:
    if isinstance(held, bool) or not isinstance(held, str | int | float):
        return None
    if not isinstance(held, str):
        return held
    if "_" in held or not held.isascii():
        return None
    try:
        return int(held) if held.strip().lstrip("+-").isdecimal() else float(held)
    except ValueError:
        return None


def _boolean(held: Any) -> bool | None:
    if isinstance(held, str):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(held.strip().lower())
    return bool(held) if held in (0, 1) else None


def _json(held: Any, kind: type) -> Any:
    if isinstance(held, str):
        try:
            held = json.loads(held, parse_constant=float)
            json.dumps(held, allow_nan=False)
        except (ValueError, RecursionError):
            return None
    return held if isinstance(held, kind) else None


_CASTS: dict[str, Any] = {
    "text": _text,
    "number": _number,
    "boolean": _boolean,
    "list": lambda held: _json(held, list),
    "object": lambda held: _json(held, dict),
}
_NAMES = {
    "text": "text",
    "number": "a number",
    "boolean": "true or false",
    "list": "a JSON list",
    "object": "a JSON object",
}
