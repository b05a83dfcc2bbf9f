"""Rows of CSV files as they stream by, each with the line that it begins on and why it cannot be read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO

from runner.errors import DataError
from runner.files import Row
from runner.headers import HEAD, LONGEST_FIELD, encoding_of, header, open_text, sniff
from runner.steps.preprocess._reading import Source

NOT_A_NUMBER = "NaN or Infinity, which JSON does not have"
CONFLICT = "a merge conflict"
OTHER_BYTES = "other bytes than the file's encoding has"
CUT = "cut off inside quotes"


# One row of a table: file and line (or file and number), its id (where it is, or in a JSON list its number, as several may
# share a line), its values, or else None, the reason and the text. A plain tuple, as a class would take as long as reading.
Record = tuple[str, str, Row | None, str, str]


class Conflicts:
    """Tells lines between the markers of an unresolved merge conflict, markers included."""

    def __init__(self) -> None:
        self._open = False

    def hold(self, line: str) -> bool:
        if not self._open and line[:1] not in ("<", ">"):
            return False
        if line.startswith("<<<<<<< "):
            self._open = True
        inside = self._open or line.startswith(">>>>>>> ")
        if line.startswith(">>>>>>> "):
            self._open = False
        return inside


def _kept(stream: IO[str], held: list[str]) -> Iterator[str]:
    """The lines of a file, each put into `held` too: the lines that the current row is made of."""
    for line in stream:
        held.append(line)
        yield line


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
        held: list[str] = []
        number, begin, conflicts, is_header = 1, f"{source.name}:", Conflicts(), True
        reader = csv.reader(_kept(stream, held), delimiter=cut, strict=True)
        while True:
            number += len(held)
            held.clear()
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
            reason = CONFLICT if conflicts.hold(held[0]) else reason or _wrong(fields, held, columns)
            at = f"{begin}{number}"
            if reason:
                yield at, at, None, reason, "".join(held)
            else:
                yield at, at, dict(zip(columns, fields, strict=True)), "", ""


def _why(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return CUT
    if "limit" in text:
        return "a field longer than 16 million characters, as after a quote that is never closed"
    return "a quote inside quotes that is not doubled" if "expected after" in text else f"not CSV ({text})"


def _wrong(fields: list[str], lines: list[str], columns: list[str]) -> str:
    for line in lines:
        if not (line.isascii() or decoded(line)):
            return OTHER_BYTES
        if "\0" in line:
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
