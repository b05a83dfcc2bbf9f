"""What readers share: which files of the folder they read, what they refuse, and how much may be unreadable."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import DataError
from runner.files import Row
from runner.headers import choose
from runner.step import Out, Step

LONGEST_SHOWN = 500
LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Fetch it: git lfs pull"),
    (b"PK\x03\x04", "an archive or an Excel file. Unpack it, or save the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip. Unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard. Unpack it: unzstd"),
    (b"%PDF", "a PDF. Save its text as .txt"),
    (b"\x89PNG", "a picture. Move it out of the folder"),
    (b"\xff\xd8\xff", "a picture. Move it out of the folder"),
    (b"SQLite format 3", "a database. Export a table as CSV"),
)


def shown(path: Path) -> str:
    """A path for errors: as seen from the working directory if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@dataclass(frozen=True)
class Source:
    """One file of the folder: where it lies, its path inside the folder, its path in errors."""

    path: Path
    name: str

    @property
    def shown(self) -> str:
        return shown(self.path)


def sources(step: Step, wanted: str) -> list[Source]:
    """The files that `files:` chooses, in the order of their names; all without it, but for licences and the like.

    Raises DataError where there is none; `wanted` says what should be there.
    """
    assert step.folder is not None, "the key folder names a dataset folder"
    held = step.params.get("files") or []
    patterns = [held] if isinstance(held, str) else list(held)
    root = step.folder
    found = choose(root, [root / path for path in step.files], patterns)
    if not found:
        by = f" that fits files: {', '.join(patterns)}" if patterns else ""
        raise DataError(f"{shown(root)}: no file{by} here. Put {wanted} there.")
    return [Source(path, path.relative_to(root).as_posix()) for path in found]


def look_alike(path: Path) -> str | None:
    """What a file is that only pretends to be text, with what to do; None for text."""
    with path.open("rb") as stream:
        head = stream.read(512)
    found = next((what for magic, what in LOOKS if head.startswith(magic)), None)
    if found:
        return found
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    return "a web page. Download the file itself" if start.startswith((b"<!doctype html", b"<html")) else None


def refuse(problems: list[str]) -> None:
    """Raise every problem found, in one error."""
    if problems:
        raise DataError(*problems)


@dataclass
class Unreadable:
    """Counts rows that can be read and those that cannot, and fails where these are more than `rejects:` allows."""

    step: Step
    out: Out
    read: int = 0
    count: int = 0
    first: list[str] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)

    def reject(self, source: str, reason: str, raw: str = "", row: Row | None = None) -> None:
        """Keep an unreadable row, its first characters at least, with its place."""
        self.count += 1
        self.reasons.add(reason)
        if len(self.first) < 3:
            self.first.append(f"{source} {reason}")
        if row is not None:
            try:
                self.out.reject(row, reason)
                return
            except ValueError:  # it holds what no file can: half of a surrogate pair
                raw = repr(row)
        line = raw[:LONGEST_SHOWN].encode("utf-8", "backslashreplace").decode()
        self.out.reject({"source": source, "line": line.rstrip("\r\n")}, reason)

    def finish(self) -> None:
        """Raises DataError where nothing was read, or too much could not be."""
        total, limit = self.read + self.count, float(self.step.params["rejects"])
        where = shown(self.step.folder) if self.step.folder else ""
        if not self.read and not self.count:
            raise DataError(f"{where}: no rows: the files are empty.")
        if self.read and self.count <= limit * total:
            return
        some = ", ".join(self.first) + (f" and {self.count - 3} more" if self.count > 3 else "")
        hint = " ".join(text for reason, text in self.hints.items() if reason in self.reasons)
        advice = hint or f"Mend them, or raise rejects: (now {limit:g})."
        raise DataError(f"{where}: {self.count} of {total} rows cannot be read: {some}. {advice}")
