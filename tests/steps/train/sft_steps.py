"""Training steps on the tiny model, for the tests of sft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.step import Model, Out, Step
from runner.steps.train import sft
from tests.conftest import make_step, talks

PARTS = {"train": talks(18), "validation": talks(5)}


def make(folder: Path, tiny_model: Path, parts: Any = None, **keys: Any) -> Step:
    """A training step on the tiny model; a key given as None is left out."""
    quick = {"epochs": 1, "batch": 4, "learning_rate": 0.01, "lora": {"rank": 4}}
    keys = {name: value for name, value in {**quick, **keys}.items() if value is not None}
    held = [Model("base", {"load": str(tiny_model)})]
    return make_step("train", "sft", folder, parts or PARTS, models=held, **keys)


def run(step: Step, folder: Path) -> tuple[dict[str, Any], Path]:
    out = Out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return sft.run(step, out), folder
    finally:
        out.close()
