"""How far ratings can be trusted: intervals by bootstrap, agreement of several raters, and who wins a comparison."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import permutations
from statistics import fmean

import numpy as np
from scipy import stats


def interval(values: Sequence[float], seed: int, level: float = 0.95) -> tuple[float, float] | None:
    """The bootstrap interval of the mean (BCa, 2,000 resamples); None for fewer than two values.

    Where all values are equal it is that value: there is nothing to resample.
    """
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        made = stats.bootstrap(
            (np.asarray(values, float),),
            np.mean,
            n_resamples=2000,
            confidence_level=level,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(made.low), float(made.high)
    return (low, high) if low == low and high == high else (min(values), max(values))


def alpha(units: Sequence[Sequence[Hashable]], numbers: bool) -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability"): 1 - observed / expected disagreement.

    units: the values that each rated thing was given; those with one value count for nothing. numbers: the distance of
    two values is their squared difference, else 0 or 1. None where there is nothing to compare or only one value.
    """
    held = [unit for unit in units if len(unit) > 1]
    every = [value for unit in held for value in unit]
    if not held or len(set(every)) < 2:
        return None

    def far(first: Hashable, second: Hashable) -> float:
        return float(first - second) ** 2 if numbers else float(first != second)  # type: ignore[operator]

    counts = Counter(every)
    observed = sum(sum(far(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in held) / len(every)
    expected = sum(far(a, b) * counts[a] * counts[b] for a in counts for b in counts) / (len(every) * (len(every) - 1))
    return 1 - observed / expected


def win_rate(wins: Sequence[float], seed: int) -> dict[str, float]:
    """The share of comparisons won (a tie is half a win), with its interval and the p of a sign test without ties."""
    low, high = interval(wins, seed) or (wins[0], wins[0])
    decided = [win for win in wins if win != 0.5]
    p = float(stats.binomtest(sum(win == 1 for win in decided), len(decided)).pvalue) if decided else 1.0
    return {"rate": fmean(wins), "low": low, "high": high, "p": p}
