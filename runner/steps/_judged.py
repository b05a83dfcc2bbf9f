"""How right predictions are: figures by scikit-learn and SciPy, the same while training and in evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    matthews_corrcoef,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
)

Numbers = NDArray[Any]
MORE_IS_BETTER = {
    "loss": False,
    "accuracy": True,
    "macro_f1": True,
    "mae": False,
    "rmse": False,
    "r2": True,
    "spearman": True,
}


def of_classes(truth: Sequence[Any], said: Sequence[Any]) -> dict[str, float]:
    """Accuracy, F1 (mean over classes, and weighted by their rows), Matthews' correlation; all classes seen or said count."""
    return {
        "accuracy": float(accuracy_score(truth, said)),
        "macro_f1": float(f1_score(truth, said, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(truth, said, average="weighted", zero_division=0)),
        "mcc": float(matthews_corrcoef(truth, said)) if len({*truth, *said}) > 1 else 0.0,
    }


def by_class(truth: Any, said: Any, labels: Sequence[Any]) -> list[tuple[float, float, float, int]]:
    """Precision, recall, F1 and rows of each class."""
    found = precision_recall_fscore_support(truth, said, labels=list(labels), zero_division=0)
    return [(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*found, strict=True)]


def of_numbers(truth: Numbers, said: Numbers) -> dict[str, float]:
    """Mean absolute error, root of the mean squared error, R² and Spearman's rank correlation of one number.

    R² needs two different true values, Spearman's correlation two different predictions as well: else they are left out.
    """
    varies = len(truth) > 1 and float(np.ptp(truth)) > 0
    made = {
        "mae": float(mean_absolute_error(truth, said)),
        "rmse": math.sqrt(float(np.mean((np.asarray(truth) - np.asarray(said)) ** 2))),
    }
    if varies:
        made["r2"] = float(r2_score(truth, said))
    if varies and float(np.ptp(said)) > 0:
        made["spearman"] = float(spearmanr(truth, said).statistic)
    return made


def mean_of(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean over several outputs of each figure that all of them have."""
    names = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: sum(one[name] for one in figures) / len(figures) for name in names}
