from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner import models
from runner.errors import MachineError, StepError
from runner.step import Model, Out, Prompt
from runner.steps.merge import lora
from tests.conftest import make_step
from tests.steps.train import dpo_steps, sft_steps

IDS = torch.tensor([[5, 9, 22, 41, 100, 7]])


def base(tiny_model: Path) -> Model:
    return Model("base", {"load": str(tiny_model)})


@pytest.fixture(scope="module")
def voice(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("voice")
    learned = Prompt("persona", ({"system": "You are Holmes."},))
    keys = {"learning_rate": 0.02, "epochs": 2, "check_every": 3, "learned": learned}
    _, made = sft_steps.run(sft_steps.make(folder, tiny_model, **keys), folder / "out")
    return Model("voice", {}, made / "best", base(tiny_model))


def merge(model: Model, folder: Path, **keys: Any) -> tuple[dict[str, Any], Model]:
    (folder / "out").mkdir(parents=True)
    out = Out(folder / "out")
    try:
        facts = lora.run(make_step("merge", "lora", folder, {}, models=[model], **keys), out)
    finally:
        out.close()
    return facts, Model("whole", {}, folder / "out" / "model", model)


def logits(model: Model, folder: Path) -> torch.Tensor:
    [loaded] = models.load([model], folder)
    with loaded.active() as network, torch.no_grad():
        made: torch.Tensor = network(IDS).logits
    return made


def test_merged_and_unmerged_logits_agree(voice: Model, tiny_model: Path, tmp_path: Path) -> None:
    facts, whole = merge(voice, tmp_path)
    assert torch.allclose(logits(whole, tmp_path), logits(voice, tmp_path), atol=1e-5)
    assert not torch.allclose(logits(whole, tmp_path), logits(base(tiny_model), tmp_path), atol=1e-2)
    count = sum(one.numel() for one in load_file(tiny_model / "model.safetensors").values())
    assert facts["metrics"]["parameters"] == count and facts["hardware"]["dtype"] == "float32"


def test_the_merged_folder_is_whole_and_remembers_its_prompt(voice: Model, tiny_model: Path, tmp_path: Path) -> None:
    _, whole = merge(voice, tmp_path)
    assert whole.folder
    names = {"README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"}
    assert {path.name for path in whole.folder.iterdir()} == names | {
        "prompt.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    [loaded] = models.load([whole], tmp_path)
    assert loaded.prompt == Prompt("persona", ({"system": "You are Holmes."},)) and loaded.adapter is None
    texts = [path.read_text() for path in whole.folder.glob("*.*") if path.suffix != ".safetensors"]
    assert not any("/tmp" in text or str(tiny_model) in text for text in texts)
    assert "quantization_config" not in json.loads((whole.folder / "config.json").read_text())


def test_merging_twice_gives_the_same_bytes(voice: Model, tmp_path: Path) -> None:
    folders = [merge(voice, tmp_path / name)[1].folder for name in ("1", "2")]
    for path in folders[0].iterdir():  # type: ignore[union-attr]
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name  # type: ignore[operator]


def test_either_checkpoint_can_be_merged(voice: Model, tmp_path: Path) -> None:
    assert voice.folder
    _, whole = merge(voice, tmp_path, checkpoint="final")
    final = replace(voice, folder=voice.folder.with_name("final"))
    assert torch.allclose(logits(whole, tmp_path), logits(final, tmp_path), atol=1e-5)


def test_an_adapter_over_an_adapter_is_merged_with_it(voice: Model, tmp_path: Path) -> None:
    _, made = dpo_steps.run(dpo_steps.make(tmp_path, voice, learning_rate=0.03), tmp_path / "dpo")
    sharper = Model("sharper", {}, made / "best", voice)
    _, whole = merge(sharper, tmp_path / "whole")
    assert torch.allclose(logits(whole, tmp_path), logits(sharper, tmp_path), atol=1e-5)


def test_a_merged_model_is_the_base_of_the_next(voice: Model, tmp_path: Path) -> None:
    _, whole = merge(voice, tmp_path)
    facts, _ = dpo_steps.run(dpo_steps.make(tmp_path / "dpo", whole, max_steps=1), tmp_path / "dpo" / "out")
    assert facts["curves"]["loss"][0][1] == pytest.approx(0.693147, abs=1e-5)
    _, made = dpo_steps.run(dpo_steps.make(tmp_path / "full", whole, lora=None, max_steps=1), tmp_path / "full" / "out")
    assert (made / "best" / "model.safetensors").is_file()


def test_a_base_in_bits_is_read_whole(voice: Model, tiny_model: Path, tmp_path: Path) -> None:
    """The very weights of the base's files, not those that four bits made of them."""
    small = replace(voice, base=Model("base", {"load": str(tiny_model), "bits": 4}))
    facts, whole = merge(small, tmp_path)
    assert torch.allclose(logits(whole, tmp_path), logits(voice, tmp_path), atol=1e-5)
    assert facts["notes"] == [
        "The adapter learned over weights in 4 bits and is merged into the whole ones, which differ a little."
    ]


@pytest.mark.parametrize(("name", "near"), [("float16", 5e-3), ("bfloat16", 5e-2)])
def test_the_merged_weights_have_the_type_that_is_asked_for(
    voice: Model, tmp_path: Path, name: str, near: float
) -> None:
    facts, whole = merge(voice, tmp_path, dtype=name)
    assert whole.folder
    held = load_file(whole.folder / "model.safetensors")
    assert {str(one.dtype) for one in held.values()} == {f"torch.{name}"} and facts["hardware"]["dtype"] == name
    assert json.loads((whole.folder / "config.json").read_text())["dtype"] == name
    assert torch.allclose(logits(whole, tmp_path), logits(voice, tmp_path), atol=near)


def test_the_type_is_that_of_the_files_of_the_base(tiny_model: Path, voice: Model, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(half)
    facts, _ = merge(replace(voice, base=Model("base", {"load": str(half)})), tmp_path / "merged")
    assert facts["hardware"]["dtype"] == "bfloat16"


def test_added_tokens_and_their_embeddings_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    step = sft_steps.make(tmp_path, tiny_model, special_tokens=["<STAGE-I>", "<STAGE-II>"], learning_rate=0.02)
    _, made = sft_steps.run(step, tmp_path / "sft")
    staged = Model("staged", {}, made / "best", base(tiny_model))
    _, whole = merge(staged, tmp_path / "whole")
    [one], [other] = models.load([whole], tmp_path), models.load([staged], tmp_path)
    assert one.tokenizer.tokenize("a <STAGE-II> b") == other.tokenizer.tokenize("a <STAGE-II> b")
    last = one.tokenizer.convert_tokens_to_ids("<STAGE-II>")
    assert one.weights.network.get_input_embeddings().weight.shape[0] > last
    ids = torch.tensor([[last - 1, 5, last, 9]])
    with one.active() as merged, other.active() as apart, torch.no_grad():
        assert torch.allclose(merged(ids).logits, apart(ids).logits, atol=1e-5)
    facts, _ = dpo_steps.run(dpo_steps.make(tmp_path / "dpo", staged, max_steps=1), tmp_path / "dpo" / "out")
    assert facts["curves"]["loss"][0][1] == pytest.approx(0.693147, abs=1e-5)


def test_a_whole_model_has_nothing_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"voice.model: 'base' is a whole model. There is nothing to merge"):
        merge(base(tiny_model), tmp_path)


def test_weights_that_do_not_fit_are_one_line(voice: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_memory", lambda *given: 10)
    with pytest.raises(MachineError, match=r"the weights need .* A larger machine does it") as error:
        merge(voice, tmp_path)
    assert error.value.exit_code == 5
