"""What people see: aligned tables and progress bars."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from runner.step import Advance

GAP = 2
NARROWEST = 12


def cell(value: Any) -> str:
    """A value as a table shows it: floats with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None = None) -> str:
    """An aligned table. Long cells are wrapped so that it fits the width; numbers stand to the right."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    cells = [[cell(value) for value in row] for row in rows]
    widths = _fit([max([len(name), *(_longest(row[at]) for row in cells)]) for at, name in enumerate(columns)], width)
    right = [
        all(isinstance(row[at], int | float) or row[at] is None for row in rows) and bool(rows)
        for at in range(len(columns))
    ]
    lines = [_line([list(columns)], widths, right), _line([["-" * held for held in widths]], widths, right)]
    tall = False
    for row in cells:
        wrapped = [
            [part for line in (text.splitlines() or [""]) for part in textwrap.wrap(line, widths[at]) or [""]]
            for at, text in enumerate(row)
        ]
        height = max(map(len, wrapped))
        if (tall or height > 1) and row is not cells[0]:
            lines.append("")
        tall = height > 1
        lines.append(
            _line([[part[at] if at < len(part) else "" for part in wrapped] for at in range(height)], widths, right)
        )
    return "\n".join(lines)


def _longest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def _fit(widths: list[int], width: int) -> list[int]:
    """Take from the widest columns until all fit."""
    widths = list(widths)
    while sum(widths) + GAP * (len(widths) - 1) > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line(parts: list[list[str]], widths: list[int], right: list[bool]) -> str:
    def pad(text: str, at: int) -> str:
        return text.rjust(widths[at]) if right[at] else text.ljust(widths[at])

    return "\n".join((" " * GAP).join(pad(text, at) for at, text in enumerate(part)).rstrip() for part in parts)


@contextmanager
def bar(label: str, total: int) -> Iterator[Advance]:
    """A progress bar with ETA on standard error; silent where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda amount=1, note="": None
        return
    with click.progressbar(
        length=max(total, 1), label=label, file=sys.stderr, show_pos=True, item_show_func=lambda note: note
    ) as shown:
        yield lambda amount=1, note="": shown.update(amount, note or None)


def tables(facts: dict[str, Any]) -> str:
    """The tables of a step's facts, each under its title, and its notes."""
    made = [
        f"{one['title']}\n\n{textwrap.indent(table(one['columns'], one['rows']), '  ')}\n"
        for one in facts.get("tables", [])
    ]
    notes = [f"  Note: {note}\n" for note in facts.get("notes", [])]
    return "\n".join([*made, "".join(notes)]) if notes else "\n".join(made)


def duration(seconds: float) -> str:
    """12.3 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
