"""An adapter from elsewhere, as a folder that `load:` names: merged, and used over the base that it names."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from runner import adapters, models, questions, recipe
from runner.asking import Ask
from runner.cli import main
from runner.errors import StepError
from runner.schema import bundled
from runner.step import Decoding, Model
from tests.steps.train import sft_steps

RECIPE = """\
recipe: 1
models: {theirs: {load: THEIRS}}
decoding: {talk: {mode: greedy, max_new_tokens: 8}}
steps:
  whole: {merge: lora, model: theirs}
  said: {evaluate: answers, questions: [Who was it?], model: [theirs, whole], decoding: talk}
"""


@pytest.fixture(scope="module")
def theirs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter as PEFT alone leaves it: weights and configuration."""
    folder = tmp_path_factory.mktemp("theirs")
    _, made = sft_steps.run(sft_steps.make(folder, tiny_model, learning_rate=0.02, epochs=2), folder / "out")
    (folder / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(made / "best" / name, folder / "adapter")
    tell(folder / "adapter", base_model_name_or_path=str(tiny_model))
    return folder / "adapter"


def tell(folder: Path, **held: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | held), encoding="utf-8")


def logits(model: Model, folder: Path) -> torch.Tensor:
    [loaded] = models.load([model], folder)
    with loaded.active() as network, torch.no_grad():
        made: torch.Tensor = network(torch.tensor([[5, 9, 22, 41]])).logits
    return made


def command(folder: Path, load: Path, *words: str) -> Result:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / "made.yaml").write_text(RECIPE.replace("THEIRS", json.dumps(str(load))), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ARTIFACTS", str(folder / "artifacts"))
        return CliRunner().invoke(main, [*words, "made"], catch_exceptions=False)


def test_it_is_merged_and_answers_as_it_does_over_its_base(theirs: Path, tiny_model: Path, tmp_path: Path) -> None:
    made = command(tmp_path, theirs, "run")
    assert made.exit_code == 0, made.stderr
    over = Model("theirs", {}, theirs, Model("base", {"load": str(tiny_model)}))
    whole = Model("whole", {"load": str(tmp_path / "artifacts/made/whole/model")})
    assert torch.allclose(logits(whole, tmp_path), logits(over, tmp_path), atol=1e-5)
    assert not torch.allclose(logits(whole, tmp_path), logits(over.base or over, tmp_path), atol=1e-2)
    row = json.loads((tmp_path / "artifacts/made/said/rows.jsonl").read_text(encoding="utf-8"))
    assert row["answers"]["theirs"] == row["answers"]["whole"]


def test_other_weights_in_the_folder_make_it_another_step(theirs: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(theirs, tmp_path / "mine"))
    assert command(tmp_path, mine, "run").exit_code == 0
    tell(mine, lora_alpha=1)
    assert "2 of 2 steps to run" in command(tmp_path, mine, "plan").stdout


def test_a_folder_with_a_whole_model_is_nothing_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    made = command(tmp_path, tiny_model, "run")
    assert made.exit_code == 1
    assert made.stderr.splitlines()[-1] == (
        "whole.model: 'theirs' is a whole model. There is nothing to merge: use it as it is."
    )


def test_its_base_may_be_the_model_that_comes_along(theirs: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(theirs, tmp_path / "mine"))
    tell(mine, base_model_name_or_path=bundled()["smollm2-135m"]["hub"])
    made = adapters.over_base(Model("theirs", {"load": str(mine), "bits": 4}))
    assert made.base and made.base.entry == {"load": "smollm2-135m", "bits": 4} and made.folder == mine


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ('{"task_type": "CAUSAL_LM"}', "names no base. Write its Hub id or folder")]
)
def test_a_configuration_without_a_base_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(StepError, match=said):
        adapters.over_base(Model("theirs", {"load": str(tmp_path)}))


def test_a_classifiers_adapter_is_left_to_who_reads_its_head(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}', encoding="utf-8")
    model = Model("theirs", {"load": str(tmp_path)})
    assert adapters.over_base(model) is model


def test_kept_answers_are_of_what_the_folder_holds_and_of_its_base(theirs: Path) -> None:
    held = adapters.over_base(Model("theirs", {"load": str(theirs)}, files={"adapter_model.safetensors": "1"}))
    asked, how = Ask("model", [{"role": "user", "content": "x"}]), Decoding("talk", "greedy", {"max_new_tokens": 8})
    others = [replace(held, files={"adapter_model.safetensors": "2"}), replace(held, base=Model("b", {"load": "x"}))]
    keys = {questions.local_key(one, how, asked, 0) for one in (held, *others)}
    assert len(keys) == 3


def test_a_bundled_model_is_no_adapter_at_check_and_a_folder_may_be(theirs: Path, tmp_path: Path) -> None:
    for load, problems in ((theirs, 0), ("smollm2-135m", 1)):
        path = tmp_path / "made.yaml"
        path.write_text(RECIPE.replace("THEIRS", json.dumps(str(load))), encoding="utf-8")
        assert len([one for one in recipe.check(path) if not one.warning]) == problems
