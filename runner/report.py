"""The report of a recipe: one page, made from what its steps recorded (step.json) and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runner import figures, findings, look, terminal
from runner.errors import RunnerError
from runner.findings import Record, Run
from runner.plan import Plan, Planned
from runner.why import differences


def write(plans: list[Plan]) -> Path:
    """Write report.html for one recipe, or one that compares several; returns its path.

    Raises RunnerError where nothing is made yet.
    """
    runs = [Run(plan, _records(plan)) for plan in plans]
    for run in runs:
        if not run.records:
            raise RunnerError(f"{run.plan.recipe.path}: nothing is made yet. Run make run R={run.plan.recipe.name}.")
    label = "+".join(dict.fromkeys(run.label for run in runs)) if len(runs) > 1 else runs[0].label
    path = (
        runs[0].plan.root
        / ("reports" if len(runs) > 1 else runs[0].label)
        / (f"{label}.html" if len(runs) > 1 else "report.html")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs), encoding="utf-8", newline="\n")
    return path


def _records(plan: Plan) -> dict[str, Record]:
    made = [step for step in plan.steps if not step.why]
    paths = {step.name: plan.root / "store" / step.key / "step.json" for step in made}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}


def page(runs: list[Run]) -> str:
    """The whole page as HTML."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"cell": terminal.cell, "duration": terminal.duration, "svg": figures.svg}
    return jinja.get_template("report.html.jinja").render(
        title=" and ".join(run.plan.recipe.title or run.label for run in runs),
        runs=runs,
        summaries=[_summary(run) for run in runs],
        results=findings.results(runs, "evaluate"),
        written=findings.results(runs, "generate"),
        trained=[findings.trained(run) for run in runs],
        prepared=findings.results(runs, "preprocess"),
        pipelines=[_pipeline(run) for run in runs],
        changes=_changes(runs),
        environments=[_environment(run) for run in runs],
    )


def _summary(run: Run) -> dict[str, Any]:
    held = list(run.records.values())
    days = sorted({record["made"][:16].replace("T", " ") for record in held})
    facts = [record["facts"] for record in held]
    return {
        "steps": f"{len(held)} of {len(run.plan.steps)}",
        "took": terminal.duration(sum(record["seconds"] for record in held)),
        "made": " to ".join(dict.fromkeys([days[0], days[-1]])),
        "cost": sum(one.get("cost") or 0.0 for one in facts),
        "tokens": sum(sum((one.get("tokens") or {}).values()) for one in facts),
        "missing": [step.name for step in run.plan.steps if step.name not in run.records],
    }


# The pipeline


def _pipeline(run: Run) -> dict[str, Any]:
    longest = max((record["seconds"] for record in run.records.values()), default=0.0) or 1.0
    rows = []
    for step in run.plan.steps:
        record = run.records.get(step.name)
        held = record["rows"] if record else {"in": None, "out": {}, "dropped": {}}
        facts = record["facts"] if record else {}
        rows.append(
            {
                "name": step.name,
                "does": f"{step.node.verb} {step.node.kind}",
                "in": held["in"],
                "out": ", ".join(
                    f"{count:,}" if part == "rows" else f"{part} {count:,}" for part, count in held["out"].items()
                ),
                "dropped": [f"{count:,} {reason}" for reason, count in held["dropped"].items()],
                "seconds": record["seconds"] if record else None,
                "share": 100 * record["seconds"] / longest if record else 0,
                "cost": facts.get("cost"),
                "made": bool(record),
                "settings": json.dumps(_settings(step), ensure_ascii=False, indent=1),
                "data": sorted(step.spec["files"].items()),
                "folder": step.spec["folder"],
            }
        )
    return {"label": run.label, "graph": look.svg(run.plan), "rows": rows, "costs": any(row["cost"] for row in rows)}


def _settings(step: Planned) -> dict[str, Any]:
    return {key: value for key, value in step.spec["params"].items() if value is not None}


# What differs, where, and how to make it again


def _changes(runs: list[Run]) -> list[dict[str, Any]]:
    """Of two recipes: the settings that differ, by step."""
    if len(runs) < 2:
        return []
    first = {step.name: step for step in runs[0].plan.steps}
    made = []
    for other in runs[1:]:
        held = {step.key: step.name for step in other.plan.steps}
        for step in other.plan.steps:
            if step.name not in first:
                made.append({"row": [other.label, step.name, f"only in {other.label}"]})
            elif step.key != first[step.name].key:
                said = "; ".join(differences(first[step.name].spec, step.spec, held))
                made.append({"row": [other.label, step.name, said]})
        names = {step.name for step in other.plan.steps}
        made += [{"row": [other.label, name, f"only in {runs[0].label}"]} for name in first if name not in names]
    return made


def _environment(run: Run) -> dict[str, Any]:
    records = list(run.records.values())
    versions = {name: version for record in records for name, version in record["versions"].items()}
    hardware = {name: value for record in records for name, value in record["facts"].get("hardware", {}).items()}
    machines = sorted({f"{record['machine']['system']}, {record['machine']['cores']} cores" for record in records})
    recipe = run.plan.recipe
    again = f"make run R={recipe.name}"
    again += f" V={','.join(recipe.variant)}" if recipe.variant else ""
    again += f' SET="{" ".join(recipe.settings)}"' if recipe.settings else ""
    return {
        "versions": versions,
        "device": {name: value for name, value in hardware.items() if name in ("device", "dtype", "gpu")},
        "machines": machines,
        "commits": sorted({str(record["commit"]) for record in records if record.get("commit")}),
        "again": again,
        "label": run.label,
    }
