"""`evaluate: score`: what a classifier or regressor says of rows without truth, row by row and group by group."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from runner import models, scorers
from runner.errors import DataError
from runner.files import Row, where
from runner.scorers import Scorer, Scores
from runner.step import Out, Step, listed, pick
from runner.steps._targets import text_of
from runner.steps.evaluate import _asked, _groups
from runner.steps.evaluate._groups import Group, Sums

WINDOW = 2048


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows with `scores` and `predicted`, one a model where there are several. Raises DataError where none has a text."""
    models.prepare(0)
    by = listed(step.params.get("by"))
    groups: dict[str, dict[Group, Sums]] = {}
    notes: list[str] = []
    with out.rows() as rows:
        for at, model in enumerate(step.models["model"]):
            scorer = scorers.load(model, step.artifacts, out.log)
            held = groups.setdefault(model.name, {})
            several = {"model": model.name} if len(step.models["model"]) > 1 else {}
            with out.progress(f"{model.name} scores", sum(1 for _ in _usable(step, None))) as advance:
                for row, scores in _scored(step, scorer, None if at else out, advance):
                    predicted = scorer.says(scores)
                    rows.write({**row, **several, "scores": scores, "predicted": predicted})
                    held.setdefault(_group(row, by), Sums()).add(scores, predicted)
            notes += scorer.notes()
        if not rows.count:
            raise DataError(f"{step.name}.from: no row has a text to score. Map it: columns: {{text: …}}.")
    groups = {
        name: dict(sorted(held.items(), key=lambda item: _groups.order(item[0]))) for name, held in groups.items()
    }
    return {
        "metrics": {name: _groups.figures(held) for name, held in groups.items()},
        "tables": [_groups.table(name, by, held) for name, held in groups.items()],
        "plots": [plot for name, held in groups.items() for plot in _groups.plots(name, by, held)],
        "notes": notes,
        "hardware": _asked.hardware(),
    }


def _usable(step: Step, out: Out | None) -> Iterator[tuple[Row, str, str | None]]:
    pairs = _asked.has_pairs(step)
    for part in step.parts() or (None,):
        for row in step.rows(part):
            try:
                yield row, *text_of(row, pairs)
            except ValueError as reason:
                if out:
                    out.reject(row, str(reason))


def _scored(step: Step, scorer: Scorer, out: Out | None, advance: Any) -> Iterator[tuple[Row, Scores]]:
    held = _usable(step, out)
    while window := list(islice(held, WINDOW)):
        rows, texts, seconds = (list(column) for column in zip(*window, strict=True))
        pairs = None if seconds[0] is None or scorer.pairs is False else seconds
        for row, scores in zip(rows, scorer.scores(texts, pairs, advance), strict=True):
            yield row, {label: round(value, 6) for label, value in scores.items()}


def _group(row: Row, by: list[str]) -> Group:
    try:
        return tuple(pick(row, name) for name in by)
    except (KeyError, TypeError) as error:
        raise DataError(f"{where(row)}: lacks a column of by: ({', '.join(by)}). Drop such rows before.") from error
