"""What a kind is given (Step) and what it makes (Out). A kind is a module with `run(step, out) -> facts`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import DataError
from runner.files import Row, RowWriter, dumps, read_rows, where

PARTS = ("train", "validation", "test")
WHOLE = "rows"
PROVENANCE = "provenance.jsonl"  # what each row is from
UNREAD = ("rejected.jsonl", PROVENANCE)  # a step's files of rows that no other reads


@dataclass(frozen=True)
class Input:
    """One finished step that another reads.

    columns: constants added to every row (the matrix keys that fan in)
    named:   what the recipe calls it, with its part: one name may mean several steps, the siblings of a matrix
    """

    step: str
    folder: Path
    part: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    named: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a whole split that is read whole; () for plain rows or a single part."""
        if self.part:
            return ()
        return tuple(part for part in PARTS if (self.folder / f"{part}.jsonl").is_file())

    def rows(self, part: str | None = None) -> Iterator[Row]:
        path = self.folder / f"{part or self.part or WHOLE}.jsonl"
        if not path.is_file():
            raise DataError(f"{path}: {self.step} has no part {part or self.part or WHOLE!r}.")
        for row in read_rows(path):
            yield {**row, **self.columns}


@dataclass(frozen=True)
class Model:
    """What answers or is trained: an entry of `models:`, or a training or merge step over its base.

    entry:  the keys of the `models:` entry (load, bits, endpoint…), {} for a trained one
    folder: where a trained model or an adapter lies, None for any other entry
    base:   for an adapter, the model under it
    files:  for an entry that names a folder, the digests of what is in it
    """

    name: str
    entry: dict[str, Any]
    folder: Path | None = None
    base: Model | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoding:
    """How a model answers: the mode's own keys with defaults filled in, and the models and prompts that it names."""

    name: str
    mode: str
    params: dict[str, Any]
    models: dict[str, tuple[Model, ...]] = field(default_factory=dict)
    prompts: dict[str, Prompt] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A named prompt: one or more turns of {system, user, prefill, assistant} templates, and the files that they include."""

    name: str
    turns: tuple[dict[str, str], ...]
    includes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step, resolved: everything a kind may know. References are keyed by the path of the key that holds them."""

    name: str
    verb: str
    kind: str
    params: dict[str, Any]
    artifacts: Path
    matrix: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[Input, ...]] = field(default_factory=dict)
    models: dict[str, tuple[Model, ...]] = field(default_factory=dict)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    decodings: dict[str, Decoding] = field(default_factory=dict)
    learned: Prompt | None = None
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    shard: tuple[int, int] | None = None  # only this share of the rows: the first of three is (1, 3)
    joins: tuple[Path, ...] = ()  # the folders of all shares, to be put together

    def parts(self, of: str = "from") -> tuple[str, ...]:
        """The parts of a whole split that `of:` reads, () where it reads plain rows."""
        found = [entry.parts for entry in self.inputs.get(of, ())]
        return found[0] if found else ()

    def rows(self, part: str | None = None, of: str = "from") -> Iterator[Row]:
        """The rows of a key, in its order. `part` picks one of a whole split; `columns:` is for the rows of `from:`."""
        mapping = (self.params.get("columns") or {}) if of == "from" else {}
        for entry in self.inputs.get(of, ()):
            for row in entry.rows(part):
                yield (
                    {**row, **{standard: _mapped(row, ours) for standard, ours in mapping.items()}} if mapping else row
                )


def _mapped(row: Row, path: str | list[str]) -> Any:
    try:
        return pick(row, path)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where(row)}: has no value at {path!r}, which columns: names. Drop such rows before."
        ) from error


def listed(value: str | Sequence[str] | None) -> list[str]:
    """One name, several or none as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def pick(row: Row, path: str | list[str]) -> Any:
    """A column, or a value inside it: 'profile.tone'; several for a list. KeyError where a level is missing."""
    if isinstance(path, list):
        return [pick(row, one) for one in path]
    value: Any = row
    for key in path.split("."):
        value = value[key]
    return value


Advance = Callable[..., None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]


def no_bar(label: str, total: int) -> AbstractContextManager[Advance]:
    """A progress bar that shows nothing."""
    return nullcontext(lambda amount=1, note="": None)


class Out:
    """The folder that a step fills: rows, rejected rows, a log, and progress for whoever watches."""

    def __init__(self, folder: Path, bar: Bar = no_bar, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder
        self.progress = bar
        self._say = say
        self._files = ExitStack()
        self._rejected: RowWriter | None = None

    def rows(self, part: str | None = None) -> RowWriter:
        """A writer for the step's rows, or for one part of a split; use it in a with statement."""
        return RowWriter(self.folder / f"{part or WHOLE}.jsonl")

    def reject(self, row: Row, reason: str) -> None:
        """Keep a dropped row with its reason in rejected.jsonl; step.json counts them by reason."""
        if self._rejected is None:
            self._rejected = self._files.enter_context(RowWriter(self.folder / "rejected.jsonl"))
        self._rejected.write({"reason": reason, "source": row.get("source"), "row": row})

    def log(self, line: str) -> None:
        """A line for step.log and for the terminal."""
        with (self.folder / "step.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        self._say(line)

    def side(self, row: Row) -> None:
        """What differs from run to run (request ids, times): a line of side.jsonl, which no digest covers."""
        with (self.folder / "side.jsonl").open("a", encoding="utf-8") as side:
            side.write(dumps(row) + "\n")

    def write_json(self, name: str, value: Any) -> None:
        """A JSON file of the step's own."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8", newline="\n")

    def close(self) -> None:
        self._files.close()
