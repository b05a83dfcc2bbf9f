"""What a reader makes of its files put on disk and read back once all of it is known: nothing is read twice.

Tuples of texts, numbers, None and further tuples or lists are kept, a few hundred at a time, in the format that Python
itself keeps its constants in: it is by far the fastest, and nobody else ever sees the file.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

BATCH = 256


class Batches:
    """`with Batches(folder) as batches: section = batches.section(); section.add(item)`, then `for item in section`."""

    def __init__(self, folder: Path) -> None:
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        self.end = 0
        self._filled: Section | None = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def section(self) -> Section:
        """Items that are read back together. Sections are best filled one after another."""
        return Section(self)

    def turn_to(self, section: Section) -> None:
        """Only one section at a time holds items in memory."""
        if self._filled is not None and self._filled is not section:
            self._filled.flush()
        self._filled = section


class Section:
    """Items in the order in which they were added, or in the reverse of it. Memory holds a batch."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._held: list[Any] = []
        self._places: list[tuple[int, int]] = []

    def add(self, item: Any) -> None:
        if not self._held:
            self._batches.turn_to(self)
        self._held.append(item)
        if len(self._held) == BATCH:
            self.flush()

    def flush(self) -> None:
        if self._held:
            raw = marshal.dumps(self._held)
            self._batches.file.seek(self._batches.end)
            self._batches.file.write(raw)
            self._places.append((self._batches.end, len(raw)))
            self._batches.end += len(raw)
            self._held = []

    def clear(self) -> None:
        """Forget what was added."""
        self._held, self._places = [], []

    def __iter__(self) -> Iterator[Any]:
        self.flush()
        for place in self._places:
            yield from self._load(*place)

    def __reversed__(self) -> Iterator[Any]:
        self.flush()
        for place in reversed(self._places):
            yield from reversed(self._load(*place))

    def _load(self, place: int, size: int) -> list[Any]:
        self._batches.file.seek(place)
        held: list[Any] = marshal.loads(self._batches.file.read(size))  # noqa: S302 (written above, in this process)
        return held
