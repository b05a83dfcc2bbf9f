"""The files of a folder of chat exports, those inside archives too. Archives are read in place: nothing is unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo

from runner.errors import DataError
from runner.step import Step
from runner.steps.preprocess._reading import shown

BLOCK = 1 << 18
Advance = Callable[..., None]
ABSURD = 200  # texts become ten or twenty times smaller, never this much
SMALL = 1 << 26  # what may unpack to this size is harmless whatever its ratio


@dataclass(frozen=True, slots=True)
class Counted:
    """A stream that tells how much of it was read."""

    stream: IO[bytes]
    advance: Advance

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.advance(len(block))
        return block


@dataclass(frozen=True)
class ChatFile:
    """One file. `name` is its path inside the dataset folder, the archive's name before it where it lies in one."""

    path: Path
    name: str
    size: int
    archive: ZipFile | None = None
    member: ZipInfo | None = None

    @property
    def shown(self) -> str:
        return shown(self.path) + (f"/{self.member.filename}" if self.member else "")

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes. Raises DataError where the archive is damaged, here or in the body of the with statement."""
        if self.archive is None or self.member is None:
            with self.path.open("rb") as stream:
                yield stream
            return
        try:
            with self.archive.open(self.member) as stream:
                yield stream
        except (BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
            raise DataError(f"{self.shown}: the archive is damaged ({error}). Export it again.") from error


def chat_files(step: Step, endings: tuple[str, ...]) -> tuple[list[ChatFile], list[ChatFile]]:
    """The folder's files with one of these endings, archives looked into, and all others.

    Raises DataError where an archive cannot be read, is locked, or would unpack to an absurd size.
    """
    assert step.folder is not None, "the key folder names a dataset folder"
    found: list[ChatFile] = []
    others: list[ChatFile] = []
    problems: list[str] = []
    for path in step.files:
        whole = step.folder / path
        name = whole.relative_to(step.folder).as_posix()
        if whole.suffix.lower() == ".zip":
            try:
                members = _members(whole, name)
            except DataError as error:
                problems += error.lines
                continue
        else:
            members = [ChatFile(whole, name, whole.stat().st_size)]
        found += [member for member in members if member.ending in endings]
        others += [member for member in members if member.ending not in endings]
    problems += filter(None, map(_wrong, found))
    if problems:
        raise DataError(*problems)
    return found, others


def _members(path: Path, name: str) -> list[ChatFile]:
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError) as error:
        raise DataError(f"{shown(path)}: not a zip archive, or cut off ({error}). Export it again.") from error
    return [
        ChatFile(path, f"{name}/{member.filename}", member.file_size, archive, member)
        for member in sorted(archive.infolist(), key=lambda member: member.filename)
        if not member.is_dir() and not _hidden(member.filename)
    ]


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _wrong(file: ChatFile) -> str | None:
    if file.member is None:
        return None
    if file.member.flag_bits & 1:
        return f"{file.shown}: locked with a password. Unpack the archive and remove it."
    if file.size > SMALL and file.size > ABSURD * max(file.member.compress_size, 1):
        return (
            f"{file.shown}: {file.size} bytes packed in {file.member.compress_size}: no chat is so alike. "
            "Remove the archive, or unpack it if you trust it."
        )
    return None


def lines(file: ChatFile, advance: Advance = lambda amount: None) -> Iterator[tuple[int, str]]:
    """A text file's lines with their numbers, without their ends; only line feeds end a line, or CRLF where the first
    does. Bytes that are no UTF-8 become lone surrogates, U+DC80 to U+DCFF.
    """
    number, returns = 0, False
    for some in line_lists(file, advance):
        returns = some[0].endswith("\r") if number == 0 else returns
        for line in some:
            number += 1
            yield number, line.removesuffix("\r") if returns else line


def line_lists(file: ChatFile, advance: Advance = lambda amount: None) -> Iterator[list[str]]:
    """What stands between the line feeds of a file, as many at a time as were read at once."""
    held, left = [""], file.size
    with file.open() as stream:
        text = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
        while block := text.read(BLOCK):
            advance(len(block))
            left -= len(block)
            if "\n" not in block:
                held.append(block)
                continue
            whole = ("".join(held) + block).split("\n")
            held = [whole.pop()]
            yield whole
    last = "".join(held)
    if last:
        yield [last]
    advance(max(left, 0))


def is_utf8(text: str) -> bool:
    """Whether a text that `lines` has read was UTF-8."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
