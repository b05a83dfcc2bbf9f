"""`evaluate: regression`: how near predicted numbers are, part by part, beside what anyone could do without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner import models
from runner.errors import DataError, StepError
from runner.files import Row
from runner.step import Out, Step
from runner.steps import _judged
from runner.steps._targets import numbers
from runner.steps.evaluate import _asked, _baselines
from runner.steps.evaluate._asked import Answers

KINDS = ("number", "numbers")
FIGURES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "spearman": "Spearman"}
Values = NDArray[Any]
Said = dict[str, Values]  # by part, of shape (rows, numbers)


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows {id, part, text, label, answers} and facts. Raises StepError or DataError where nothing can be compared."""
    models.prepare(step.params["seed"])
    known = _names(step)

    def truth(row: Row) -> list[float]:
        return numbers(row.get("label"), known)

    sizes = _asked.count(step, truth, out)
    asked = [_asked.ask(step, model, sizes, truth, KINDS, out) for model in step.models["model"]]
    names = _agreed(step, asked, known)
    true = {part: np.array([case.truth for case in _asked.cases(step, part, truth)]) for part in sizes}
    said: dict[str, Said] = {one.name: dict(one.values) for one in asked}
    notes = [note for one in asked for note in one.notes]
    said |= _without(step, sizes, truth, notes)
    _write(step, out, said, sizes, truth, names)
    return _facts(true, said, names, step.params.get("threshold")) | {"notes": notes, "hardware": _asked.hardware()}


def _names(step: Step) -> list[str]:
    """What the first label holds: the keys of an object, a list's places, or one number."""
    mapped = (step.params.get("columns") or {}).get("label")
    if isinstance(mapped, list):
        return [str(name) for name in mapped]
    rows = step.rows(step.parts()[0] if step.parts() else None)
    held = next((row["label"] for row in rows if row.get("label") is not None), None)
    if isinstance(held, dict) and held:
        return list(held)
    return [str(at) for at in range(1, len(held) + 1)] if isinstance(held, list) and held else ["number"]


def _agreed(step: Step, asked: list[Answers], known: list[str]) -> list[str]:
    """The names of the numbers. Raises StepError where a model says others, or not as many."""
    for one in asked:
        if len(one.labels) != len(known):
            said = f"says {len(one.labels)} numbers and the labels hold {len(known)}"
            raise StepError(f"{step.name}.model: {one.name} {said}. Map what it learned: columns: {{label: …}}.")
        named = not (known == ["number"] or known[0] == "1")
        if named and set(one.labels) == set(known) and one.labels != known:
            order = [one.labels.index(name) for name in known]
            one.values = {part: values[:, order] for part, values in one.values.items()}
        elif named and len(known) > 1 and one.labels != known:
            advice = "Map the columns that it learned, in its order."
            raise StepError(
                f"{step.name}.model: {one.name} says {', '.join(one.labels)}, not {', '.join(known)}. {advice}"
            )
    return asked[0].labels if known[0] == "1" else known


# Without a model


def _without(step: Step, sizes: dict[str, int], truth: Any, notes: list[str]) -> dict[str, Said]:
    """The baselines that were asked for, by name."""
    wanted, place = step.params["baselines"], _baselines.learned_from(step)
    if place is None:
        if wanted:
            notes.append("No baselines: there is no train part. Name rows for them in baselines_from:.")
        return {}
    known = np.array([found for _, found in _baselines.training(step, place, truth)])
    if not len(known):
        raise DataError(f"{step.name}: the baselines have no row with a text and a number to learn from.")
    made: dict[str, Said] = {}
    if "mean" in wanted:
        made["mean"] = {part: np.tile(known.mean(0), (size, 1)) for part, size in sizes.items()}
    if "random" in wanted:
        chance = np.random.default_rng(step.params["seed"])
        made["random"] = {part: known[chance.integers(len(known), size=size)] for part, size in sizes.items()}
    if "words" in wanted:
        found = _baselines.words(
            _baselines.regressing(),
            lambda: _baselines.training(step, place, truth),
            lambda part: _asked.cases(step, part, truth),
            sizes,
        )
        made["words"] = {part: np.array(values).reshape(sizes[part], -1) for part, values in found.items()}
    return made


# What comes out


def _write(step: Step, out: Out, said: dict[str, Said], sizes: dict[str, int], truth: Any, names: list[str]) -> None:
    with out.rows() as rows:
        for part in sizes:
            for at, case in enumerate(_asked.cases(step, part, truth)):
                kept: Row = {key: case.row[key] for key in ("id", "source") if key in case.row}
                told = {"text": case.text} | ({"text_pair": case.pair} if case.pair is not None else {})
                answers = {name: _told(found[part][at], names) for name, found in said.items()}
                rows.write({**kept, "part": part, **told, "label": _told(case.truth, names), "answers": answers})


def _told(values: Any, names: list[str]) -> Any:
    held = [round(float(one), 6) for one in values]
    return held[0] if len(names) == 1 else dict(zip(names, held, strict=True))


def _facts(true: Said, said: dict[str, Said], names: list[str], threshold: float | None) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, found in said.items():
        metrics[name] = {}
        for part, values in found.items():
            each = [_figures(true[part][:, at], values[:, at], threshold) for at in range(len(names))]
            metrics[name][part] = _judged.mean_of(each) | {"rows": len(values)}
            if len(names) > 1:
                metrics[name][part]["numbers"] = dict(zip(names, each, strict=True))
    tables = [_table(metrics, threshold)]
    if len(names) > 1:
        tables.append(_each(metrics, names, _asked.held_out(list(true)), threshold))
    parts = list(true)
    series = {part: {name: held[part]["rmse"] for name, held in metrics.items()} for part in parts}
    return {
        "metrics": metrics,
        "tables": tables,
        "plots": [{"title": "RMSE", "kind": "bars", "y": "RMSE", "series": series}],
    }


def _figures(truth: Values, said: Values, threshold: float | None) -> dict[str, float]:
    made = _judged.of_numbers(truth, said)
    if threshold is not None:
        made["accuracy"] = float(((truth >= threshold) == (said >= threshold)).mean())
    return made


def _columns(threshold: float | None) -> dict[str, str]:
    return FIGURES | ({"accuracy": f"accuracy at {threshold:g}"} if threshold is not None else {})


def _shown(one: dict[str, Any], columns: dict[str, str]) -> list[str]:
    return [f"{one[key]:.3f}" if key in one else "–" for key in columns]


def _table(metrics: dict[str, Any], threshold: float | None) -> dict[str, Any]:
    columns = _columns(threshold)
    rows = [
        [name, part, *_shown(one, columns), one["rows"]]
        for name, parts in metrics.items()
        for part, one in parts.items()
    ]
    return {"title": "How near the numbers are", "columns": ["by", "part", *columns.values(), "rows"], "rows": rows}


def _each(metrics: dict[str, Any], names: list[str], part: str, threshold: float | None) -> dict[str, Any]:
    columns = _columns(threshold)
    rows = [[by, name, *_shown(held[part]["numbers"][name], columns)] for by, held in metrics.items() for name in names]
    return {"title": f"Number by number on {part}", "columns": ["by", "number", *columns.values()], "rows": rows}
