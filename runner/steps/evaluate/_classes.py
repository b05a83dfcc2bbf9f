"""Classes that models said: the likeliest, joined over several models, letter by letter, and as tables and plots."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner.errors import DataError, StepError
from runner.step import Step
from runner.steps.evaluate._asked import Answers

Said = dict[str, list[str]]  # by part, in the order of its rows
MOST = 60  # classes that a confusion matrix can show
FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1", "mcc": "MCC"}


def likeliest(one: Answers) -> Said:
    """The label with the highest probability."""
    return {part: [one.labels[at] for at in values.argmax(1)] for part, values in one.values.items()}


# Several models, one answer


def join(asked: list[Answers], sizes: dict[str, int]) -> Said:
    """The answers of all models glued in their order: E, N, F and P make ENFP."""
    each = [likeliest(one) for one in asked]
    return {part: ["".join(found) for found in zip(*(one[part] for one in each), strict=True)] for part in sizes}


def check_join(step: Step, asked: list[Answers], truth: Said) -> list[str]:
    """Notes on true labels that the models' answers cannot make. Raises StepError or DataError where none can."""
    if len(asked) < 2:
        raise StepError(
            f"{step.name}.join: glues the answers of several models, and there is one. Name more, or remove it."
        )
    notes = []
    for part, labels in truth.items():
        strange = Counter(label for label in labels if not _splits(label, asked))
        if strange.total() == len(labels):
            made = "".join(one.labels[0] for one in asked)
            said = f"{part}: no label is what these models make together (such as {made}), but {min(strange)}"
            raise DataError(f"{step.name}.from: {said}. Map the joined label: columns: {{label: …}}.")
        if strange:
            which = ", ".join(sorted(strange)[:8])
            notes.append(f"The models cannot make {which}: {strange.total()} rows of {part} count as wrong.")
    return notes


def _splits(label: str, asked: list[Answers]) -> bool:
    """Whether a label is one answer of each model, glued."""
    if not asked:
        return not label
    return any(label.startswith(one) and _splits(label[len(one) :], asked[1:]) for one in asked[0].labels)


def pairs(asked: list[Answers]) -> list[str]:
    """The letters that each model chooses between, where all of them say single letters."""
    letters = ["".join(one.labels) for one in asked]
    return letters if all(len(label) == 1 for one in asked for label in one.labels) else []


def letters(truth: list[str], said: list[str], wanted: list[str]) -> dict[str, float]:
    """For each set of letters, such as EI, how often the letter of it in the answer is the one in the label; their mean."""
    made = {}
    for pair in wanted:
        right = sum(_held(one, pair) == _held(other, pair) for one, other in zip(truth, said, strict=True))
        made[pair] = right / len(truth)
    return made | {"mean": sum(made.values()) / len(made)}


def _held(label: str, pair: str) -> str | None:
    return next((letter for letter in label if letter in pair), None)


# Tables and plots


def main_table(metrics: dict[str, Any]) -> dict[str, Any]:
    rows = [
        [name, part, *(f"{one[key]:.3f}" for key in FIGURES), one["rows"]]
        for name, parts in metrics.items()
        for part, one in parts.items()
    ]
    return {"title": "How often the label is right", "columns": ["by", "part", *FIGURES.values(), "rows"], "rows": rows}


def letter_table(figures: dict[str, dict[str, dict[str, float]]], wanted: list[str]) -> dict[str, Any]:
    columns = [*wanted, "mean"]
    rows = [
        [name, part, *(f"{one[pair]:.3f}" for pair in columns)]
        for name, parts in figures.items()
        for part, one in parts.items()
    ]
    return {"title": "Letter by letter", "columns": ["by", "part", *columns], "rows": rows}


def class_table(
    name: str, part: str, labels: list[str], figures: list[tuple[float, float, float, int]]
) -> dict[str, Any]:
    rows = [[label, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", n] for label, (p, r, f, n) in zip(labels, figures, strict=True)]
    columns = ["label", "precision", "recall", "F1", "rows"]
    return {"title": f"{name} on {part}, label by label", "columns": columns, "rows": rows}


def bars(metrics: dict[str, Any]) -> dict[str, Any]:
    parts = list(next(iter(metrics.values())))
    series = {part: {name: held[part]["accuracy"] for name, held in metrics.items()} for part in parts}
    return {"title": "Accuracy", "kind": "bars", "y": "accuracy", "series": series}


def confusion(name: str, part: str, labels: list[str], truth: list[str], said: list[str]) -> dict[str, Any]:
    """Rows are true labels, columns what was said, values how many."""
    counts = Counter(zip(truth, said, strict=True))
    values = [[counts[label, other] for other in labels] for label in labels]
    return {
        "title": f"{name} on {part}: true label (rows) and answer (columns)",
        "kind": "matrix",
        "rows": labels,
        "columns": labels,
        "values": values,
    }
