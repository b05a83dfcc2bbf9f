"""Rows of CSV files as they stream by, each with the line that it begins on and why it cannot be read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO, NamedTuple

from runner.errors import DataError
from runner.files import Row
from runner.headers import HEAD, LONGEST_FIELD, encoding_of, header, open_text, sniff
from runner.steps.preprocess._reading import Source

NOT_A_NUMBER = "NaN or Infinity, which JSON does not have"
CONFLICT = "a merge conflict"
OTHER_BYTES = "other bytes than the file's encoding has"
CUT = "cut off inside quotes"


class Record(NamedTuple):
    """One row of a table: where it begins (a line, or #number), its values, or else a reason and the text.

    `number` is its place in a JSON list, where several may share a line.
    """

    place: str
    row: Row | None
    reason: str = ""
    raw: str = ""
    number: int = 0


class Conflicts:
    """Tells lines between the markers of an unresolved merge conflict, markers included."""

    def __init__(self) -> None:
        self._open = False

    def hold(self, line: str) -> bool:
        if line.startswith("<<<<<<< "):
            self._open = True
        inside = self._open or line.startswith(">>>>>>> ")
        if line.startswith(">>>>>>> "):
            self._open = False
        return inside


class _Lines:
    """The lines of a file, counted; `held` are those that the current row is made of."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.number = 0
        self.held: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self.stream)
        self.number += 1
        self.held.append(line)
        return line


def names(source: Source, encoding: str | None, delimiter: str | None) -> list[str]:
    """The header of a CSV file. Raises DataError where it has none or names a column twice."""
    found = header(source.path, encoding or encoding_of(source.path), delimiter)
    twice = next((name for name in found if found.count(name) > 1), None)
    if found and found[0].startswith("<<<<<<< "):
        raise DataError(f"{source.shown}:1: a merge conflict begins here. Mend the file or get it again.")
    if not found:
        raise DataError(f"{source.shown}:1: empty. A table begins with a row of column names.")
    if twice:
        raise DataError(f"{source.shown}:1: two columns are named '{twice}'. Rename one in the file.")
    return found


def separated(source: Source, encoding: str | None, delimiter: str | None) -> Iterator[Record]:
    """The rows of a CSV file. A row that is broken ends with its line, and the next line begins a new one."""
    columns, chosen = names(source, encoding, delimiter), encoding or encoding_of(source.path)
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(source.path, chosen) as stream:
        cut = delimiter or sniff(source.path, stream.read(HEAD))
        stream.seek(0)
        lines, conflicts, is_header = _Lines(stream), Conflicts(), True
        reader = csv.reader(lines, delimiter=cut, strict=True)
        while True:
            lines.held, start = [], lines.number + 1
            try:
                fields = next(reader)
                reason = ""
            except StopIteration:
                return
            except csv.Error as error:
                fields, reason = [], _why(error)
            if not reason and not fields:
                continue
            if is_header:
                is_header = False
                continue
            reason = CONFLICT if conflicts.hold(lines.held[0]) else reason or _wrong(fields, lines.held, columns)
            if reason:
                yield Record(str(start), None, reason, "".join(lines.held))
            else:
                yield Record(str(start), dict(zip(columns, fields, strict=True)))


def _why(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return CUT
    if "limit" in text:
        return "a field longer than 16 million characters, as after a quote that is never closed"
    return "a quote inside quotes that is not doubled" if "expected after" in text else f"not CSV ({text})"


def _wrong(fields: list[str], lines: list[str], columns: list[str]) -> str:
    if not all(map(decoded, lines)):
        return OTHER_BYTES
    if any("\0" in line for line in lines):
        return "a NUL character"
    if len(fields) != len(columns):
        return f"{'fewer' if len(fields) < len(columns) else 'more'} fields than the header"
    return ""


def decoded(line: str) -> bool:
    """Whether every byte of a line was in the file's encoding."""
    if line.isascii():
        return True
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
