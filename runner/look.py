"""Looking without making: what recipes there are, what is made of them, how their steps hang together."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from runner import drawing
from runner import plan as planning
from runner import recipe as recipes
from runner.drawing import Box
from runner.plan import Plan


def listing() -> list[list[Any]]:
    """A line a recipe: name, title, steps, variants. One that does not check says so."""
    rows: list[list[Any]] = []
    for path in recipes.every():
        problems = [problem for problem in recipes.check(path) if not problem.warning]
        if problems:
            rows.append([path.stem, f"does not check: make check R={path.stem}", None, ""])
            continue
        recipe = recipes.load(path)
        rows.append([recipe.name, recipe.title, len(recipe.nodes), ", ".join(recipe.doc.get("variants") or {})])
    return rows


def mermaid(plan: Plan) -> str:
    """The graph of a recipe in Mermaid: finished steps are drawn in green."""
    lines = ["graph LR"]
    ids = {step.name: f"s{place}" for place, step in enumerate(plan.steps)}
    for step in plan.steps:
        lines.append(f'  {ids[step.name]}["{step.name}<br/>{step.node.verb} {step.node.kind}"]')
        lines += [
            f"  {ids[name]} --> {ids[step.name]}" for name in dict.fromkeys(need.name for need in step.node.needs())
        ]
    done = [ids[step.name] for step in plan.steps if not step.why]
    if done:
        lines += ["  classDef made fill:#d8f0d8,stroke:#4a8f4a", f"  class {','.join(done)} made"]
    return "\n".join(lines)


def svg(plan: Plan) -> str:
    """The recipe's graph as SVG: a box for each entry of `steps:`, with how many steps it stands for."""
    counts = Counter(step.node.instance.written for step in plan.steps)
    boxes: dict[str, Box] = {}
    needs: dict[str, dict[str, None]] = {}
    for step in plan.steps:
        name = str(step.node.instance.written)
        found = {str(need.instance.written): None for need in step.node.needs()}
        needs.setdefault(name, {}).update(found)
    made = {name: all(not step.why for step in plan.steps if step.node.instance.written == name) for name in counts}
    for name in _ordered(needs):
        step = next(step for step in plan.steps if step.node.instance.written == name)
        times = f" × {counts[name]}" if counts[name] > 1 else ""
        kind = f"{step.node.verb} {'made' if made[name] else 'open'}"
        boxes[name] = Box(name, (name + times, f"{step.node.verb} {step.node.kind}"), kind, tuple(needs[name]))
    return drawing.svg(list(boxes.values()))


def _ordered(needs: dict[str, dict[str, None]]) -> list[str]:
    """Names after all that they need. An entry never needs itself: its siblings don't read each other."""
    made: list[str] = []
    while len(made) < len(needs):
        ready = [
            name for name in needs if name not in made and all(need in made or need == name for need in needs[name])
        ]
        made += ready or [next(name for name in needs if name not in made)]
    return made


def sweep() -> tuple[int, int]:
    """Remove from the store what no recipe and none of its variants reaches. Returns how many steps and how many bytes.

    Raises RecipeError where a recipe does not check: what it reaches cannot be known.
    """
    root = planning.artifacts()
    reached: set[str] = set()
    for path in recipes.every():
        written = recipes.load(path)
        for variant in [(), *((name,) for name in written.doc.get("variants") or {})]:
            reached |= {step.key for step in planning.make(recipes.load(path, variant)).steps}
    return _remove(root, [path for path in _store(root) if path.name.split(".")[0] not in reached])


def clean(name: str) -> tuple[int, int]:
    """Remove what was made for one recipe, its variants too, but not what another recipe's plan needs."""
    root = planning.artifacts()
    mine: set[str] = set()
    others: set[str] = set()
    for path in sorted((root / "plans").glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        (mine if held["recipe"] == name else others).update(held["steps"])
        if held["recipe"] == name:
            shutil.rmtree(root / held["label"], ignore_errors=True)
            path.unlink()
            path.with_suffix(".mk").unlink(missing_ok=True)
    return _remove(root, [path for path in _store(root) if path.name.split(".")[0] in mine - others])


def _store(root: Path) -> list[Path]:
    return sorted((root / "store").iterdir()) if (root / "store").is_dir() else []


def _remove(root: Path, paths: list[Path]) -> tuple[int, int]:
    steps = size = 0
    for path in paths:
        if path.is_dir():
            steps += 1
            size += sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.stat().st_nlink == 1)
            shutil.rmtree(path)
        else:
            path.unlink()
    for link in root.glob("*/*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
    return steps, size
