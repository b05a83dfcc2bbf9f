"""Texts that are nearly the same as an earlier one: MinHash signatures find the candidates, their shingles decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from runner.step import Advance

Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]

SIGNATURE = 128
SHINGLE = 5  # characters
FOUND = 0.98  # of the pairs that are just alike enough
PREDECESSORS = 8  # of a row in one bucket: full buckets cost no more than that
SEED = 1
BATCH = 100_000  # characters, each of which costs some sixty bytes as a shingle


def shingles(text: str) -> list[str]:
    """The runs of five characters in a text, its case and its white space evened out; may hold one twice."""
    plain = " ".join(text.casefold().split())
    return [plain[at : at + SHINGLE] for at in range(len(plain) - SHINGLE + 1)] or [plain]


def likeness(one: str, other: str) -> float:
    """The share of all their shingles that two texts have in common (Jaccard): 1.0 for equal ones."""
    first, second = set(shingles(one)), set(shingles(other))
    return len(first & second) / len(first | second)


def keys(texts: Iterable[tuple[str, int]], above: float, advance: Advance = lambda amount=1, note="": None) -> Keys:
    """Bucket keys of (text, group) pairs, shape (texts, bands): two rows of one group that share any are candidates."""
    size = rows_a_band(above)
    bands = SIGNATURE // size
    made = [np.empty((0, bands), dtype=np.uint64)]
    for batch in _batches(texts):
        signs = RMinHash.digests_from_token_sets([shingles(text) for text, _ in batch], SIGNATURE, SEED)
        groups = np.array([group for _, group in batch], dtype=np.uint64)
        made.append(_fold(np.array(signs, dtype=np.uint64)[:, : bands * size].reshape(-1, bands, size), groups))
        advance(len(batch))
    return np.concatenate(made)


def _batches(texts: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    batch: list[tuple[str, int]] = []
    size = 0
    for text, group in texts:
        batch.append((text, group))
        size += len(text)
        if size > BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fold(signs: Keys, groups: Keys) -> Keys:
    """One number a band, mixed by multiplication (wrapping round at 64 bits)."""
    made: Keys = np.add(groups[:, None], np.arange(signs.shape[1], dtype=np.uint64), dtype=np.uint64)
    for place in range(signs.shape[2]):
        made = (made ^ signs[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
        made ^= made >> np.uint64(29)
    return made


def rows_a_band(above: float) -> int:
    """The longest band with which at least FOUND of the pairs that are alike by `above` share a bucket."""
    fits = [size for size in range(1, 33) if 1 - (1 - above**size) ** (SIGNATURE // size) >= FOUND]
    return max(fits)


def candidates(held: Keys) -> Numbers:
    """Sorted pairs (row, earlier row) that share a bucket, shape (pairs, 2)."""
    found = [np.empty(0, dtype=np.int64)]
    for band in range(held.shape[1]):
        order = np.argsort(held[:, band], kind="stable")
        column = held[order, band]
        for step in range(1, PREDECESSORS + 1):
            same = column[step:] == column[:-step]
            if not same.any():
                break
            found.append(np.unique(order[step:][same] * len(held) + order[:-step][same]))
    pairs = np.unique(np.concatenate(found))
    return np.stack(np.divmod(pairs, max(len(held), 1)), axis=1)


def first_alike(pairs: Numbers, rows: int, text: Callable[[int], str], above: float) -> Numbers:
    """For each row the number of the earlier kept row that it repeats, or its own number.

    A candidate that is no longer kept stands for the row that it repeats. `text` gives the text of a row.
    """
    first = np.arange(rows, dtype=np.int64)
    for row, found in groupby(pairs.tolist(), key=itemgetter(0)):
        own = text(row)
        for kept in sorted({int(first[earlier]) for _, earlier in found}):
            if likeness(own, text(kept)) >= above:
                first[row] = kept
                break
    return first
