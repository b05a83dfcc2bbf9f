"""The passages nearest to a question, as many as a budget of words holds, from several sources at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner import embeddings
from runner.embeddings import Encoder, Vectors
from runner.errors import DataError
from runner.files import Row, where
from runner.step import Bar, Out, Step, listed, no_bar
from runner.steps.preprocess._expressions import need
from runner.steps.preprocess._same import shared
from runner.steps.preprocess._words import cut_after, word_count

BATCH = 512


@dataclass(frozen=True)
class Source:
    """The passages of one entry of `take:`: their texts, vectors and word counts, and which of them belong together."""

    column: str
    budget: int
    texts: list[str]
    vectors: Vectors
    words: NDArray[np.int64]
    groups: dict[str, NDArray[np.int64]]
    held: frozenset[str]


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows with a text more for each entry of `take:`: its nearest passages that fit the budget, the nearest first.

    A passage that no longer fits is passed over; one alone too long for the budget is cut. A row's `first` passage
    opens the column whose source holds it, or the first column. Raises DataError where nothing can be taken.
    """
    encoder = embeddings.load(step.models["model"][0], step.artifacts, out.log)
    sources = [_source(step, out.progress, column, encoder) for column in step.params["take"]]
    counts: Counter[tuple[str, str]] = Counter()
    for part in step.parts() or (None,):
        with out.rows(part) as rows:
            for batch in _batches(step.rows(part)):
                asked = embeddings.embed(encoder, [str(need(row, "query", "retrieve")) for row in batch])
                for row, vector in zip(batch, asked, strict=True):
                    rows.write({**row, **_taken(step, row, vector, sources, counts)})
        if not rows.count:
            raise DataError(f"{step.name}{f'.{part}' if part else ''}: no rows came in to find passages for.")
    return {"tables": [_table(sources, counts)], "notes": encoder.notes()}


def finder(step: Step, say: Callable[[str], None]) -> Callable[[Row], dict[str, str]]:
    """For chats: what takes a row with `query`, and the values that passages must have the same, to its columns."""
    encoder = embeddings.load(step.models["model"][0], step.artifacts, say)
    sources = [_source(step, no_bar, column, encoder) for column in step.params["take"]]

    def find(row: Row) -> dict[str, str]:
        return _taken(step, row, embeddings.embed(encoder, [str(row["query"])])[0], sources, Counter())

    return find


def _source(step: Step, progress: Bar, column: str, encoder: Encoder) -> Source:
    same = listed(step.params.get("same"))
    texts: list[str] = []
    groups: dict[str, list[int]] = {}
    # Not step.rows: `columns:` maps the columns of from:, not those of passages
    for row in chain.from_iterable(entry.rows() for entry in step.inputs[f"take.{column}.from"]):
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(
                f"{where(row)}: a passage for {step.name}.take.{column} has no text. Its rows need a column 'text'."
            )
        if text.strip():
            groups.setdefault(shared(row, same, "same"), []).append(len(texts))
            texts.append(text)
    if not texts:
        raise DataError(f"{step.name}.take.{column}: its source has no passages.")
    with progress(f"embedding {column}", len(texts)) as advance:
        vectors = embeddings.embed(encoder, texts, advance)
    words = np.array([word_count(text) for text in texts], dtype=np.int64)
    numbers = {group: np.array(members) for group, members in groups.items()}
    return Source(column, step.params["take"][column]["words"], texts, vectors, words, numbers, frozenset(texts))


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _taken(
    step: Step, row: Row, asked: Vectors, sources: list[Source], counts: Counter[tuple[str, str]]
) -> dict[str, str]:
    """The columns of one row."""
    same = listed(step.params.get("same"))
    group = shared(row, same, "same")
    first = row.get("first")
    if first is not None and not isinstance(first, str):
        raise DataError(
            f"{where(row)}: 'first' is no text. Map it to the column with the passage: columns: {{first: …}}."
        )
    home = next((source for source in sources if first in source.held), sources[0]) if first else None
    made = {}
    for source in sources:
        members = source.groups.get(group)
        if members is None:
            named = ", ".join(f"{column}: {row.get(column)}" for column in same)
            raise DataError(
                f"{where(row)}: {step.name}.take.{source.column} has no passage with {named}. Add some, or change same."
            )
        texts = _fitting(source, members, asked, first if source is home else None)
        counts[source.column, "passages"] += len(texts)
        counts[source.column, "words"] += sum(map(word_count, texts))
        counts[source.column, "rows"] += 1
        made[source.column] = step.params["between"].join(texts)
    return made


def _fitting(source: Source, members: NDArray[np.int64], asked: Vectors, first: str | None) -> list[str]:
    """The passages that the budget holds: `first`, then by nearness; the very first is cut where it alone is too long."""
    order = members[np.argsort(-(source.vectors[members] @ asked), kind="stable")]
    taken = [cut_after(first, source.budget)] if first else []
    left = source.budget - sum(map(word_count, taken))
    seen = {first}
    for number in order.tolist():
        text, size = source.texts[number], int(source.words[number])
        if text in seen or left <= 0:
            continue
        seen.add(text)
        if size <= left:
            taken.append(text)
            left -= size
        elif not taken:
            taken.append(cut_after(text, left))
            left = 0
    return taken


def _table(sources: list[Source], counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    rows = []
    for source in sources:
        total = counts[source.column, "rows"]
        means = [round(counts[source.column, what] / total, 1) for what in ("passages", "words")]
        rows.append([source.column, len(source.texts), *means, source.budget])
    return {
        "title": "Passages taken",
        "columns": ["column", "in the source", "passages a row", "words a row", "budget"],
        "rows": rows,
    }
