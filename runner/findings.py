"""What the steps of a recipe found: their tables and plots, those of siblings joined; what training showed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from runner.plan import Plan, Planned

Record = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One recipe with what its finished steps recorded, by the step's name."""

    plan: Plan
    records: dict[str, Record]

    @property
    def label(self) -> str:
        return self.plan.recipe.label

    def groups(self, verb: str | None = None) -> list[tuple[str, list[tuple[Planned, Record]]]]:
        """The finished steps, those that one entry of the recipe made together."""
        made = [(step, self.records[step.name]) for step in self.plan.steps if step.name in self.records]
        wanted = [one for one in made if verb in (None, one[0].node.verb)]
        return [(name, list(held)) for name, held in groupby(wanted, key=lambda one: str(one[0].node.instance.written))]


def results(runs: list[Run], verb: str) -> list[dict[str, Any]]:
    """Of each entry of the recipe: its tables, plots and notes; of several recipes those of one name together."""
    made: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name, held in run.groups(verb):
            entry = made.setdefault(
                name, {"name": name, "kind": held[0][0].node.kind, "tables": {}, "plots": {}, "notes": []}
            )
            for step, record in held:
                known = {"recipe": run.label} if len(runs) > 1 else {}
                known |= dict(step.node.instance.matrix)
                for table in record["facts"].get("tables", []):
                    _join_table(entry["tables"], table, known)
                for plot in record["facts"].get("plots", []):
                    _join_plot(entry["plots"], plot, ", ".join(map(str, known.values())))
                where = f"{', '.join(map(str, known.values()))}: " if known else ""
                entry["notes"] += [where + note for note in record["facts"].get("notes", [])]
    found = [entry for entry in made.values() if entry["tables"] or entry["plots"] or entry["notes"]]
    drawn = [[plot for plot in one["plots"].values() if plot.get("series") or plot.get("values")] for one in found]
    return [
        {**one, "tables": [*one["tables"].values()], "plots": plots} for one, plots in zip(found, drawn, strict=True)
    ]


def _join_table(tables: dict[Any, Any], table: dict[str, Any], known: dict[str, Any]) -> None:
    """Put a table's rows under those of its siblings, with what tells them apart in front."""
    columns = [*known, *table["columns"]]
    held = tables.setdefault((table["title"], *columns), {"title": table["title"], "columns": columns, "rows": []})
    held["rows"] += [[*known.values(), *row] for row in table["rows"]]


def _join_plot(plots: dict[Any, Any], plot: dict[str, Any], label: str) -> None:
    """Draw the series of siblings into one figure; matrices stay apart, and so does what would be too much for one."""
    if plot["kind"] == "matrix":
        plots[plot["title"], label] = {**plot, "title": f"{plot['title']} ({label})" if label else plot["title"]}
        return
    key: Any = (plot["title"], plot["kind"])
    held = plots.setdefault(key, {**plot, "series": {}, "errors": {}})
    # The series that siblings share (a group of people) stand once
    for name, series in plot["series"].items():
        shown = label if len(plot["series"]) == 1 else f"{label}: {name}"
        shown = name if not label or name in plot.get("shared", ()) else shown
        if series:
            held["series"][shown] = series
            held["errors"][shown] = plot.get("errors", {}).get(name, {})


def trained(run: Run) -> list[dict[str, Any]]:
    """Of each training step: its curves as plots, and its figures."""
    made = []
    for step, record in [one for _, held in run.groups() for one in held if one[0].node.verb in ("train", "merge")]:
        facts = record["facts"]
        curves = {name: points for name, points in facts.get("curves", {}).items() if len(points) > 1}
        plots = [
            {"title": about, "kind": "lines", "x": "update", "y": about, "series": held}
            for about, held in _by_measure(curves).items()
        ]
        made.append(
            {
                "name": step.name,
                "kind": f"{step.node.verb}: {step.node.kind}",
                "plots": plots,
                "figures": _figures(facts.get("metrics", {})),
                "hardware": {
                    name: value for name, value in facts.get("hardware", {}).items() if value not in (None, False)
                },
                "tables": facts.get("tables", []),
                "notes": facts.get("notes", []),
                "recipe": run.label,
            }
        )
    return made


def _figures(metrics: dict[str, Any], prefix: str = "") -> dict[str, int | float | str]:
    """Plain figures, those of nested groups with the group's name in front."""
    made: dict[str, int | float | str] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            made |= _figures(value, f"{prefix}{name} ")
        elif isinstance(value, int | float | str):
            made[f"{prefix}{name}".replace("_", " ")] = value
    return made


def _by_measure(curves: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Curves that belong into one figure: 'loss' and 'validation loss' are both about loss."""
    made: dict[str, dict[str, Any]] = {}
    for name, points in curves.items():
        about = name.replace("_", " ").removeprefix("validation ").removeprefix("eval ").removeprefix("train ")
        made.setdefault(about, {})[name.replace("_", " ")] = points
    return made
