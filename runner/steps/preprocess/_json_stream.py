"""JSON read as a stream, with the place of every value: a file may be larger than the memory.

ijson gives the values of one place and nothing of what stands around them; a Telegram export needs both: the messages
of each chat, and the chat's name. The work is done by the standard library's decoder, a value at a time: less of it is
alive at once than in json.load, which is why this is faster for long files.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Container, Iterator
from typing import Any, Protocol

BLOCK = 1 << 18
LONGEST = 1 << 26  # characters: no message is longer, and a damaged file must not fill the memory
EDGE = 16  # an error this near to the end of what is read may be the cut, not the file

_blank = re.compile(r"[ \t\n\r]*")
_NAMED = {"{": "}", "[": "]"}


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


class OPEN:
    """The value of a place whose object or list is entered: its parts follow."""


class Broken(ValueError):
    """Where a text stops being JSON; `found` is what stands there, "" at the end, None inside a value."""

    def __init__(self, why: str, found: str | None = None) -> None:
        super().__init__(why)
        self.found = found


def _refuse(name: str) -> Any:
    raise Broken(f"{name} is not JSON")


STRICT = json.JSONDecoder(parse_constant=_refuse)
ENDS = ("", "\n", "\r\n")  # of a line that holds one value and nothing more


def scanner(decoder: json.JSONDecoder) -> Callable[[str, int], tuple[Any, int]]:
    """What raw_decode calls, without its detour: the value at a place of a text, and where it ends.

    Raises StopIteration where none begins, JSONDecodeError where it is broken.
    """
    return decoder.scan_once  # type: ignore[attr-defined]


def line_decoder(decoder: json.JSONDecoder) -> Callable[[str], Any]:
    """What gives the value on a line, as decoder.decode does, in half its time. Raises ValueError."""
    scan = scanner(decoder)

    def decode(line: str) -> Any:
        try:
            value, end = scan(line, 0)
            if line[end:] in ENDS:
                return value
        except StopIteration:
            pass  # it does not begin with a value
        return decoder.decode(line)

    return decode


class Text:
    """JSON as it streams by: `read` gives the next characters, "" at the end. Raises Broken where it is none."""

    def __init__(self, read: Callable[[int], str], decoder: json.JSONDecoder = STRICT) -> None:
        self._read, self._scan = read, scanner(decoder)
        self.text = ""
        self.start = self.at = 0  # of the last value, and of what follows it
        self.ended = False
        self._line, self._counted = 1, 0

    def more(self) -> None:
        """Read on; what is read already is forgotten. The more there is of one value, the more is read at once."""
        left = self.text[self.at :]
        if len(left) > LONGEST:
            raise Broken(f"a value of more than {LONGEST} characters")
        self._count(self.at)
        block = self._read(max(BLOCK, len(left)))
        self.ended = not block
        self.text, self.start, self.at, self._counted = left + block, 0, 0, 0

    def _count(self, to: int) -> None:
        self._line += self.text.count("\n", self._counted, to)
        self._counted = to

    def line(self) -> int:
        """The line of the place that is reached."""
        self._count(self.at)
        return self._line

    def first_line(self) -> int:
        """The line that the last value begins on."""
        start = self.start
        self._line += self.text.count("\n", self._counted, start)
        self._counted = start
        return self._line

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            blank = _blank.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def take(self, wanted: str) -> str:
        """The next character, which must be one of these."""
        found = self.peek()
        if not found or found not in wanted:
            raise Broken(f"{found or 'the end'} where {' or '.join(wanted)} belongs", found)
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self.text, self.at)
            except StopIteration as error:
                if self.ended or error.value <= len(self.text) - EDGE:
                    raise Broken("Expecting value") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - EDGE
                if self.ended or not cut:
                    raise Broken(error.msg) from error
            except RecursionError as error:
                raise Broken("it is nested too deeply") from error
            else:
                if end + 2 < len(self.text) or self.ended:  # a number may go on: 1 as 1.5, as 1e+5
                    self.start, self.at = self.at, end
                    return value
            self.more()

    def values(self) -> Iterator[Any]:
        """The values of the list that begins here. What stands between the first two is looked for first from then on."""
        self.take("[")
        if self.peek() == "]":
            self.at += 1
            return
        scan, between = self._scan, ","
        while True:
            yield self.value()
            text, at, end, size = self.text, self.at, len(self.text) - 2, len(between)
            while text.startswith(between, at):
                try:
                    value, to = scan(text, at + size)
                except (StopIteration, ValueError, RecursionError):
                    break
                if to >= end:
                    break
                self.start, self.at = at + size, to
                yield value
                at = to
            if self.take(",]") == "]":
                return
            after = self.at
            self.peek()
            between = "," + self.text[after : self.at] if self.at > after else ","


def characters(stream: Readable, mend: Callable[[str], str] | None = None) -> Callable[[int], str]:
    """What reads characters from a stream of UTF-8; `mend` is shown blocks in which no escape is cut."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def block(size: int) -> str:
        raw = stream.read(size)
        made = decoder.decode(raw, final=not raw)
        while raw and not made:  # less than a character
            raw = stream.read(size)
            made = decoder.decode(raw, final=not raw)
        return made

    def mended(size: int) -> str:
        made = block(size)
        while "\\" in made[-4:] and (further := block(EDGE)):
            made += further
        return mend(made) if mend else made

    return mended if mend else block


def walk(
    stream: Readable, enter: Container[str], mend: Callable[[str], str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Every value with its place: keys and 'item' joined by dots, as in 'chats.list.item.messages.item'.

    Objects and lists at the places of `enter` are gone into: they come as OPEN, then their parts. The whole is at "".
    Raises ValueError (also for what is no UTF-8) where the stream is not one JSON value.
    """
    text = Text(characters(stream, mend))
    yield from _values(text, "", enter)
    if text.peek():
        raise Broken("something follows its end")


def _values(text: Text, place: str, enter: Container[str]) -> Iterator[tuple[str, Any]]:
    kind = text.peek()
    if place not in enter or kind not in ("{", "["):
        yield place, text.value()
        return
    yield place, OPEN
    prefix = place and f"{place}."
    item = f"{prefix}item"
    if kind == "[" and item not in enter:
        for value in text.values():
            yield item, value
        return
    text.at += 1
    end = _NAMED[kind]
    if text.peek() == end:
        text.at += 1
        return
    while True:
        inner = item if kind == "[" else prefix + _key(text)
        if inner in enter:
            yield from _values(text, inner, enter)
        else:
            yield inner, text.value()
        if text.take("," + end) == end:
            return


def _key(text: Text) -> str:
    if text.peek() != '"':
        raise Broken("no name where one belongs")
    name = str(text.value())
    text.take(":")
    return name
