"""JSON read as a stream, with the place of every value: a file may be larger than the memory.

ijson gives the values of one place and nothing of what stands around them; a Telegram export needs both: the messages
of each chat, and the chat's name. The work is done by the standard library's decoder, a value at a time.
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


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse).raw_decode


class _Text:
    """The characters of a stream, and how far they are read."""

    def __init__(self, stream: Readable, mend: Callable[[str], str] | None) -> None:
        self._stream = stream
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._mend = mend
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> None:
        """Read on; what is read already is forgotten. The more there is of one value, the more is read at once."""
        left = self.text[self.at :]
        if len(left) > LONGEST:
            raise ValueError(f"a value of more than {LONGEST} characters")
        block = self._block(max(BLOCK, len(left)))
        if self._mend:
            while not self.ended and "\\" in block[-4:]:  # an escape is mended whole
                block += self._block(EDGE)
            block = self._mend(block)
        self.text, self.at = left + block, 0

    def _block(self, size: int) -> str:
        raw = self._stream.read(size)
        self.ended = not raw
        return self._bytes.decode(raw, final=self.ended)

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
            raise ValueError(f"{found or 'the end'} where {' or '.join(wanted)} belongs")
        self.at += 1
        return found

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - EDGE
                if self.ended or not cut:
                    raise ValueError(error.msg) from error
            else:
                if end + 2 < len(self.text) or self.ended:  # a number may go on: 1 as 1.5, as 1e+5
                    self.at = end
                    return value
            self.more()


def walk(
    stream: Readable, enter: Container[str], mend: Callable[[str], str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Every value with its place: keys and 'item' joined by dots, as in 'chats.list.item.messages.item'.

    Objects and lists at the places of `enter` are gone into: they come as OPEN, then their parts. The whole is at "".
    Raises ValueError (also for what is no UTF-8) where the stream is not one JSON value.
    """
    text = _Text(stream, mend)
    yield from _values(text, "", enter)
    if text.peek():
        raise ValueError("something follows its end")


def _values(text: _Text, place: str, enter: Container[str]) -> Iterator[tuple[str, Any]]:
    kind = text.peek()
    if place not in enter or kind not in ("{", "["):
        yield place, text.value()
        return
    text.at += 1
    yield place, OPEN
    prefix = place and f"{place}."
    end = _NAMED[kind]
    item = f"{prefix}item"
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


def _key(text: _Text) -> str:
    if text.peek() != '"':
        raise ValueError("no name where one belongs")
    name = str(text.value())
    text.take(":")
    return name
