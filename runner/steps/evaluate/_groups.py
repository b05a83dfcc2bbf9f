"""Scores by group: running sums, and their tables and plots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from runner.matrix import shown
from runner.scorers import Scores

WIDE = 8  # labels that a table has columns for
MOST = 16  # labels that have a plot each
Group = tuple[Any, ...]


@dataclass
class Sums:
    """Running mean and sum of squares of every score in one group (Welford's method), and how often each label was said."""

    count: int = 0
    means: Scores = field(default_factory=dict)
    squares: Scores = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)

    def add(self, scores: Scores, predicted: Any) -> None:
        self.count += 1
        for label, value in scores.items():
            before = self.means.get(label, 0.0)
            self.means[label] = before + (value - before) / self.count
            self.squares[label] = self.squares.get(label, 0.0) + (value - before) * (value - self.means[label])
        if isinstance(predicted, str):
            self.said[predicted] = self.said.get(predicted, 0) + 1

    def deviation(self, label: str) -> float:
        """The sample's standard deviation, 0 for one row."""
        return math.sqrt(max(0.0, self.squares[label]) / (self.count - 1)) if self.count > 1 else 0.0

    def half_width(self, label: str) -> float:
        """Of the 95 % interval of the mean, by the normal curve."""
        return 1.96 * self.deviation(label) / math.sqrt(self.count)


def name(group: Group) -> str:
    """A group's values in one text; all without any."""
    return ", ".join(shown(value) for value in group) or "all"


def order(group: Group) -> tuple[Any, ...]:
    """Numbers by size, before everything else by its text."""
    return tuple(
        (False, value, "")
        if isinstance(value, int | float) and not isinstance(value, bool)
        else (True, 0, shown(value))
        for value in group
    )


def figures(groups: dict[Group, Sums]) -> dict[str, Any]:
    """Mean and standard deviation of every score by group, and how many rows; of classes also how often each was said."""
    made: dict[str, Any] = {}
    for group, sums in groups.items():
        made[name(group)] = {
            "rows": sums.count,
            "mean": dict(sums.means),
            "sd": {label: sums.deviation(label) for label in sums.means},
        } | ({"said": dict(sorted(sums.said.items()))} if sums.said else {})
    return made


def table(model: str, by: list[str], groups: dict[Group, Sums]) -> dict[str, Any]:
    """A line a group: of each label mean ± standard deviation; of many labels the one that was said most often."""
    labels = list(next(iter(groups.values())).means)
    wide = len(labels) <= WIDE
    rows = []
    for group, sums in groups.items():
        if wide:
            cells = [f"{sums.means[label]:.3f} ± {sums.deviation(label):.3f}" for label in labels]
        else:
            often = max(sums.means, key=lambda label: (sums.said.get(label, 0), sums.means[label]))
            cells = [often, f"{sums.said.get(often, 0) / sums.count:.1%}", f"{sums.means[often]:.3f}"]
        rows.append([*(shown(value) for value in group), *cells, sums.count])
    told = labels if wide else ["most often", "of rows", "mean"]
    return {"title": f"Scores by {model} (mean ± sd)", "columns": [*by, *told, "rows"], "rows": rows}


def plots(model: str, by: list[str], groups: dict[Group, Sums]) -> list[dict[str, Any]]:
    """Lines over the first key with numbers, a plot a label; else bars with the 95 % interval of the mean."""
    labels = list(next(iter(groups.values())).means)
    over = next((at for at in range(len(by)) if _numeric([group[at] for group in groups])), None)
    if over is None:
        series = {label: {name(group): sums.means[label] for group, sums in groups.items()} for label in labels[:MOST]}
        errors = {label: {name(group): sums.half_width(label) for group, sums in groups.items()} for label in series}
        return [{"title": f"Scores by {model}", "kind": "bars", "y": "mean score", "series": series, "errors": errors}]
    made = []
    for label in labels[:MOST]:
        lines: dict[str, list[list[float]]] = {}
        for group, sums in groups.items():
            rest = name(group[:over] + group[over + 1 :])
            lines.setdefault(rest if len(by) > 1 else label, []).append([group[over], sums.means[label]])
        series_ = {rest: sorted(points) for rest, points in lines.items()}
        made.append(
            {"title": f"{label}, by {model}", "kind": "lines", "x": by[over], "y": "mean score", "series": series_}
        )
    return made


def _numeric(values: list[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(set(values)) > 1
