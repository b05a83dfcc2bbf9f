"""Rows of JSON Lines files and JSON lists as they stream by, each with its line and why it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runner.errors import DataError
from runner.headers import encoding_of, open_text
from runner.steps.preprocess._json_stream import Broken, Text, line_decoder
from runner.steps.preprocess._reading import Source
from runner.steps.preprocess._table_text import (
    CONFLICT,
    NOT_A_NUMBER,
    OTHER_BYTES,
    Conflicts,
    Record,
    decoded,
)


class Json:
    """Decodes JSON; a bare NaN or Infinity becomes None, and `odd` says that there was one."""

    def __init__(self, empty: bool) -> None:
        self.odd, self._empty = False, empty
        self.decoder = json.JSONDecoder(parse_constant=self._constant)

    def _constant(self, name: str) -> None:
        self.odd = True

    def wrong(self, value: Any) -> str:
        """Why a decoded value is no row, "" where it is one; a NaN may be no value."""
        odd, self.odd = self.odd, False
        if odd and not self._empty:
            return NOT_A_NUMBER
        return "" if isinstance(value, dict) else "a value that is not an object"


def lines(source: Source, encoding: str | None, empty: bool) -> Iterator[Record]:
    """The rows of a JSON Lines file, blank lines skipped."""
    chosen, made, conflicts = encoding or encoding_of(source.path), Json(empty), Conflicts()
    begin, decode = f"{source.name}:", line_decoder(made.decoder)
    with open_text(source.path, chosen) as stream:
        for number, line in enumerate(stream, 1):
            at, value = f"{begin}{number}", None
            reason = CONFLICT if conflicts.hold(line) else "" if line.isascii() or decoded(line) else OTHER_BYTES
            if not reason:
                try:
                    value = decode(line)
                    reason = made.wrong(value)
                except (ValueError, RecursionError):
                    made.odd, reason = False, "not JSON" if line.endswith("\n") else "not JSON (the last line: cut off)"
            if not reason:
                yield at, at, value, "", ""
            elif not line.isspace():
                yield at, at, None, reason, line


def entries(source: Source, encoding: str | None, empty: bool) -> Iterator[Record]:
    """The objects of a JSON list, decoded one at a time from blocks of the file.

    Raises DataError with the line where the list stops being JSON: what comes after cannot be told apart.
    """
    made, name = Json(empty), source.name
    with _list(source, encoding, made.decoder) as text:
        for number, value in enumerate(text.values(), 1):
            at = f"{name}:{text.first_line()}"
            if reason := made.wrong(value):
                yield at, "", None, reason, json.dumps(value)
            else:
                yield at, f"{name}#{number}", value, "", ""


def values(source: Source, encoding: str | None, decoder: json.JSONDecoder) -> Iterator[tuple[int, Any]]:
    """The values of a JSON list with the lines they begin on."""
    with _list(source, encoding, decoder) as text:
        for value in text.values():
            yield text.first_line(), value


@contextmanager
def _list(source: Source, encoding: str | None, decoder: json.JSONDecoder) -> Iterator[Text]:
    """The text of a file whose values are gone through in the with statement. Raises DataError where it is no list."""
    with open_text(source.path, encoding or encoding_of(source.path)) as stream:
        text = Text(stream.read, decoder)
        try:
            yield text
            if text.peek():
                raise _broken(source, text, "more after the end of the list")
        except Broken as error:
            raise _broken(source, text, _why(error)) from error


def _why(error: Broken) -> str:
    if error.found is None:
        how = "is nested too deeply" if isinstance(error.__cause__, RecursionError) else "stops being JSON"
        return f"{how} in the entry that begins here"
    return "no comma and no end of the list here" if error.found else "cut off: the list has no end"


def _broken(source: Source, text: Text, why: str) -> DataError:
    conflict = text.text.startswith(("<<<<<<<", ">>>>>>>", "======="), text.at)
    what = "a merge conflict begins here" if conflict else why
    return DataError(f"{source.shown}:{text.line()}: {what}. Mend the file or get it again.")
