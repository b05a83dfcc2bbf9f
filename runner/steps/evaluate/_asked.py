"""Rows put to trained classifiers and regressors, part by part: what evaluation and scoring share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner import models, scorers
from runner.errors import DataError, StepError
from runner.files import Row
from runner.step import PARTS, Model, Out, Step, pick
from runner.steps._targets import text_of

Values = NDArray[np.float32]
WINDOW = 4096


@dataclass(frozen=True)
class Case:
    """One row with its text, its text_pair or None, and its truth."""

    row: Row
    text: str
    pair: str | None
    truth: Any


@dataclass
class Answers:
    """What one model says of every part: arrays of shape (rows, labels), and the notes on how it read them."""

    name: str
    predict: str
    labels: list[str]
    values: dict[str, Values]
    notes: list[str]


def names(step: Step) -> list[str]:
    """The parts of the rows: those of a whole split, else the one that they come from, else rows."""
    named = {one.part for one in step.inputs.get("from", ())}
    one = (named.pop() if len(named) == 1 else None) or "rows"
    return list(step.parts()) or [one]


def held_out(parts: list[str]) -> str:
    """The part that counts: test, else validation, else the last one."""
    return next((part for part in reversed(PARTS) if part in parts), parts[-1])


def rows_of(step: Step, part: str | None, of: str) -> Iterator[Row]:
    """The rows of a key, its columns mapped as those of from: are."""
    mapping = (step.params.get("columns") or {}) if of != "from" else {}
    for row in step.rows(part, of):
        yield {**row, **{standard: pick(row, ours) for standard, ours in mapping.items()}} if mapping else row


def has_pairs(step: Step, of: str = "from") -> bool:
    """Whether its rows have text_pair, by the first one."""
    part = step.parts(of)[0] if step.parts(of) else None
    first = next(rows_of(step, part, of), {})
    return first.get("text_pair") is not None


def cases(step: Step, part: str, truth: Callable[[Row], Any], out: Out | None = None) -> Iterator[Case]:
    """The usable rows of a part, at most `limit:` of them; the others go to `out`, with the reason."""
    whole = part if step.parts() else None
    pairs = has_pairs(step)
    rows: Iterator[Row] = step.rows(whole)
    for row in islice(rows, step.params.get("limit")):
        try:
            yield Case(row, *text_of(row, pairs), truth(row))
        except ValueError as reason:
            if out:
                out.reject(row, str(reason))


def count(step: Step, truth: Callable[[Row], Any], out: Out) -> dict[str, int]:
    """How many usable rows each part has; the others are rejected. Raises DataError for a part without any."""
    made = {part: sum(1 for _ in cases(step, part, truth, out)) for part in names(step)}
    for part, rows in made.items():
        if not rows:
            advice = "See rejected.jsonl, or ask for a part that has rows."
            raise DataError(f"{step.name}.from: {part}: no row with a text and a label to judge. {advice}")
    return made


def ask(
    step: Step, model: Model, sizes: dict[str, int], truth: Callable[[Row], Any], kinds: tuple[str, ...], out: Out
) -> Answers:
    """Load a model, put every part's rows to it, and let it go. Raises StepError where it predicts something else."""
    scorer = scorers.load(model, step.artifacts, out.log)
    if scorer.predict not in kinds:
        other = "regression" if scorer.predict.startswith("number") else "classification"
        raise StepError(f"{step.name}.model: {model.name} predicts {scorer.predict}. Use evaluate: {other}.")
    made = Answers(model.name, scorer.predict, scorer.labels, {}, [])
    for part, size in sizes.items():
        found: list[Values] = []
        held = cases(step, part, truth)
        with out.progress(f"{model.name} on {part}", size) as advance:
            while window := list(islice(held, WINDOW)):
                pairs = [str(one.pair) for one in window] if scorer.pairs is not False and window[0].pair else None
                found.append(scorer.values([one.text for one in window], pairs, advance).astype(np.float32))
        made.values[part] = np.concatenate(found)
    made.notes = scorer.notes()
    return made


def hardware() -> dict[str, Any]:
    """Where the models ran."""
    return {"device": models.device()}
