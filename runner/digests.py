"""Digests of data files, kept by size, time and inode, so that asking twice reads nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

from runner.files import file_digest, write_text

_SETTLED = 2_000_000_000  # a file written in the last two seconds may change again within the clock's tick: not kept


class Digests:
    """SHA-256 of files, remembered in one JSON file. A touch reads the file again; equal content gives an equal digest."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.changed = False
        try:
            self.known: dict[str, list[object]] = json.loads(cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}

    def of(self, path: Path) -> str:
        """The digest of one file. Raises OSError where it cannot be read."""
        state = path.stat()
        signature = [state.st_size, state.st_mtime_ns, state.st_ino]
        held = self.known.get(str(path.absolute()))
        if held and held[:3] == signature:
            return str(held[3])
        made = file_digest(path)
        if time.time_ns() - state.st_mtime_ns > _SETTLED:
            self.known[str(path.absolute())] = [*signature, made]
            self.changed = True
        return made

    def save(self) -> None:
        if self.changed:
            write_text(self.cache, json.dumps(self.known, separators=(",", ":")))
            self.changed = False
