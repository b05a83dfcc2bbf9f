"""Every answer that was given, in one SQLite file: shared by recipes and by processes, so that nothing is asked twice.

A question that somebody is asking at this moment is claimed. A claim holds for as long as its owner's lock file is
locked: what a killed process was asking is free at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from runner.errors import StepError

TABLES = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, asked TEXT, reply TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS whom ON replies (asked);
"""
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "9p", "afs")
Reply = dict[str, Any]


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """What SQLite cannot do, in one line."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        advice = "Free some space, or move the file away: it holds answers, which are asked for anew without it."
        raise StepError(f"{path}: {error}. {advice}") from error


@contextmanager
def _at_once(base: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, and nobody else writes meanwhile; after an error the connection is free for the next."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    finally:
        if base.in_transaction:
            base.execute("ROLLBACK")


class Replies:
    """The cache. Its methods may be called from any thread; `key` is a digest of the whole question."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owners = path.with_suffix(".owners")
        self._owner: IO[str] | None = None
        self._name = ""
        self._held = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def get(self, *keys: str) -> Reply | None:
        """The answer under the first of these keys that has one."""
        for key in keys:
            found = self._run("SELECT reply FROM replies WHERE key = ?", key).fetchone()
            if found:
                reply: Reply = json.loads(found[0])
                return reply
        return None

    def claim(self, *keys: str) -> Reply | bool:
        """The answer where there is one by now; else True where the first key is ours to ask, False where another's."""
        with _in_words(self.path):
            return self._claimed(*keys)

    def _claimed(self, *keys: str) -> Reply | bool:
        base = self._base()
        with _at_once(base):
            reply = self.get(*keys)
            if reply is not None:
                return reply
            found = base.execute("SELECT owner FROM claims WHERE key = ?", keys[:1]).fetchone()
            if found and found[0] != self._me() and self._lives(found[0]):
                return False
            base.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (keys[0], self._me()))
            return True

    def put(self, key: str, asked: str, reply: Reply, claimed: str | None = None) -> None:
        """Keep an answer; `asked` says whom it is from. Ends the claim on `claimed`."""
        with _in_words(self.path):
            base = self._base()
            with _at_once(base):
                base.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, asked, json.dumps(reply)))
                if claimed:
                    base.execute("DELETE FROM claims WHERE key = ?", (claimed,))

    def release(self, key: str) -> None:
        """End a claim without an answer."""
        self._run("DELETE FROM claims WHERE key = ? AND owner = ?", key, self._me())

    def has_any(self, asked: Sequence[str]) -> bool:
        """Whether any of these has ever answered anything."""
        marks = ", ".join("?" * len(asked))
        return bool(self._run(f"SELECT 1 FROM replies WHERE asked IN ({marks}) LIMIT 1", *asked).fetchone())  # noqa: S608

    def known(self, name: str) -> Any:
        """What was remembered under a name, None where nothing was."""
        found = self._run("SELECT value FROM known WHERE name = ?", name).fetchone()
        return json.loads(found[0]) if found else None

    def all_known(self, beginning: str) -> dict[str, Any]:
        """Everything remembered under names that begin so."""
        held = self._base().execute(
            "SELECT name, value FROM known WHERE substr(name, 1, ?) = ? ORDER BY name", (len(beginning), beginning)
        )
        return {name: json.loads(value) for name, value in held}

    def remember(self, name: str, value: Any) -> None:
        """Remember something that is no answer: what an endpoint can do, a batch on its way. None forgets it."""
        if value is None:
            self._run("DELETE FROM known WHERE name = ?", name)
        else:
            self._run("INSERT OR REPLACE INTO known VALUES (?, ?)", name, json.dumps(value))

    def close(self) -> None:
        """Close it in all threads, and give up what is claimed."""
        with self._lock:
            for base in self._open:
                base.close()
            self._open.clear()
            self._held = threading.local()
            if self._owner:
                Path(self._owner.name).unlink(missing_ok=True)
                self._owner.close()
                self._owner = None

    def _run(self, query: str, *values: str) -> sqlite3.Cursor:
        with _in_words(self.path):
            return self._base().execute(query, values)

    def _base(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._held, "base", None)
        if found is None:
            found = self._connected()
            self._held.base = found
            with self._lock:
                self._open.append(found)
        return found

    def _connected(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _in_words(self.path):
            made = sqlite3.connect(self.path, timeout=120, isolation_level=None, check_same_thread=False)
            # A write-ahead log is shared memory, which a network file system does not have
            made.execute(f"PRAGMA journal_mode = {'TRUNCATE' if on_network(self.path) else 'WAL'}")
            made.execute("PRAGMA synchronous = NORMAL")
            made.executescript(TABLES)
        return made

    def _me(self) -> str:
        """This process's name among the owners; its file is locked for as long as the process lives."""
        with self._lock:
            if self._owner is None:
                self._owners.mkdir(exist_ok=True)
                self._name = f"{os.getpid()}-{secrets.token_hex(6)}"
                self._owner = (self._owners / self._name).open("w", encoding="ascii")
                fcntl.flock(self._owner, fcntl.LOCK_EX)
        return self._name

    def _lives(self, owner: str) -> bool:
        path = self._owners / owner
        try:
            with path.open("r+", encoding="ascii") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        path.unlink(missing_ok=True)
        return False


def on_network(path: Path) -> bool:
    """Whether a path lies on a network file system, where the system says so."""
    mounts = Path("/proc/self/mounts")
    if not mounts.is_file():
        return False
    here, best, kind = str(path.resolve()), "", ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, found = line.split(" ")[:3]
        if len(point) >= len(best) and (here == point or here.startswith(point.rstrip("/") + "/")):
            best, kind = point, found
    return kind.startswith(NETWORK)
