"""Rows put on disk and taken back by number: what shuffles, groups and pairs rows without holding them."""

from __future__ import annotations

import tempfile
from array import array
from pathlib import Path
from types import TracebackType

from runner.files import Row, dumps, loads


class Shelf:
    """`with Shelf(folder) as shelf: number = shelf.add(row)`, then `shelf[number]`; memory holds eight bytes a row."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        self._starts = array("Q")
        self._end = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, row: Row) -> int:
        """Keep a row; returns its number, from 0."""
        line = dumps(row).encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._starts.append(self._end)
        self._end += len(line)
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Row:
        self._file.seek(self._starts[number])
        row: Row = loads(self._file.readline().decode())
        return row
