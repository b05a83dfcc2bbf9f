"""Every file of a folder as a table, whatever its format: for readers of rows that are objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.errors import DataError, StepError
from runner.headers import encoding_of, form, saved_dataset
from runner.step import Step
from runner.steps.preprocess import _table_json, _table_text
from runner.steps.preprocess._reading import Source, look_alike, refuse, shown, sources
from runner.steps.preprocess._table_text import Record

TABLES = "a CSV, TSV, JSON, JSON Lines, Parquet or Arrow file, or a folder written by save_to_disk"
OBJECT = "one JSON object, or not JSON; a table is a list of objects, or an object a line"


@dataclass(frozen=True)
class Table:
    """One file with its format: csv, lines, list, parquet or arrow."""

    source: Source
    form: str
    encoding: str | None
    delimiter: str | None
    empty: bool

    @property
    def header(self) -> list[str] | None:
        """The columns of a CSV file; None for other formats, whose rows name their own."""
        with self._decoding():
            return _table_text.names(self.source, self.encoding, self.delimiter) if self.form == "csv" else None

    def records(self) -> Iterator[Record]:
        """The rows with their places. Raises DataError where nothing after a place can be read."""
        with self._decoding():
            yield from self._records()

    def _records(self) -> Iterator[Record]:
        if self.form == "csv":
            return _table_text.separated(self.source, self.encoding, self.delimiter)
        if self.form == "lines":
            return _table_json.lines(self.source, self.encoding, self.empty)
        if self.form == "list":
            return _table_json.entries(self.source, self.encoding, self.empty)
        from runner.steps.preprocess import _table_arrow  # loads pyarrow

        return _table_arrow.rows(self.source, self.empty)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError as error:
            asked = self.encoding or encoding_of(self.source.path)
            raise DataError(f"{self.source.shown}: not {asked} ({error}). Name its encoding: encoding: …") from error


def tables(step: Step) -> list[Table]:
    """The folder's tables. Raises DataError naming every file that is none."""
    params, encoding = step.params, encoding_asked(step)
    held = _saved(step, sources(step, TABLES))
    problems, made = [], []
    for source in held:
        what = None if source.path.suffix.lower() in (".parquet", ".arrow") else look_alike(source.path)
        kind = form(source.path)
        if what or not kind:
            json_like = source.path.suffix.lower() == ".json"
            problems.append(f"{source.shown}: {what or (OBJECT if json_like else 'no table')}. {_advice(what)}")
        else:
            empty = params.get("nan", "reject") == "empty"
            made.append(Table(source, kind, encoding, params.get("delimiter"), empty))
    refuse(problems)
    return made


def encoding_asked(step: Step) -> str | None:
    """The encoding that is asked for; UTF-8 may begin with a byte order mark."""
    asked = step.params.get("encoding")
    try:
        known = codecs.lookup(asked).name if asked else None
    except LookupError as error:
        raise StepError(f"{step.name}.encoding: no encoding '{asked}'. Examples: utf-8, cp1252, utf-16.") from error
    return "utf-8-sig" if known == "utf-8" else known


def _advice(what: str | None) -> str:
    return "Then try again." if what else "Choose others with files:, or move it out of the folder."


def _saved(step: Step, found: list[Source]) -> list[Source]:
    """The files with each saved dataset replaced by its data files, in its own order."""
    assert step.folder is not None
    made: list[Source] = []
    folders: dict[Path, None] = {}
    split = step.params.get("split")
    for source in found:
        if source.path.name == "dataset_dict.json":
            continue
        folder = saved_dataset(source.path)
        if folder is None:
            made.append(source)
        else:
            folders[folder] = None
    if split:
        _need_split(step, split, list(folders))
        folders = {folder: None for folder in folders if folder.name == split}
        made = []
    for folder in folders:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for entry in state.get("_data_files") or []:
            path = folder / Path(entry["filename"]).name
            made.append(Source(path, path.relative_to(step.folder).as_posix()))
    return made


def _need_split(step: Step, split: str, folders: list[Path]) -> None:
    assert step.folder is not None
    if split not in (folder.name for folder in folders):
        have = ", ".join(sorted(folder.name for folder in folders)) or "none: no folder written by save_to_disk is here"
        raise DataError(f"{shown(step.folder)}: no split '{split}'. There are: {have}.")
