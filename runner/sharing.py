"""Which steps one process makes one after another: those that read the same models, so that these are loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner import schema
from runner.files import canonical
from runner.keys import Spec, model_material
from runner.locks import busy


def following(plan: dict[str, Any], key: str, goal: str, root: Path, tried: set[str]) -> str | None:
    """The step that a process which has just made `key` may go on with, None where there is none.

    plan: a written plan; goal: the target that is being made; tried: keys that this process has been given already.
    It belongs to the goal, is not made while all that it reads is, and is of a kind that only reads its models
    (x-shares), which are those of `key`.
    """
    mine = _models(plan["steps"][key])
    for other in _wanted(plan, goal):
        spec = plan["steps"][other]
        shares = schema.fragment(spec["verb"], spec["kind"]).get("x-shares") and _models(spec) == mine
        ready = not _made(root, other) and all(_made(root, need) for need in plan["needs"][other])
        if shares and ready and other not in tried and not busy(root / "store" / f"{other}.lock"):
            return str(other)
    return None


def _wanted(plan: dict[str, Any], goal: str) -> list[str]:
    """The steps of a goal and all that they need, in the plan's order."""
    keys = set(plan["goals"].get(goal, ()))
    for key in reversed(plan["steps"]):
        if key in keys:
            keys.update(plan["needs"][key])
    return [key for key in plan["steps"] if key in keys]


def _made(root: Path, key: str) -> bool:
    return (root / "store" / key / "step.json").is_file()


def _models(spec: Spec) -> set[str]:
    named = [spec["models"], *(decoding["models"] for decoding in spec["decodings"].values())]
    return {canonical(model_material(one)) for models in named for held in models.values() for one in held}
