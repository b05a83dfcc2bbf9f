"""YAML read strictly, every value with its place.

Against plain PyYAML: a key given twice is an error, `1e-4` is a number, `no`, `on` and dates are strings, keys are
strings, and size, depth and aliases are bounded, so that no file can hang or exhaust the reader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.problems import Invalid, Mark, Problem

MOST_BYTES = 1_000_000
MOST_DEPTH = 40
MOST_VALUES = 50_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*|(?=[eE]))|\.[0-9]+)([eE][-+]?[0-9]+)?")
_REFERENCE = re.compile(r"(?<![\"'\w])\$\{[^}\"'\n]{0,80}\}")
_SPECIAL: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_SPECIAL |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Map(dict[str, Any]):
    """A mapping that knows where each key (`keys_at`) and each value (`values_at`) stands, and itself (`mark`)."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}

    def put(self, key: str, value: Any, key_at: Mark, value_at: Mark) -> None:
        self[key] = value
        self.keys_at[key] = key_at
        self.values_at[key] = value_at

    def take(self, key: str, other: Map) -> None:
        """Copy one entry of another mapping, place and all."""
        self.put(key, other[key], other.keys_at[key], other.values_at[key])


class Seq(list[Any]):
    """A list that knows where each item stands (`items_at`), and itself (`mark`)."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.items_at: list[Mark] = []

    def put(self, value: Any, at: Mark) -> None:
        self.append(value)
        self.items_at.append(at)


def read(path: Path, name: str | None = None) -> Any:
    """Parse a YAML file. Raises Invalid with one problem where it cannot be read."""
    name = name or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _invalid(Mark(name), f"cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        message = f"longer than {MOST_BYTES:,} bytes, which no recipe is. Keep data in datasets/."
        raise _invalid(Mark(name, 1, 1), message)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise _invalid(Mark(name, line, column), "not UTF-8. Save the file as UTF-8.") from error
    return parse(text, name)


def parse(text: str, name: str) -> Any:
    """Parse YAML text into Map, Seq, str, int, float, bool and None. Raises Invalid with one problem."""
    try:
        return _Reader(text, name).document()
    except yaml.MarkedYAMLError as error:
        raise _invalid(*_syntax(error, text, name)) from error
    except (yaml.reader.ReaderError, UnicodeEncodeError) as error:
        raise _invalid(*_character(text, name)) from error


def _character(text: str, name: str) -> tuple[Mark, str]:
    """The first character that YAML does not allow: the C parser does not say where it is."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    at = found.start() if found else 0
    shown = f"U+{ord(text[at]):04X}" if text else ""
    mark = Mark(name, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
    return mark, f"the character {shown} may not stand in YAML. Remove it."


def _invalid(mark: Mark, message: str) -> Invalid:
    return Invalid([Problem(mark, message)])


def _syntax(error: yaml.MarkedYAMLError, text: str, name: str) -> tuple[Mark, str]:
    """A mark and a sentence for what the YAML parser says, plainer where the usual slips are recognised."""
    place = error.problem_mark or error.context_mark
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
    number, column = (min(place.line, len(lines) - 1), place.column) if place else (0, 0)
    line, mark = lines[number], Mark(name, number + 1, column + 1)
    reference = _REFERENCE.search("\n".join(lines[max(0, number - 1) : number + 1]))
    if reference and ("{" in line or "[" in line):
        advice = f'Write "{reference[0]}".'
        return mark, f"{reference[0]} stands unquoted inside braces, where YAML reads it otherwise. {advice}"
    if "\t" in line[: len(line) - len(line.lstrip())] or line[column : column + 1] == "\t":
        return mark, "a tab. Indent with spaces."
    for at in range(max(0, number - 2), number + 1):  # the parser notices a line or two later
        if lines[at].startswith(("<<<<<<<", "=======", ">>>>>>>")):
            return Mark(name, at + 1, 1), "a merge conflict stands here. Resolve it."
    return mark, f"not YAML: {error.problem or error.context}. Check indentation, quotes and colons near here."


@dataclass
class _Open:
    """A mapping or list that is being read; `height` is how deep what is in it goes."""

    made: Any
    anchor: str | None
    values_before: int
    height: int = 1


class _Reader:
    """Builds the tree from the parser's events, iteratively, so that depth costs no stack."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.values = 0
        self.opened: list[_Open] = []

    def mark(self, event: Any) -> Mark:
        return Mark(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def document(self) -> Any:
        root: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    message = "a second YAML document. A recipe is one document: remove the '---'."
                    raise _invalid(self.mark(event), message)
                root = self.value(next(self.events))
        return root

    def value(self, event: Any) -> Any:
        """One value with everything in it, from its first event on."""
        opened = self.opened = []
        keys: list[tuple[str, Mark] | None] = []  # for each open mapping, the key that waits for its value
        while True:
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                opened.append(self._opens(event))
                keys.append(None)
            else:
                if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                    keys.pop()
                    made, mark = self._closes(opened.pop())
                else:
                    made, mark = self._leaf(event), self.mark(event)
                if not opened:
                    return made
                keys[-1] = self._put(opened[-1].made, keys[-1], made, mark, event)
            event = next(self.events)

    def _opens(self, event: Any) -> _Open:
        self._count(event, 1, 1)
        self._no_tag(event)
        make = Map if isinstance(event, yaml.MappingStartEvent) else Seq
        return _Open(make(self.mark(event)), event.anchor, self.values)

    def _closes(self, held: _Open) -> tuple[Any, Mark]:
        if held.anchor:
            self.anchors[held.anchor] = (held.made, self.values - held.values_before + 1, held.height)
        return held.made, held.made.mark

    def _count(self, event: Any, amount: int, height: int = 0) -> None:
        """Count values, and how deep they go: through an alias too."""
        self.values += amount
        if self.values > MOST_VALUES:
            raise _invalid(self.mark(event), f"more than {MOST_VALUES:,} values. Keep data in datasets/.")
        if len(self.opened) + height > MOST_DEPTH:
            raise _invalid(self.mark(event), f"nested more than {MOST_DEPTH} deep. Nothing in a recipe is.")
        for up, held in enumerate(reversed(self.opened), 1):
            held.height = max(held.height, height + up)

    def _leaf(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                message = f"*{event.anchor} names no finished anchor. Define &{event.anchor} above, not around it."
                raise _invalid(self.mark(event), message)
            value, size, height = self.anchors[event.anchor]
            self._count(event, size, height)
            return value
        self._count(event, 1)
        self._no_tag(event)
        value = _plain(event.value) if event.implicit[0] else event.value
        if event.anchor:
            self.anchors[event.anchor] = (value, 1, 0)
        return value

    def _no_tag(self, event: Any) -> None:
        if event.tag and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            message = f"the tag {tag} means nothing here. Remove it; put quotes round what shall be text."
            raise _invalid(self.mark(event), message)

    def _put(self, held: Any, key: tuple[str, Mark] | None, value: Any, mark: Mark, event: Any) -> Any:
        """Put a value into the open container; returns the key that now waits for a value."""
        if isinstance(held, Seq):
            held.put(value, mark)
        elif key is None:
            return self._key(held, value, mark, event), mark
        else:
            held.put(key[0], value, key[1], mark)
        return None

    def _key(self, held: Map, value: Any, mark: Mark, event: Any) -> str:
        if isinstance(value, Map | Seq):
            advice = "Keys are words; if this is ${…} or {{ … }}, put quotes round it."
            raise _invalid(mark, f"a list or mapping as a key. {advice}")
        key = event.value if isinstance(event, yaml.ScalarEvent) else str(value)
        if key == "<<":
            raise _invalid(mark, "merge keys (<<) are no part of the recipe language. Use like: other-step.")
        if key in held:
            first = held.keys_at[key].line
            raise _invalid(mark, f"key '{key}' appears twice; the first is at line {first}. Remove one.")
        return str(key)


def _plain(text: str) -> Any:
    """What a word without quotes stands for."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and math.isfinite(float(text)) else text
