"""`evaluate: classification`: how often classifiers are right, part by part, beside what anyone could do without them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner import models
from runner.errors import DataError
from runner.files import Row
from runner.step import Out, Step
from runner.steps import _judged
from runner.steps._targets import class_name
from runner.steps.evaluate import _asked, _baselines, _classes
from runner.steps.evaluate._asked import Answers
from runner.steps.evaluate._classes import Said

JOINED = "joined"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows {id, part, text, label, answers} and facts. Raises StepError or DataError where nothing can be compared."""
    models.prepare(step.params["seed"])
    sizes = _asked.count(step, _truth, out)
    asked = [_asked.ask(step, model, sizes, _truth, ("class",), out) for model in step.models["model"]]
    notes = [note for one in asked for note in one.notes]
    truth = {part: [case.truth for case in _asked.cases(step, part, _truth)] for part in sizes}
    said = {one.name: _classes.likeliest(one) for one in asked}
    letters = list(step.params.get("letters") or [])
    if step.params["join"]:
        notes += _classes.check_join(step, asked, truth)
        said = {JOINED: _classes.join(asked, sizes)}
        letters = letters or _classes.pairs(asked)
    else:
        notes += _unknown(step, asked, truth, out)
    said |= _without(step, sizes, truth, notes)
    _write(step, out, said, sizes)
    shown = [JOINED] if step.params["join"] else [one.name for one in asked]
    facts = _facts(truth, said, shown, letters)
    return facts | {"notes": notes, "hardware": _asked.hardware()}


def _truth(row: Row) -> str:
    return class_name(row.get("label"))


def _unknown(step: Step, asked: list[Answers], truth: dict[str, list[str]], out: Out) -> list[str]:
    """Labels that a model cannot say count as wrong; where it knows none of them, something is mixed up."""
    notes = []
    for one in asked:
        for part, labels in truth.items():
            strange = Counter(label for label in labels if label not in one.labels)
            if strange.total() == len(labels):
                knows = ", ".join(one.labels[:8])
                said = (
                    f"none of its labels ({', '.join(sorted(strange)[:4])}) is known to {one.name}, which says {knows}"
                )
                raise DataError(
                    f"{step.name}.from: {part}: {said}. Map the column that it learned: columns: {{label: …}}."
                )
            if strange:
                which = ", ".join(sorted(strange)[:8])
                notes.append(f"{one.name} never learned {which}: {strange.total()} rows of {part} count as wrong.")
                out.log(notes[-1])
    return notes


# Without a model


def _without(step: Step, sizes: dict[str, int], truth: dict[str, list[str]], notes: list[str]) -> dict[str, Said]:
    """The baselines that were asked for, by name."""
    wanted, made = step.params["baselines"], dict[str, Said]()
    place = _baselines.learned_from(step)
    if place is None:
        if wanted:
            notes.append("No baselines that learn: there is no train part. Name rows for them in baselines_from:.")
        known = Counter(label for labels in truth.values() for label in labels)
    else:
        known = Counter(label for _, label in _baselines.training(step, place, _truth))
        if not known:
            raise DataError(f"{step.name}: the baselines have no row with a text and a label to learn from.")
    often = _baselines.majority(known)
    if place and "majority" in wanted:
        made["majority"] = {part: [often] * size for part, size in sizes.items()}
    if place and "random" in wanted:
        made["random"] = _baselines.drawn(known, sizes, step.params["seed"])
    if place and "words" in wanted and len(known) > 1:
        learn, cases = lambda: _baselines.training(step, place, _truth), lambda part: _asked.cases(step, part, _truth)
        made["words"] = _baselines.words(_baselines.classifying(), learn, cases, sizes)
    if "mentions" in wanted:
        made |= _mentions(step, sizes, sorted(known), often, notes)
    return made


def _mentions(step: Step, sizes: dict[str, int], labels: list[str], often: str, notes: list[str]) -> dict[str, Said]:
    """The leak: how far the label that a text names most often goes."""
    if min(map(len, labels)) < 2:
        notes.append("No baseline of mentions: a label of one letter stands in every text.")
        return {}
    made: Said = {}
    shares = {}
    for part, size in sizes.items():
        made[part], named = _baselines.mentions(labels, often, _asked.cases(step, part, _truth))
        shares[part] = named / size
    if not any(shares.values()):
        notes.append("No text names a label, so there is no baseline of mentions.")
        return {}
    notes.append(
        "Texts that name a label: " + ", ".join(f"{share:.1%} of {part}" for part, share in shares.items()) + "."
    )
    return {"mentions": made}


# What comes out


def _write(step: Step, out: Out, said: dict[str, Said], sizes: dict[str, int]) -> None:
    with out.rows() as rows:
        for part in sizes:
            for at, case in enumerate(_asked.cases(step, part, _truth)):
                kept: Row = {key: case.row[key] for key in ("id", "source") if key in case.row}
                told = {"text": case.text} | ({"text_pair": case.pair} if case.pair is not None else {})
                answers = {name: str(found[part][at]) for name, found in said.items()}
                rows.write({**kept, "part": part, **told, "label": case.truth, "answers": answers})


def _facts(truth: dict[str, list[str]], said: dict[str, Said], shown: list[str], letters: list[str]) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        name: {part: _judged.of_classes(truth[part], found[part]) | {"rows": len(truth[part])} for part in truth}
        for name, found in said.items()
    }
    part = _asked.held_out(list(truth))
    tables, plots = [_classes.main_table(metrics)], [_classes.bars(metrics)]
    if letters:
        by_letter = {
            name: {part: _classes.letters(truth[part], found[part], letters) for part in truth}
            for name, found in said.items()
        }
        tables.append(_classes.letter_table(by_letter, letters))
        for name, held in by_letter.items():
            for one, figures in held.items():
                metrics[name][one]["letters"] = figures
    for name in shown:
        labels = sorted({*truth[part], *said[name][part]})
        each = _judged.by_class(truth[part], said[name][part], labels)
        metrics[name][part]["classes"] = {
            label: {"precision": p, "recall": r, "f1": f, "rows": n}
            for label, (p, r, f, n) in zip(labels, each, strict=True)
        }
        tables.append(_classes.class_table(name, part, labels, each))
        if len(labels) <= _classes.MOST:
            plots.append(_classes.confusion(name, part, labels, truth[part], said[name][part]))
    return {"metrics": metrics, "tables": tables, "plots": plots}
