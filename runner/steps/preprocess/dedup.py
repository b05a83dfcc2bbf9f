"""Rows without those that repeat an earlier one: the same text, nearly the same text, or nearly the same meaning."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, canonical
from runner.step import Out, Step
from runner.steps.preprocess._expressions import where
from runner.steps.preprocess._same import listed, name, shared
from runner.steps.preprocess._shelf import Shelf

HELD_OUT_FIRST = ("test", "validation", "train")
ABOVE = {"near": 0.8, "meaning": 0.95}
LEAST = {"near": 0.5, "meaning": 0.5}
REASONS = {
    "exact": "the same text as an earlier row",
    "near": "nearly the same text as an earlier row",
    "meaning": "nearly the same meaning as an earlier row",
}


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows that repeat none before them, as they are; the others are rejected with the id of the row that they repeat.

    Rows are read twice; memory holds numbers and digests, never the rows. Raises StepError where a key does not fit the
    method, DataError where a row has no text or its group is unknown.
    """
    above = _above(step)
    parts: list[str | None] = [part for part in HELD_OUT_FIRST if part in step.parts()] or [None]
    with Shelf(out.folder) as shelf:
        texts = _Texts(step, parts, shelf)
        found, notes = _search(step, out, texts, above)
    kept: dict[int, str] = {}
    groups: Counter[int] = Counter()
    rows = ((part, row) for part in parts for row in step.rows(part))
    with ExitStack() as files, out.progress("writing", len(texts.first)) as advance:
        writers = {part: files.enter_context(out.rows(part)) for part in parts}
        for number, (part, row) in enumerate(rows):
            same = texts.first[number]
            first = found.get(same, same)
            if first == number:
                kept[number] = name(row)
                writers[part].write(row)
            else:
                groups[first] += 1
                reason = REASONS[step.params["method"] if same == number else "exact"]
                out.reject({**row, "repeats": kept[first]}, reason)
            advance(1)
    _refuse_nothing(step, {part: writer.count for part, writer in writers.items()})
    return _facts(kept, groups, notes)


def _above(step: Step) -> float:
    method, above = step.params["method"], step.params.get("above")
    if method == "exact":
        misplaced = [key for key in ("above", "model") if key in step.params]
        if misplaced:
            raise StepError(
                f"{step.name}.{misplaced[0]}: method: exact has no use for it. Set method: near or meaning."
            )
        return 1.0
    above = ABOVE[method] if above is None else above
    if not LEAST[method] <= above <= 1:
        raise StepError(
            f"{step.name}.above: {above} is outside {LEAST[method]} to 1 for method: {method}; "
            "below that most rows would count as alike."
        )
    if method == "near" and "model" in step.params:
        raise StepError(f"{step.name}.model: method: near compares letters and needs no model. Set method: meaning.")
    return float(above)


class _Texts:
    """What the first reading keeps: of each row the first one with the same text, and the distinct texts on disk.

    first:  for each row the number of the first row with the same text in its group, or its own number
    rows:   the numbers of the distinct rows; groups: of each of these the number of its group
    """

    def __init__(self, step: Step, parts: list[str | None], shelf: Shelf) -> None:
        self.first = array("q")
        self.rows = array("q")
        self.groups = array("q")
        self._shelf = shelf
        self._read(step, parts, listed(step.params.get("same")))

    def _read(self, step: Step, parts: list[str | None], same: list[str]) -> None:
        seen: dict[bytes, int] = {}
        groups: dict[str, int] = {}
        for row in (row for part in parts for row in step.rows(part)):
            group = shared(row, same, "same")
            content = _content(step, row)
            digest = hashlib.sha256(f"{group}\n{content}".encode()).digest()[:16]
            number = len(self.first)
            self.first.append(seen.setdefault(digest, number))
            if self.first[number] == number and step.params["method"] != "exact":
                self.rows.append(number)
                self.groups.append(groups.setdefault(group, len(groups)))
                self._shelf.add({"text": content})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> str:
        """A distinct text by its place in `rows`."""
        return str(self._shelf[number]["text"])

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))


def _content(step: Step, row: Row) -> str:
    """What is compared: the ready vector, the text, or what is said in the messages."""
    if _ready(step):
        vector = row.get("embedding")
        if not isinstance(vector, list) or not vector or not all(isinstance(item, int | float) for item in vector):
            raise DataError(f"{where(row)}: column 'embedding' is no list of numbers. Fill it, or name a model.")
        return canonical(vector)
    value = row.get("text", row.get("messages"))
    if value is None:
        raise DataError(f"{where(row)}: neither text nor messages. Map the column to compare: columns: {{text: …}}.")
    if isinstance(value, list) and all(isinstance(item, dict) and "content" in item for item in value):
        return "\n".join(f"{item.get('role')}: {item['content']}" for item in value)
    return value if isinstance(value, str) else canonical(value)


def _ready(step: Step) -> bool:
    return step.params["method"] == "meaning" and "model" not in step.params


def _search(step: Step, out: Out, texts: _Texts, above: float) -> tuple[dict[int, int], list[str]]:
    """The distinct rows that repeat another one, each with the number of that row, and notes. The libraries come late."""
    if step.params["method"] == "exact" or not len(texts):
        return {}, []
    notes: list[str] = []
    if step.params["method"] == "near":
        from runner.steps.preprocess import _near

        with out.progress("comparing", len(texts)) as advance:
            keys = _near.keys(zip(texts, texts.groups, strict=True), above, advance)
        first = _near.first_alike(_near.candidates(keys), len(texts), texts.__getitem__, above)
    else:
        from runner.steps.preprocess import _meaning

        with tempfile.TemporaryFile(dir=out.folder) as spool:
            vectors, notes = (
                _meaning.ready(texts, spool) if _ready(step) else _meaning.embedded(step, out, texts, len(texts), spool)
            )
            first = _meaning.first_alike(vectors, texts.groups, above)
    pairs = zip(texts.rows, first.tolist(), strict=True)
    return {row: texts.rows[place] for row, place in pairs if texts.rows[place] != row}, notes


def _refuse_nothing(step: Step, counts: dict[str | None, int]) -> None:
    for part, count in counts.items():
        if not count:
            told = "its rows all repeat rows of held-out parts" if part else "no rows came in"
            raise DataError(
                f"{step.name}{f'.{part}' if part else ''}: no row is left: {told}. Split after dedup, or by group."
            )


def _facts(kept: dict[int, str], groups: Counter[int], notes: list[str]) -> dict[str, Any]:
    largest = sorted(groups.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    table = [[kept[first], count + 1] for first, count in largest]
    return {
        "metrics": {
            "groups": len(groups),
            "repeats": groups.total(),
            "repeats_share": _share(groups.total(), len(kept)),
        },
        "tables": [{"title": "Largest groups of repeats", "columns": ["kept", "rows"], "rows": table}] if table else [],
        "notes": notes,
    }


def _share(repeats: int, kept: int) -> float:
    return round(repeats / (repeats + kept), 4) if kept else 0.0
