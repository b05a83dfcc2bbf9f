"""What anyone could do without a model: the figures that a trained one must be compared with."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from runner.errors import DataError
from runner.files import Row
from runner.step import Step
from runner.steps._targets import text_of
from runner.steps.evaluate import _asked
from runner.steps.evaluate._asked import Case

FEATURES = 50_000  # the most frequent words
INSIDE = 4  # letters of a label that is looked for inside words
Said = dict[str, list[Any]]  # by part


def learned_from(step: Step) -> tuple[str, str | None] | None:
    """The key and part whose rows baselines learn from: baselines_from:, else the train part of from:; None for neither."""
    if step.inputs.get("baselines_from"):
        return "baselines_from", "train" if "train" in step.parts("baselines_from") else None
    if "train" in step.parts() or {one.part for one in step.inputs.get("from", ())} == {"train"}:
        return "from", "train" if step.parts() else None
    return None


def training(step: Step, place: tuple[str, str | None], truth: Callable[[Row], Any]) -> Iterator[tuple[str, Any]]:
    """Text and truth of the rows to learn from."""
    of, part = place
    pairs = _asked.has_pairs(step, of)
    for row in _asked.rows_of(step, part, of):
        try:
            text, pair = text_of(row, pairs)
            found = truth(row)
        except ValueError:
            continue
        yield joined(text, pair), found


def joined(text: str, pair: str | None) -> str:
    """A text and its pair as one."""
    return f"{text}\n\n{pair}" if pair is not None else text


def words(
    made: Pipeline,
    learn: Callable[[], Iterator[tuple[str, Any]]],
    cases: Callable[[str], Iterable[Case]],
    parts: Iterable[str],
) -> Said:
    """Fit on the bag of words of the rows to learn from, and what it says of each part."""
    truth = [found for _, found in learn()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            made.fit((text for text, _ in learn()), truth)
        except ValueError as error:
            if "empty vocabulary" in str(error):
                raise DataError("baselines: no text has a word. Leave words out of baselines:.") from error
            raise
    return {part: list(made.predict(joined(one.text, one.pair) for one in cases(part))) for part in parts}


def classifying() -> Pipeline:
    """Logistic regression on TF-IDF of words."""
    return make_pipeline(_vectors(), LogisticRegression(max_iter=1000))


def regressing() -> Pipeline:
    """Ridge regression on TF-IDF of words."""
    return make_pipeline(_vectors(), Ridge())


def _vectors() -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True, max_features=FEATURES, dtype=np.float32)


def majority(counts: Counter[str]) -> str:
    """The most frequent label, the first by name among equals."""
    return min(counts, key=lambda label: (-counts[label], label))


def drawn(counts: Counter[str], sizes: dict[str, int], seed: int) -> Said:
    """Labels by chance, as often as in the rows to learn from."""
    labels = sorted(counts)
    shares = np.array([counts[label] for label in labels]) / counts.total()
    chance = np.random.default_rng(seed)
    return {part: [labels[at] for at in chance.choice(len(labels), size, p=shares)] for part, size in sizes.items()}


def mentions(labels: Sequence[str], otherwise: str, cases: Iterable[Case]) -> tuple[list[str], int]:
    """The label that each text names most often, in whatever case, the first one among equals; how many texts name one.

    A label of four letters or more also counts inside a longer word (INTPs), a shorter one only as a word of its own.
    """
    ordered = sorted(labels, key=lambda label: (-len(label), label))
    names = [
        re.escape(label.lower()) if len(label) >= INSIDE else rf"\b{re.escape(label.lower())}\b" for label in ordered
    ]
    pattern, by_name = re.compile("|".join(names)), {label.lower(): label for label in labels}
    made, named = [], 0
    for one in cases:
        found = Counter(pattern.findall(joined(one.text, one.pair).lower()))
        named += bool(found)
        made.append(by_name[found.most_common(1)[0][0]] if found else otherwise)
    return made, named
