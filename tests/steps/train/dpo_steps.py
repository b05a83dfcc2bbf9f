"""Preference training on the tiny model, for the tests of dpo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.step import Model, Out, Step
from runner.steps.train import dpo
from tests.conftest import make_step


def pairs(count: int) -> list[dict[str, Any]]:
    """Rows of small pairs of unequal length, as `preferences` writes them."""
    rows = []
    for at in range(count):
        asked = [
            {"role": "system", "content": "You are Holmes."},
            {"role": "user", "content": f"Has the letter come? {at} " + "Yes. " * (at % 5)},
        ]
        chosen = [{"role": "assistant", "content": f"Observe the mud on his boots, {at % 3}!"}]
        rejected = [{"role": "assistant", "content": f"Good morning, Watson {at % 3}" + " Yes." * (at % 4)}]
        rows.append({"id": str(at), "source": f"r:{at}", "prompt": asked, "chosen": chosen, "rejected": rejected})
    return rows


PARTS = {"train": pairs(18), "validation": pairs(5)}


def make(folder: Path, model: Path | Model, parts: Any = None, **keys: Any) -> Step:
    """A preference step on a model; a key given as None is left out."""
    quick = {"epochs": 1, "batch": 4, "learning_rate": 0.01, "warmup": 0, "lora": {"rank": 4}}
    keys = {name: value for name, value in {**quick, **keys}.items() if value is not None}
    held = model if isinstance(model, Model) else Model("base", {"load": str(model)})
    return make_step("train", "dpo", folder, parts or PARTS, models=[held], **keys)


def run(step: Step, folder: Path) -> tuple[dict[str, Any], Path]:
    out = Out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return dpo.run(step, out), folder
    finally:
        out.close()
