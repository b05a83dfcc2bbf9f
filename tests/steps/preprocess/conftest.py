"""Makes a whole recipe as a run does: proved, planned, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import plan as planning
from runner import recipe as recipes
from runner.execute import execute


@pytest.fixture(scope="module")
def make_recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """`make_recipe(text)` makes every step in a project of its own; returns the folder with a folder for each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ARTIFACTS", raising=False)
        patch.delenv("DATASETS", raising=False)

        def make(text: str) -> Path:
            folder = tmp_path_factory.mktemp("project")
            (folder / "recipes").mkdir()
            (folder / "recipes/tried.yaml").write_text(text, encoding="utf-8")
            patch.chdir(folder)
            plan = planning.make(recipes.load(recipes.find("tried")))
            held = json.loads(planning.write(plan).with_suffix(".json").read_text(encoding="utf-8"))
            for step in plan.steps:
                execute(held, step.key, plan.root)
            return plan.root / "tried"

        yield make
