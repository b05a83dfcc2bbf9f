"""JSON Lines, digests and atomic writes: how everything under artifacts/ is read and written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from runner.errors import DataError

Row = dict[str, Any]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def loads(text: str) -> Any:
    """Parse strict JSON: NaN and Infinity are errors (ValueError)."""
    return json.loads(text, parse_constant=_no_constant)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def dumps(value: Any) -> str:
    """One line of strict JSON in UTF-8, keys in the order given; NaN is a ValueError."""
    return _encode(value)


def canonical(value: Any) -> str:
    """JSON that is the same for equal values: keys sorted, 3.0 written as 3."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def where(row: Row) -> str:
    """How messages name a row: where it is from, else its id, else how it begins."""
    return str(row.get("source") or row.get("id") or str(row)[:60])


def read_json(path: Path) -> Any:
    """What a JSON file holds, None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON Lines file, one at a time.

    Raises DataError with file and line where a line is not one JSON object in UTF-8, torn last lines included.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                raise DataError(f"{path}:{number}: the last line is torn (no line end). Remove the file and run again.")
            try:
                row = loads(line.decode())
            except ValueError as error:  # bytes that are not UTF-8, too
                raise DataError(
                    f"{path}:{number}: not a JSON object ({error}). Remove the file and run again."
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: a {type(row).__name__} where a JSON object belongs.")
            yield row


def count_rows(path: Path) -> int:
    """How many lines a JSON Lines file has."""
    with path.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


class RowWriter:
    """Writes rows to a JSON Lines file as they come: `with RowWriter(path) as rows: rows.write({...})`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._stream: IO[str] | None = None

    def __enter__(self) -> RowWriter:
        self._stream = self.path.open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        self._stream.close()

    def write(self, row: Row) -> None:
        assert self._stream is not None, "use the writer in a with statement"
        self._stream.write(dumps(row) + "\n")
        self.count += 1

    def write_all(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.write(row)


def link(source: str | Path, target: str | Path) -> None:
    """The same file under a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sync_folder(folder: Path) -> None:
    """Flush every file of a folder, and the folder itself, to disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> bool:
    """Write a text file atomically, only where it differs; says whether it did."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
    return True


def write_json(path: Path, value: Any) -> bool:
    """Write a value as indented JSON, atomically, only where it differs."""
    return write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
