"""Rows of JSON Lines files and JSON lists as they stream by, each with its line and why it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from runner.errors import DataError
from runner.headers import encoding_of, open_text
from runner.steps.preprocess._reading import Source
from runner.steps.preprocess._table_text import (
    CONFLICT,
    NOT_A_NUMBER,
    OTHER_BYTES,
    Conflicts,
    Record,
    decoded,
)

BLOCK = 1 << 20
LONGEST_ENTRY = 1 << 26
EDGE = 16  # an error this near to the end of what is read may be the cut, not the file
SPACE = " \t\r\n"


class Json:
    """Decodes JSON; a bare NaN or Infinity becomes None, and `odd` says that there was one."""

    def __init__(self) -> None:
        self.odd = False
        self.decoder = json.JSONDecoder(parse_constant=self._constant)

    def _constant(self, name: str) -> None:
        self.odd = True

    def record(self, place: int, value: Any, raw: str, empty: bool) -> Record:
        """A decoded value as a row; with `empty` a NaN is no value."""
        odd, self.odd = self.odd, False
        if odd and not empty:
            return Record(str(place), None, NOT_A_NUMBER, raw)
        if not isinstance(value, dict):
            return Record(str(place), None, "a value that is not an object", raw)
        return Record(str(place), value)


def lines(source: Source, encoding: str | None, empty: bool) -> Iterator[Record]:
    """The rows of a JSON Lines file, blank lines skipped."""
    chosen, made, conflicts = encoding or encoding_of(source.path), Json(), Conflicts()
    with open_text(source.path, chosen) as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            reason = CONFLICT if conflicts.hold(line) else "" if decoded(line) else OTHER_BYTES
            if not reason:
                try:
                    yield made.record(number, made.decoder.decode(line), line, empty)
                    continue
                except (ValueError, RecursionError):
                    made.odd, reason = False, "not JSON" if line.endswith("\n") else "not JSON (the last line: cut off)"
            yield Record(str(number), None, reason, line)


def entries(source: Source, encoding: str | None, empty: bool) -> Iterator[Record]:
    """The objects of a JSON list, decoded one at a time from blocks of the file.

    Raises DataError with the line where the list stops being JSON: what comes after cannot be told apart.
    """
    made = Json()
    for number, (line, value) in enumerate(values(source, encoding, made.decoder), 1):
        record = made.record(line, value, "", empty)._replace(number=number)
        yield record._replace(raw=json.dumps(value)) if record.reason else record


def values(source: Source, encoding: str | None, decoder: json.JSONDecoder) -> Iterator[tuple[int, Any]]:
    """The values of a JSON list with the lines they begin on."""
    with open_text(source.path, encoding or encoding_of(source.path)) as stream:
        window = _Window(stream, source, decoder)
        window.expect("[", "a list")
        if window.peek() == "]":
            return
        while True:
            window.peek()
            yield window.line, window.value()
            if window.expect(",]", "a comma or the end of the list") == "]":
                break
        if window.peek():
            raise DataError(f"{source.shown}:{window.line}: more after the end of the list. Mend the file.")


class _Window:
    """A part of a file with a place in it, moved on as values are read."""

    def __init__(self, stream: IO[str], source: Source, decoder: json.JSONDecoder) -> None:
        self.stream, self.source, self.decoder = stream, source, decoder
        self.text, self.at, self.line = "", 0, 1

    def _more(self) -> bool:
        """Read on; what is behind the place is let go."""
        block = self.stream.read(max(BLOCK, len(self.text) - self.at))
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)

    def _go(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character that is no space, '' at the end."""
        while True:
            to = self.at
            while to < len(self.text) and self.text[to] in SPACE:
                to += 1
            self._go(to)
            if to < len(self.text):
                return self.text[to]
            if not self._more():
                return ""

    def expect(self, one_of: str, what: str) -> str:
        found = self.peek()
        if not found or found not in one_of:
            raise self._broken(f"no {what} here" if found else "cut off: the list has no end")
        self._go(self.at + 1)
        return found

    def value(self) -> Any:
        """The value that begins here; a value that ends with what was read so far may go on in the next block."""
        while True:
            start = self.at
            try:
                value, end = self.decoder.raw_decode(self.text, start)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - EDGE
                if not cut or len(self.text) - start > LONGEST_ENTRY or not self._more():
                    raise self._broken("stops being JSON in the entry that begins here") from error
                continue
            except RecursionError as error:
                raise self._broken("nested too deeply in the entry that begins here") from error
            if end < len(self.text) or not self._more():
                self._go(self.at + end - start)
                return value

    def _broken(self, what: str) -> DataError:
        here = self.text[self.at : self.at + 8]
        why = "a merge conflict begins here" if here.startswith(("<<<<<<<", ">>>>>>>", "=======")) else what
        return DataError(f"{self.source.shown}:{self.line}: {why}. Mend the file or get it again.")
