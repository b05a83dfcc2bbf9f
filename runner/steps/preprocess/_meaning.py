"""Vectors of texts in a file that memory need not hold, and which of them are nearly the same as an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from runner.errors import DataError
from runner.step import Out, Step
from runner.steps.preprocess import _cells

Vectors = NDArray[np.float32]
BATCH = 1024


def ready(texts: Iterable[str], spool: IO[bytes]) -> tuple[Vectors, list[str]]:
    """Vectors written as JSON lists, scaled to length one. Raises DataError where their sizes differ."""
    vectors = (np.array(json.loads(text), dtype=np.float32) for text in texts)
    first = next(vectors)
    count = 0
    for vector in chain([first], vectors):
        if vector.shape != first.shape:
            raise DataError(
                f"embedding: {len(vector)} numbers in one row, {len(first)} in another. Use one model for all."
            )
        length = float(np.linalg.norm(vector))
        spool.write((vector / (length or 1)).astype(np.float32).tobytes())
        count += 1
    return _mapped(spool, count, len(first)), []


def embedded(step: Step, out: Out, texts: Iterable[str], total: int, spool: IO[bytes]) -> tuple[Vectors, list[str]]:
    """Vectors by the step's model."""
    from runner import embeddings

    encoder = embeddings.load(step.models["model"][0], step.artifacts, out.log)
    count = 0
    with out.progress("embedding", total) as advance:
        for batch in _batches(texts):
            spool.write(embeddings.embed(encoder, batch, advance).tobytes())
            count += len(batch)
    return _mapped(spool, count, encoder.size), encoder.notes()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(texts)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def _mapped(spool: IO[bytes], rows: int, size: int) -> Vectors:
    spool.flush()
    return np.memmap(spool, dtype=np.float32, mode="r", shape=(rows, size))


def first_alike(vectors: Vectors, groups: Any, above: float) -> NDArray[np.int64]:
    """For each vector the number of the earlier kept one of its group that it repeats, or its own number."""
    numbers = np.array(groups, dtype=np.int64)
    if not numbers.any():
        return _cells.first_alike(vectors, above)
    first = np.arange(len(vectors), dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        first[members] = members[_cells.first_alike(np.asarray(vectors[members]), above)]
    return first
