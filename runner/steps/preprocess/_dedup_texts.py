"""What rows say, put on disk once each: texts, or ready vectors."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import IO

from runner.errors import DataError
from runner.files import Row, canonical, where
from runner.step import Step, listed
from runner.steps.preprocess._same import shared
from runner.steps.preprocess._shelf import Shelf


class Texts:
    """What a first reading of the rows keeps; texts are taken by their place in `rows`.

    first:   for each row the number of the first row with the same text (or vector) in its group, or its own number
    rows:    the numbers of the distinct rows; groups: of each of these the number of its group
    size:    how many numbers a vector has, 0 for texts; vectors lie in `spool` as float32
    """

    def __init__(self, step: Step, parts: list[str | None], shelf: Shelf, spool: IO[bytes]) -> None:
        self.first = array("q")
        self.rows = array("q")
        self.groups = array("q")
        self.size = 0
        self.spool = spool
        self._shelf = shelf
        self._ready = step.params["method"] == "meaning" and "model" not in step.params
        self._read(step, parts, listed(step.params.get("same")))

    def _read(self, step: Step, parts: list[str | None], same: list[str]) -> None:
        seen: dict[bytes, int] = {}
        groups: dict[str, int] = {}
        for row in (row for part in parts for row in step.rows(part)):
            group = shared(row, same, "same")
            content = self._vector(row) if self._ready else said(row)
            held = content if isinstance(content, bytes) else content.encode()
            number = len(self.first)
            self.first.append(seen.setdefault(hashlib.sha256(group.encode() + b"\n" + held).digest()[:16], number))
            if self.first[number] == number and step.params["method"] != "exact":
                self.rows.append(number)
                self.groups.append(groups.setdefault(group, len(groups)))
                if isinstance(content, bytes):
                    self.spool.write(content)
                else:
                    self._shelf.add({"text": content})

    def _vector(self, row: Row) -> bytes:
        vector = row.get("embedding")
        try:
            held = array("f", vector if isinstance(vector, list) else ())
        except TypeError:
            held = array("f")
        if not held:
            raise DataError(f"{where(row)}: column 'embedding' is no list of numbers. Fill it, or name a model.")
        self.size = self.size or len(held)
        if len(held) != self.size:
            raise DataError(
                f"{where(row)}: {len(held)} numbers in 'embedding', {self.size} in rows before. Use one model for all."
            )
        return held.tobytes()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> str:
        return str(self._shelf[place]["text"])

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))


def said(row: Row) -> str:
    """The text that is compared: the row's text, or its messages with their roles. Raises DataError where it has neither."""
    value = row.get("text", row.get("messages"))
    if value is None:
        raise DataError(f"{where(row)}: neither text nor messages. Map the column to compare: columns: {{text: …}}.")
    if isinstance(value, list) and all(isinstance(item, dict) and "content" in item for item in value):
        return "\n".join(f"{item.get('role')}: {item['content']}" for item in value)
    return value if isinstance(value, str) else canonical(value)
