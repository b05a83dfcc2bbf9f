"""The line in front of the models: answers are made a few at a time, the others wait, and the line has an end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from threading import Condition, Thread
from typing import Any


class Busy(Exception):
    """The line is full."""


class _Job:
    """Work that somebody waits for. Its pieces reach the event loop of whoever asked."""

    def __init__(self, work: Callable[[], Generator[Any, None, Any]]) -> None:
        self.work, self.loop = work, asyncio.get_running_loop()
        self.pieces: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.left = False  # nobody waits any more

    def put(self, kind: str, value: Any = None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, (kind, value))

    def run(self) -> None:
        pieces = self.work()
        try:
            while not self.left:
                self.put("piece", next(pieces))
        except StopIteration as stopped:
            self.put("end", stopped.value)
        except Exception as error:  # noqa: BLE001 (it belongs to whoever waits, and is raised there)
            self.put("error", error)
        finally:
            pieces.close()


class Desk:
    """at_once: how many answers are made at the same time; most: how many may wait."""

    def __init__(self, at_once: int, most: int) -> None:
        self.most = most
        self._line: deque[_Job] = deque()
        self._changed = Condition()
        self._open = True
        self._at_work = 0
        for _ in range(at_once):
            Thread(target=self._work, daemon=True).start()

    @property
    def busy(self) -> int:
        """How many answers are being made."""
        return self._at_work

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._changed:
            return sum(not job.left for job in self._line)

    async def pieces(self, work: Callable[[], Generator[Any, None, Any]]) -> AsyncIterator[Any]:
        """What the generator that `work` makes yields, and what it returns at the end. Closing this stops the work.

        Raises Busy where too many wait, and whatever the work raises.
        """
        job = self._enter(work)
        try:
            kind = ""
            while kind != "end":
                kind, value = await job.pieces.get()
                if kind == "error":
                    raise value
                yield value
        finally:
            job.left = True

    def close(self) -> None:
        """Nothing more is begun."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _enter(self, work: Callable[[], Generator[Any, None, Any]]) -> _Job:
        job = _Job(work)
        with self._changed:
            if sum(not one.left for one in self._line) >= self.most:
                raise Busy
            self._line.append(job)
            self._changed.notify()
        return job

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._line:
                    self._changed.wait()
                if not self._open:
                    return
                job = self._line.popleft()
                self._at_work += 1
            if not job.left:
                job.run()
            with self._changed:
                self._at_work -= 1
