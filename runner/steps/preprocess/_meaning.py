"""Vectors of texts in a file that memory need not hold, and which of them are nearly the same as an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from runner.step import Out, Step
from runner.steps.preprocess import _cells

Vectors = NDArray[np.float32]
BATCH = 1024


def ready(spool: IO[bytes], rows: int, size: int) -> Vectors:
    """Vectors that lie in a file, scaled to length one there; a vector of zeros stays."""
    spool.flush()
    vectors = np.memmap(spool, dtype=np.float32, mode="r+", shape=(rows, size))
    for start in range(0, rows, BATCH):
        block = vectors[start : start + BATCH]
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.float32(1e-12))
    return vectors


def embedded(step: Step, out: Out, texts: Iterable[str], total: int, spool: IO[bytes]) -> tuple[Vectors, list[str]]:
    """Vectors by the step's model, written to the file, and notes on them."""
    from runner import embeddings

    encoder = embeddings.load(step.models["model"][0], step.artifacts, out.log)
    with out.progress("embedding", total) as advance:
        for batch in _batches(texts):
            spool.write(embeddings.embed(encoder, batch, advance).tobytes())
    spool.flush()
    return np.memmap(spool, dtype=np.float32, mode="r", shape=(total, encoder.size)), encoder.notes()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(texts)
    while batch := list(islice(waiting, BATCH)):
        yield batch


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
