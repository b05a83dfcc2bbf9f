"""`show`: the first rows of a step; for training, the rendered text with what is learned marked, and lengths."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from runner.errors import StepError
from runner.files import read_rows
from runner.plan import Plan, Planned
from runner.specs import step_of
from runner.step import PROVENANCE, UNREAD, Bar, Out

BAR = 40
BINS = 8


def step(plan: Plan, planned: Planned, count: int, color: bool) -> str:
    """What there is to see of one step. Raises StepError where it, or what it reads, is not made."""
    if planned.node.verb == "train":
        return _training(plan, planned, count, color)
    folder = plan.root / "store" / planned.key
    if planned.why:
        raise StepError(f"{planned.name}: not made yet. Run make {plan.recipe.name}/{planned.name}.")
    files = sorted(path for path in folder.glob("*.jsonl") if path.name not in (*UNREAD, "side.jsonl"))
    shown = [_rows(path, count, color) for path in files]
    return "\n".join(shown) or json.dumps(_facts(folder), ensure_ascii=False, indent=1)


def first(plan: Plan, planned: Planned, count: int, say: Callable[[str], None], bar: Bar, color: bool) -> str:
    """The first rows of a generate step, made in a folder of their own, and those among them that are rejected."""
    if planned.node.verb != "generate" or "limit" not in planned.node.fragment["properties"]:
        raise StepError(f"{planned.name}: FIRST= is for generate steps. To see what is made: make show.")
    made = step_of(planned.spec, plan.root)
    params = {**made.params, "limit": min(count, made.params.get("limit") or count)}
    if params.get("accept"):
        params["accept"] = min(count, params["accept"])
    # Whoever looks first does not wait for a batch
    models = {
        path: tuple(
            replace(one, entry={**one.entry, "batch": False}) if "endpoint" in one.entry else one for one in held
        )
        for path, held in made.models.items()
    }
    module = importlib.import_module(f"runner.steps.generate.{planned.node.kind}")
    with TemporaryDirectory() as folder:
        out = Out(Path(folder), bar, lambda line: say(f"{planned.name}: {line}"))
        try:
            module.run(replace(made, params=params, models=models), out)
        finally:
            out.close()
        kept = [path for path in sorted(Path(folder).glob("*.jsonl")) if path.name not in (PROVENANCE, "side.jsonl")]
        return "\n".join(_rows(path, count, color, planned.name) for path in kept if path.stat().st_size)


def _facts(folder: Path) -> Any:
    return json.loads((folder / "step.json").read_text(encoding="utf-8"))["facts"]


def _rows(path: Path, count: int, color: bool, place: str = "") -> str:
    lines = [click.style(f"{path.stem} ({place or os.path.relpath(path)})", bold=color)]
    for row in islice(read_rows(path), count):
        lines += [f"  {click.style(key, fg='cyan') if color else key}: {_value(value)}" for key, value in row.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, dict) and {"role", "content"} <= set(item) for item in value)
    ):
        return "".join(
            f"\n    {item['role']}: {str(item['content']).replace(chr(10), chr(10) + '      ')}" for item in value
        )
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _training(plan: Plan, planned: Planned, count: int, color: bool) -> str:
    made = {step.key for step in plan.steps if not step.why}
    missing = [
        rows.node.name
        for rows in planned.node.rows.get("from", [])
        if not any(one.name == rows.node.name and one.key in made for one in plan.steps)
    ]
    if missing:
        raise StepError(
            f"{planned.name}: what it learns from is not made yet. Run make {plan.recipe.name}/{missing[0]}."
        )
    module = importlib.import_module(f"runner.steps.train.{planned.node.kind}")
    seen = module.show(step_of(planned.spec, plan.root), count)
    lines = []
    for place, sample in enumerate(seen["samples"], 1):
        lines += [f"--- example {place}", "".join(_mark(text, trained, color) for text, trained in sample), ""]
    share = seen["trained_tokens"] / seen["tokens"] if seen["tokens"] else 0
    lines += [
        seen.get("said")
        or f"{len(seen['lengths'])} examples, {seen['tokens']} tokens, {seen['trained_tokens']} of them learned ({share:.1%}).",
        "",
    ]
    lines += ["tokens an example", *histogram(seen["lengths"])]
    return "\n".join(lines)


def _mark(text: str, trained: bool, color: bool) -> str:
    """Learned text in green, or between ⟦ ⟧ where there are no colours."""
    if not trained:
        return text
    return click.style(text, fg="green", bold=True) if color else f"⟦{text}⟧"


def histogram(lengths: list[int]) -> list[str]:
    """Lines of a histogram in equal bins."""
    if not lengths:
        return []
    least, most = min(lengths), max(lengths)
    width = max(1, -(-(most - least + 1) // BINS))
    counts = [0] * (-(-(most - least + 1) // width))
    for length in lengths:
        counts[(length - least) // width] += 1
    scale = BAR / max(counts)
    return [
        f"  {least + at * width:>6}–{least + (at + 1) * width - 1:<6} {'█' * round(count * scale):<{BAR}} {count}"
        for at, count in enumerate(counts)
    ]
