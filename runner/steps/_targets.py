"""What a row holds for a classifier: its text, or pair of texts, and its label as a class or as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from runner.files import Row

NO_TEXT, NO_PAIR = "no text", "no text_pair"
NO_LABEL, NO_NUMBER = "no label", "the label is not a number"
WINDOW = 2048


def text_of(row: Row, pairs: bool) -> tuple[str, str | None]:
    """Its text, and text_pair where pairs are judged. ValueError with the reason where there is none.

    One side of a pair may be empty, such as the history of a talk's first turn.
    """
    text, pair = row.get("text"), row.get("text_pair") if pairs else None
    if pairs and not isinstance(pair, str):
        raise ValueError(NO_PAIR)
    if not isinstance(text, str) or not (text + (pair or "")).strip():
        raise ValueError(NO_TEXT)
    return text, pair


def windows(
    rows: Iterator[Row], pairs: bool, reject: Callable[[Row, str], None]
) -> Iterator[tuple[list[Row], list[str], list[str] | None]]:
    """Rows with their texts and pairs, some thousand at a time; those without go to `reject`."""
    while window := list(islice(rows, WINDOW)):
        kept: list[tuple[Row, str, str | None]] = []
        for row in window:
            try:
                kept.append((row, *text_of(row, pairs)))
            except ValueError as reason:
                reject(row, str(reason))
        if kept:
            first, texts, seconds = (list(column) for column in zip(*kept, strict=True))
            yield first, texts, seconds if pairs else None


def class_name(held: Any) -> str:
    """A label as it is written down: text, a number or true/false. ValueError for nothing, and for a list."""
    if isinstance(held, bool):
        return str(held).lower()
    if held is None or isinstance(held, list | dict) or not str(held).strip():
        raise ValueError(NO_LABEL)
    return str(held)


def numbers(held: Any, names: list[str]) -> list[float]:
    """One number, or one for each name from a list or an object; also written as text. ValueError with the reason."""
    if len(names) > 1 or isinstance(held, list | dict):
        if isinstance(held, dict):
            held = [held.get(name) for name in names]
        if not isinstance(held, list) or len(held) != len(names):
            raise ValueError(f"label does not hold {len(names)} numbers")
        return [_number(one) for one in held]
    return [_number(held)]


def _number(held: Any) -> float:
    if held is None or held == "":
        raise ValueError(NO_LABEL)
    try:
        made = float(held)
    except (TypeError, ValueError):
        made = math.nan
    if not math.isfinite(made):
        raise ValueError(NO_NUMBER)
    return made
