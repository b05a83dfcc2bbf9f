"""YAML read strictly, every value with its place.

Against plain PyYAML: a key given twice is an error, `1e-4` is a number, `no`, `on` and dates are strings, keys are strings,
and size, depth and aliases are bounded, so that no file can hang or exhaust the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from runner.problems import Invalid, Mark, Problem

MOST_BYTES = 1_000_000
MOST_DEPTH = 40
MOST_VALUES = 50_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_SPECIAL = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
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
        data = path.read_bytes()
    except OSError as error:
        raise _invalid(Mark(name), f"cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise _invalid(Mark(name, 1, 1), f"{len(data):,} bytes; a recipe has at most {MOST_BYTES:,}. Keep data in datasets/.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise _invalid(Mark(name, line, column), "not UTF-8. Save the file as UTF-8.") from error
    return parse(text, name)


def parse(text: str, name: str) -> Any:
    """Parse YAML text into Map, Seq, str, int, float, bool and None. Raises Invalid with one problem."""
    reader = _Reader(text, name)
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        raise _invalid(*_syntax(error, text, name)) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        mark = Mark(name, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _invalid(mark, f"the character U+{ord_of(error.character):04X} may not stand in YAML. Remove it.") from error


def ord_of(character: Any) -> int:
    return character if isinstance(character, int) else ord(str(character)[:1] or "\0")


def _invalid(mark: Mark, message: str) -> Invalid:
    return Invalid([Problem(mark, message)])


def _syntax(error: yaml.MarkedYAMLError, text: str, name: str) -> tuple[Mark, str]:
    """A mark and a sentence for what the YAML parser says, plainer where the usual slips are recognised."""
    place = error.problem_mark or error.context_mark
    lines = text.split("\n")
    number = min(place.line, len(lines) - 1) if place else 0
    mark = Mark(name, number + 1, place.column + 1 if place else 1)
    line = lines[number]
    said = str(error.problem or error.context or "not YAML")
    open_reference = re.search(r"(?<![\"'\w])\$\{[^}\"']*\}", "\n".join(lines[max(0, number - 1) : number + 1]))
    if open_reference and ("{" in line or "[" in line):
        return mark, f'{open_reference[0]} stands unquoted inside braces, where YAML reads it otherwise. Write "{open_reference[0]}".'
    if "\t" in line[: len(line) - len(line.lstrip())] or (place and line[place.column : place.column + 1] == "\t"):
        return mark, "a tab. Indent with spaces."
    if re.match(r"(<<<<<<<|=======|>>>>>>>)", line):
        return mark, "a merge conflict stands here. Resolve it."
    return mark, f"not YAML: {said}. Check indentation, quotes and colons near here."


class _Reader:
    """Builds the tree from the parser's events, iteratively, so that depth costs no stack."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.values = 0

    def mark(self, event: Any) -> Mark:
        return Mark(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def document(self) -> Any:
        root: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _invalid(self.mark(event), "a second YAML document. A recipe is one document: remove the '---'.")
                root = self.value(next(self.events))
        return root

    def value(self, event: Any) -> Any:
        """One value with everything in it, from its first event on."""
        root: list[Any] = []
        open_containers: list[tuple[Any, str | None, int]] = []  # container, anchor, values before it
        pending: list[tuple[str, Mark] | None] = []  # the key that waits for its value, for each open container
        while True:
            done: list[Any] = []
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._opens(event, len(open_containers))
                made = Map(self.mark(event)) if isinstance(event, yaml.MappingStartEvent) else Seq(self.mark(event))
                open_containers.append((made, event.anchor, self.values))
                pending.append(None)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                made, anchor, before = open_containers.pop()
                pending.pop()
                if anchor:
                    self.anchors[anchor] = (made, self.values - before + 1)
                done = [(made, made.mark)]
            else:
                done = [(self._leaf(event), self.mark(event))]
            for value, mark in done:
                if not open_containers:
                    root.append(value)
                else:
                    self._place(open_containers[-1][0], pending, value, mark, event)
            if root:
                return root[0]
            event = next(self.events)

    def _opens(self, event: Any, depth: int) -> None:
        self._count(event, 1)
        if depth >= MOST_DEPTH:
            raise _invalid(self.mark(event), f"nested more than {MOST_DEPTH} deep. Nothing in a recipe is.")

    def _count(self, event: Any, amount: int) -> None:
        self.values += amount
        if self.values > MOST_VALUES:
            raise _invalid(self.mark(event), f"more than {MOST_VALUES:,} values. Keep data in datasets/.")

    def _leaf(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _invalid(self.mark(event), f"*{event.anchor} names no finished anchor. Define &{event.anchor} above, not around it.")
            value, size = self.anchors[event.anchor]
            self._count(event, size)
            return value
        self._count(event, 1)
        value = self._scalar(event)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _invalid(self.mark(event), f"the tag {tag} means nothing here. Remove it; put quotes round what shall be text.")
        if not event.implicit[0]:  # quoted, or a block
            return text
        if text in _SPECIAL:
            return _SPECIAL[text]
        if _INT.match(text):
            return int(text) if len(text) < 19 else float(text)
        if _FLOAT.match(text):
            number = float(text)
            return number if number not in (float("inf"), float("-inf")) else text
        return text

    def _place(self, container: Any, pending: list[tuple[str, Mark] | None], value: Any, mark: Mark, event: Any) -> None:
        if isinstance(container, Seq):
            container.put(value, mark)
            return
        key = pending[-1]
        if key is None:
            pending[-1] = (self._key(container, value, mark, event), mark)
            return
        container.put(key[0], value, key[1], mark)
        pending[-1] = None

    def _key(self, container: Map, value: Any, mark: Mark, event: Any) -> str:
        if isinstance(value, Map | Seq):
            raise _invalid(mark, "a list or mapping as a key. Keys are words; if this is ${…} or {{ … }}, put quotes round it.")
        key = event.value if isinstance(event, yaml.ScalarEvent) else str(value)
        if key == "<<":
            raise _invalid(mark, "merge keys (<<) are no part of the recipe language. Use like: other-step.")
        if key in container:
            raise _invalid(mark, f"key '{key}' appears twice; the first is at line {container.keys_at[key].line}. Remove one.")
        return key
