"""Rows that mean nearly the same as an earlier one, found by cells: never every row against every other."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]

BLOCK = 4096  # rows that are compared at a time
FEW = 4096  # so many rows are compared with all others
PROBES = 8  # cells that a row is looked for in
ROUNDS = 6
A_CELL = 64  # rows of the sample, a cell


def first_alike(vectors: Vectors, above: float) -> Numbers:
    """For each row the number of the earlier kept row that it repeats (cosine of at least `above`), or its own number.

    vectors: (rows, size), of unit length; may lie in a file. A row is kept unless it repeats a kept one, so that
    likeness is not passed on. Work grows with rows to the power of 1.5: each row is compared with what was kept in the
    few cells nearest to it; two like rows whose cells are not neighbours are missed (measured: 1 pair in 100).
    """
    centres = _centres(vectors)
    probes = min(PROBES, len(centres))
    members: list[list[int]] = [[] for _ in centres]
    first = np.arange(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK])
        near = _nearest(block, centres, probes)
        for row, home in enumerate(near[:, 0].tolist()):
            members[home].append(start + row)
        _settle(first, _likes(vectors, block, start, near, members, above))
        for home in np.unique(near[:, 0]).tolist():
            members[home] = [row for row in members[home] if first[row] == row]
    return first


def _settle(first: Numbers, likes: Numbers) -> None:
    """Each row of pairs (row, earlier row), sorted: the row repeats the first of its earlier rows that is kept."""
    for row, earlier in likes.tolist():
        if first[row] == row and first[earlier] == earlier:
            first[row] = earlier


def _likes(
    vectors: Vectors, block: Vectors, start: int, near: Numbers, members: list[list[int]], above: float
) -> Numbers:
    """Sorted pairs (row, earlier row) of a block's rows and the members of the cells near them."""
    found: list[Numbers] = [np.empty((0, 2), dtype=np.int64)]
    rows = np.argsort(near.ravel(), kind="stable")
    edges = np.searchsorted(near.ravel()[rows], np.arange(len(members) + 1))
    for cell, held in enumerate(members):
        asking = rows[edges[cell] : edges[cell + 1]] // near.shape[1]
        if not len(asking) or not held:
            continue
        there = np.array(held, dtype=np.int64)
        alike, which = np.nonzero(block[asking] @ np.asarray(vectors[there]).T >= above)
        pairs = np.stack([asking[alike] + start, there[which]], axis=1)
        found.append(pairs[pairs[:, 1] < pairs[:, 0]])
    return np.unique(np.concatenate(found), axis=0)


def _nearest(block: Vectors, centres: Vectors, count: int) -> Numbers:
    """The `count` nearest centres of each row, the nearest first."""
    likeness = block @ centres.T
    if count == 1:
        return likeness.argmax(axis=1)[:, None]
    chosen = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(likeness, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)


def _centres(vectors: Vectors) -> Vectors:
    """Centres by spherical k-means on an even sample; one cell where there are few rows."""
    if len(vectors) <= FEW:
        return np.ones((1, vectors.shape[1]), dtype=np.float32)
    cells = isqrt(len(vectors))
    sample = np.asarray(vectors[_spread(len(vectors), cells * A_CELL)])
    centres = sample[_spread(len(sample), cells)]
    for _ in range(ROUNDS):
        homes = np.concatenate([_nearest(part, centres, 1)[:, 0] for part in _blocks(sample)])
        order = np.argsort(homes, kind="stable")
        used, starts = np.unique(homes[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centres = centres.copy()
        centres[used] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return centres


def _spread(total: int, count: int) -> Numbers:
    """At most `count` numbers below `total`, drawn once and for all, in order."""
    return np.sort(np.random.default_rng(0).permutation(total)[:count])


def _blocks(vectors: Vectors) -> list[Any]:
    return [vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK)]
