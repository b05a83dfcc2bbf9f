"""Locks between processes: `flock`, so that a killed holder leaves nothing behind."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; calls `waiting` once where another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        if not _taken(handle):
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def busy(path: Path) -> bool:
    """Whether another process holds a lock file at this moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        return not _taken(handle)


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
