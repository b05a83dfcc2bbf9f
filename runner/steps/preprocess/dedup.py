"""Rows without those that repeat an earlier one: the same text, nearly the same text, or nearly the same meaning."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from typing import Any

from runner.errors import DataError, StepError
from runner.step import Out, Step
from runner.steps.preprocess._dedup_texts import Texts
from runner.steps.preprocess._same import name
from runner.steps.preprocess._shelf import Shelf

HELD_OUT_FIRST = ("test", "validation", "train")
ABOVE = {"near": 0.8, "meaning": 0.95}
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
    _check(step)
    parts: list[str | None] = [part for part in HELD_OUT_FIRST if part in step.parts()] or [None]
    with Shelf(out.folder) as shelf, tempfile.TemporaryFile(dir=out.folder) as spool:
        texts = Texts(step, parts, shelf, spool)
        repeats, notes = _search(step, out, texts)
    copies = {number: first for number, first in enumerate(texts.first) if first != number}
    repeats |= {number: repeats.get(first, first) for number, first in copies.items()}
    kept, groups = dict.fromkeys(repeats.values(), ""), Counter(repeats.values())
    rows = ((part, row) for part in parts for row in step.rows(part))
    with ExitStack() as files, out.progress("writing", len(texts.first)) as advance:
        writers = {part: files.enter_context(out.rows(part)) for part in parts}
        for number, (part, row) in enumerate(rows):
            if number in repeats:
                reason = REASONS["exact" if number in copies else step.params["method"]]
                out.reject({**row, "repeats": kept[repeats[number]]}, reason)
            else:
                writers[part].write(row)
                if number in kept:
                    kept[number] = name(row)
            advance(1)
    _refuse_nothing(step, {part: writer.count for part, writer in writers.items()})
    return _facts(kept, groups, len(texts.first), notes)


def _check(step: Step) -> None:
    method = step.params["method"]
    idle = {"exact": ("above", "model"), "near": ("model",), "meaning": ()}[method]
    for key in idle:
        if key in step.params:
            other = "near or meaning" if key == "above" else "meaning"
            raise StepError(f"{step.name}.{key}: method: {method} has no use for it. Set method: {other}.")


def _search(step: Step, out: Out, texts: Texts) -> tuple[dict[int, int], list[str]]:
    """The distinct rows that repeat another one, each with the number of that row, and notes. The libraries come late."""
    method = step.params["method"]
    if method == "exact" or not len(texts):
        return {}, []
    above = float(step.params.get("above", ABOVE[method]))
    notes: list[str] = []
    if method == "near":
        from runner.steps.preprocess import _near

        with out.progress("comparing", len(texts)) as advance:
            keys = _near.keys(zip(texts, texts.groups, strict=True), above, advance)
        first = _near.first_alike(_near.candidates(keys), len(texts), texts.__getitem__, above)
    else:
        from runner.steps.preprocess import _meaning

        if texts.size:
            vectors = _meaning.ready(texts.spool, len(texts), texts.size)
        else:
            vectors, notes = _meaning.embedded(step, out, texts, len(texts), texts.spool)
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


def _facts(kept: dict[int, str], groups: Counter[int], rows: int, notes: list[str]) -> dict[str, Any]:
    largest = sorted(groups.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    table = [[kept[first], count + 1] for first, count in largest]
    share = round(groups.total() / rows, 4)
    return {
        "metrics": {"groups": len(groups), "repeats": groups.total(), "repeats_share": share},
        "tables": [{"title": "Largest groups of repeats", "columns": ["kept", "rows"], "rows": table}] if table else [],
        "notes": notes,
    }
