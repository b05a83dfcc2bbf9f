"""Rows of many conversations, given back one conversation at a time, by time; memory holds two numbers a row."""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from runner.errors import DataError
from runner.files import Row, canonical, dumps, loads


class Spool:
    """`with Spool(folder) as spool: spool.add(row)`, then `spool.conversations()`.

    A row without a time stays after the row before it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        self._times: dict[str, array[float]] = {}
        self._starts: dict[str, array[int]] = {}
        self._aware: dict[str, bool] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        """Keep a row. Raises DataError where its time is none, or some times of a conversation have an offset."""
        name = canonical(row.get("conversation"))
        times, starts = self._times.setdefault(name, array("d")), self._starts.setdefault(name, array("Q"))
        seconds = self._seconds(name, row)
        times.append((times[-1] if times else -math.inf) if seconds is None else seconds)
        starts.append(self._file.tell())
        self._file.write(dumps(row).encode() + b"\n")

    def _seconds(self, name: str, row: Row) -> float | None:
        value: Any = row.get("time")
        if value is None or value == "":
            return None
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{row.get('source')}: time {value!r} is not an ISO 8601 time such as 2024-01-31T15:07:00."
            ) from error
        aware = moment.tzinfo is not None
        if self._aware.setdefault(name, aware) != aware:
            raise DataError(
                f"{row.get('source')}: time {value} and others of conversation {row.get('conversation')} "
                "differ in having an offset. Give all of them one where they are read, with zone:, or none."
            )
        return (moment if aware else moment.replace(tzinfo=UTC)).timestamp()

    def conversations(self) -> Iterator[Iterator[tuple[Row, float]]]:
        """Each conversation's rows by time, every row with the seconds since the one before it."""
        for name, times in self._times.items():
            yield self._ordered(times, self._starts[name])

    def _ordered(self, times: array[float], starts: array[int]) -> Iterator[tuple[Row, float]]:
        before = math.inf
        for index in sorted(range(len(times)), key=times.__getitem__):
            gap = times[index] - before
            before = times[index]
            self._file.seek(starts[index])
            yield loads(self._file.readline().decode()), gap if math.isfinite(gap) else 0.0
