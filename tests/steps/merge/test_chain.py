"""SFT, DPO over its adapter, one whole model of both, and DPO over that, as a recipe says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runner import models
from runner import plan as planning
from runner import recipe as recipes
from runner.execute import execute
from runner.specs import model_of

RECIPE = """\
recipe: 1
title: Chain
models: {{base: {{load: {base}}}}}
prompts:
  scene: {{system: "You say what you think.", user: "{{{{ situation }}}}", assistant: "{{{{ answer }}}}"}}
steps:
  sharpest: {{train: dpo, from: pairs, model: whole, lora: {{rank: 2}}, max_steps: 1, batch: 2}}
  whole: {{merge: lora, model: sharper}}
  sharper: {{train: dpo, from: pairs, model: voice, lora: {{rank: 2}}, epochs: 3, batch: 2, learning_rate: 0.01}}
  voice: {{train: sft, from: lessons, model: base, lora: {{rank: 2}}, epochs: 2, batch: 2, learning_rate: 0.01}}
  pairs: {{preprocess: preferences, from: scenes, prompt: scene, same: scene, other: level}}
  lessons: {{preprocess: examples, from: scenes, prompt: scene}}
  scenes: {{preprocess: table, folder: datasets/scenes}}
"""
SCENES = Path(__file__).resolve().parents[2] / "data" / "scenes" / "scenes.jsonl"


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> planning.Plan:
    """The plan of the recipe, all of it made."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ARTIFACTS", str(folder / "artifacts"))
        (folder / "recipes").mkdir()
        (folder / "datasets" / "scenes").mkdir(parents=True)
        (folder / "datasets" / "scenes" / "scenes.jsonl").write_text(
            SCENES.read_text(encoding="utf-8"), encoding="utf-8"
        )
        (folder / "recipes" / "chain.yaml").write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
        plan = planning.make(recipes.load(folder / "recipes" / "chain.yaml"))
        held = json.loads(planning.write(plan).with_suffix(".json").read_text(encoding="utf-8"))
        for step in plan.steps:
            execute(held, step.key, plan.root)
    return plan


def loaded(plan: planning.Plan, *names: str) -> list[models.Loaded]:
    """What chat would load of these steps."""
    by_name = {step.name: step for step in plan.steps}
    uses = [use for node in plan.recipe.nodes for use in node.models.get("model", ()) if use.name in names]
    specs = {use.name: plan.specs.model(use) for use in uses}
    assert set(specs) == set(names) <= set(by_name)
    return models.load([model_of(specs[name], plan.root) for name in names], plan.root)


def logits(one: models.Loaded) -> torch.Tensor:
    with one.active() as network, torch.no_grad():
        made: torch.Tensor = network(torch.tensor([[5, 9, 22, 41, 100, 7]])).logits
    return made


def test_the_chain_answers_alike_merged_or_not(made: planning.Plan) -> None:
    voice, sharper, whole = (logits(one) for one in loaded(made, "voice", "sharper", "whole"))
    assert torch.allclose(whole, sharper, atol=1e-5) and not torch.allclose(sharper, voice, atol=1e-3)


def test_each_step_of_the_chain_remembers_the_prompt_that_it_learned(made: planning.Plan) -> None:
    for one in loaded(made, "voice", "sharper", "whole"):
        assert one.prompt and one.prompt.name == "scene"


def test_the_first_loss_over_the_merged_model_is_that_of_the_reference(made: planning.Plan) -> None:
    facts = {step.name: _facts(made, step.key) for step in made.steps}
    assert facts["sharpest"]["curves"]["loss"][0][1] == pytest.approx(0.693147, abs=1e-5)
    assert facts["whole"]["metrics"]["parameters"] > 0


def _facts(plan: planning.Plan, key: str) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((plan.root / "store" / key / "step.json").read_text(encoding="utf-8"))
    return dict(held["facts"])
