from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from runner import chat, models
from runner.errors import StepError
from runner.step import Model, Prompt, Step
from runner.steps.train import _training, sft
from tests.conftest import talks
from tests.steps.train.sft_steps import PARTS, make, run


def base(tiny_model: Path) -> Model:
    return Model("base", {"load": str(tiny_model)})


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("trained")
    learned = Prompt("persona", ({"system": "You are Holmes."},))
    return run(make(folder, tiny_model, epochs=3, learned=learned), folder / "out.part")


def test_the_loss_goes_down_on_held_out_rows_too(trained: tuple[dict[str, Any], Path]) -> None:
    facts, _ = trained
    loss, checks = facts["curves"]["loss"], facts["curves"]["validation_loss"]
    assert [step for step, _ in loss] == list(range(1, 16)) and [step for step, _ in checks] == [5, 10, 15]
    assert loss[-1][1] < loss[0][1] - 0.2
    assert facts["metrics"]["validation_loss"]["best"] == min(value for _, value in checks) < checks[0][1]


def test_best_and_final_are_whole_hub_folders(trained: tuple[dict[str, Any], Path], tiny_model: Path) -> None:
    _, folder = trained
    names = {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "prompt.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    for name in ("best", "final"):
        assert {path.name for path in (folder / name).iterdir()} == names
        config = json.loads((folder / name / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == tiny_model.name and config["r"] == 4 and config["lora_alpha"] == 8
        texts = [path.read_text() for path in (folder / name).glob("*.*") if path.suffix != ".safetensors"]
        assert not any("/tmp" in text or str(tiny_model) in text for text in texts)
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]


def test_a_trained_folder_remembers_its_prompt(trained: tuple[dict[str, Any], Path], tiny_model: Path) -> None:
    _, folder = trained
    [loaded] = models.load([Model("voice", {}, folder / "best", base(tiny_model))], folder)
    assert loaded.prompt == Prompt("persona", ({"system": "You are Holmes."},))


def test_lora_never_touches_the_head(trained: tuple[dict[str, Any], Path]) -> None:
    _, folder = trained
    names = list(load_file(folder / "final" / "adapter_model.safetensors"))
    assert len(names) == 2 * 2 * 7 and not any("lm_head" in name or "embed" in name for name in names)


def test_a_list_of_targets_may_not_name_the_head(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="lm_head is the output layer"):
        run(make(tmp_path, tiny_model, lora={"targets": ["q_proj", "lm_head"]}), tmp_path / "out")


def test_training_twice_gives_the_same_weights_and_the_same_curves(tiny_model: Path, tmp_path: Path) -> None:
    one, first = run(make(tmp_path / "1", tiny_model, lora={"dropout": 0.1}), tmp_path / "1/out")
    two, second = run(make(tmp_path / "2", tiny_model, lora={"dropout": 0.1}), tmp_path / "2/out")
    assert one["curves"] == two["curves"]
    for name in ("best", "final"):
        for path in (first / name).iterdir():
            assert path.read_bytes() == (second / name / path.name).read_bytes(), path.name


def test_rows_at_once_do_not_change_what_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    curves = [
        run(make(tmp_path / str(n), tiny_model, batch_at_once=n), tmp_path / str(n) / "out")[0]["curves"]
        for n in (1, 4)
    ]
    for one, other in zip(curves[0]["loss"], curves[1]["loss"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_batch_at_once_must_divide_the_batch(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="voice: batch_at_once: 3 does not divide batch: 4"):
        run(make(tmp_path, tiny_model, batch_at_once=3), tmp_path / "out")


def test_all_weights_are_trained_without_lora(tiny_model: Path, tmp_path: Path) -> None:
    facts, folder = run(make(tmp_path, tiny_model, lora=None), tmp_path / "out")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(folder / "final" / "model.safetensors")
    assert before.keys() == after.keys() and not any(torch.equal(before[name], after[name]) for name in before)
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1]
    assert "tmp" not in (folder / "final" / "config.json").read_text()


def test_without_validation_best_is_final(tiny_model: Path, tmp_path: Path) -> None:
    facts, folder = run(make(tmp_path, tiny_model, {"rows": talks(8)}, max_steps=2), tmp_path / "out")
    assert facts["notes"] == ["There is no validation part, so best and final are the same model."]
    assert facts["metrics"]["updates"] == 2 and "validation_loss" not in facts["metrics"]
    for path in (folder / "final").iterdir():
        assert path.read_bytes() == (folder / "best" / path.name).read_bytes()


def test_the_test_part_is_never_read(tiny_model: Path, tmp_path: Path) -> None:
    step = make(tmp_path, tiny_model, PARTS | {"test": [{"messages": "torn"}]}, max_steps=1)
    run(step, tmp_path / "out")


def test_training_stops_early_and_keeps_the_best(tiny_model: Path, tmp_path: Path) -> None:
    other = [
        {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": "Good morning!"}]}
        for row in talks(4)
    ]
    keys = {"epochs": 50, "learning_rate": 0.03, "stop_early": {"after": 2, "on": "loss"}}
    facts, folder = run(make(tmp_path, tiny_model, {"train": talks(8), "validation": other}, **keys), tmp_path / "out")
    checks = [value for _, value in facts["curves"]["validation_loss"]]
    assert len(checks) < 50 and checks.index(min(checks)) == len(checks) - 3
    assert facts["notes"] == [f"Stopped early after {2 * len(checks)} of 100 updates."]
    weights = [load_file(folder / name / "adapter_model.safetensors") for name in ("best", "final")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_loss_that_is_not_a_number_names_the_update(tiny_model: Path, tmp_path: Path) -> None:
    arguments = {"max_grad_norm": 0.0, "optim": "sgd"}
    with pytest.raises(StepError, match=r"the loss is not a number at update \d+. Lower learning_rate"):
        run(make(tmp_path, tiny_model, learning_rate=1e18, warmup=0, arguments=arguments, lora=None), tmp_path / "out")


def test_rows_without_answers_are_rejected_and_none_left_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    silent = [{**row, "messages": row["messages"][:2]} for row in talks(3)]
    with pytest.raises(StepError, match="no row of the train part has an answer to learn from"):
        run(make(tmp_path, tiny_model, {"train": silent}), tmp_path / "out")
    step = make(tmp_path / "2", tiny_model, {"train": silent + talks(4)}, max_steps=1)
    run(step, tmp_path / "2/out")
    rejected = [json.loads(line) for line in (tmp_path / "2/out/rejected.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rejected] == ["no answer to learn"] * 3 and rejected[1]["source"] == "room.json:1"


def test_an_argument_of_trl_is_passed_on(tiny_model: Path, tmp_path: Path) -> None:
    step = make(tmp_path, tiny_model, max_steps=2, arguments={"lr_scheduler_type": "constant", "adam_beta2": 0.5})
    one, _ = run(step, tmp_path / "out")
    two, _ = run(make(tmp_path / "2", tiny_model, max_steps=2), tmp_path / "2/out")
    assert one["curves"] != two["curves"]


def test_packed_examples_give_the_same_loss_as_apart(tiny_model: Path, tmp_path: Path) -> None:
    rows = {"train": talks(4), "validation": talks(4)}
    keys = {"learning_rate": 1e-9, "max_steps": 1}
    apart, _ = run(make(tmp_path / "1", tiny_model, rows, **keys), tmp_path / "1/out")
    packed, _ = run(make(tmp_path / "2", tiny_model, rows, packing=True, max_length=512, **keys), tmp_path / "2/out")
    assert packed["curves"]["loss"][0][1] == pytest.approx(apart["curves"]["loss"][0][1], abs=1e-4)


def test_show_marks_what_is_learned_without_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load_network", None)
    seen = sft.show(make(tmp_path, tiny_model), 2)
    assert seen["samples"][0] == [
        (
            "<|im_start|>system\nYou are Holmes.<|im_end|>\n<|im_start|>user\nHas the letter come? 0 <|im_end|>\n"
            "<|im_start|>assistant\n",
            False,
        ),
        ("Observe the mud on his boots, 0!<|im_end|>", True),
        ("\n", False),
    ]
    assert (len(seen["samples"]), len(seen["lengths"])) == (2, 18) and 0 < seen["trained_tokens"] < seen["tokens"]


def test_show_says_so_where_nothing_would_be_learned(tiny_model: Path, tmp_path: Path) -> None:
    silent = [{**row, "messages": row["messages"][:2]} for row in talks(3)]
    with pytest.raises(StepError, match="no token would be learned"):
        sft.show(make(tmp_path, tiny_model, {"rows": silent}), 2)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    history = [{"step": at, "loss": float(at)} for at in range(1, 1235)]
    thin = _training.curve(history, "loss")
    assert 400 < len(thin) <= 500 and (thin[0], thin[-1]) == ([1, 1.0], [1234, 1234.0])
    assert _training.curve(history[:500], "loss") == [[at, float(at)] for at in range(1, 501)]


def test_weights_in_four_bits_cannot_be_trained_themselves(tiny_model: Path, tmp_path: Path) -> None:
    small = Model("base", {"load": str(tiny_model), "bits": 4})
    step = make(tmp_path, tiny_model, lora=None)
    with pytest.raises(StepError, match="cannot be trained"):
        run(Step(**{**vars(step), "models": {"model": (small,)}}), tmp_path / "out")


@pytest.mark.parametrize("lora", [{"rank": 4}, None])
def test_a_base_model_learns_the_plain_template_and_keeps_it(bare_model: Path, tmp_path: Path, lora: Any) -> None:
    facts, folder = run(make(tmp_path, bare_model, lora=lora, epochs=2), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1]
    held = chat.complete(AutoTokenizer.from_pretrained(folder / "best"))
    assert (held.chat_template, held.pad_token) == (chat.PLAIN, "<|im_end|>")


def test_an_adapter_can_be_trained_further(
    trained: tuple[dict[str, Any], Path], tiny_model: Path, tmp_path: Path
) -> None:
    voice = Model("voice", {}, trained[1] / "final", base(tiny_model))
    step = make(tmp_path, tiny_model, max_steps=1, learning_rate=1e-9)
    facts, folder = run(Step(**{**vars(step), "models": {"model": (voice,)}}), tmp_path / "out")
    assert facts["metrics"]["validation_loss"]["final"] == pytest.approx(
        trained[0]["metrics"]["validation_loss"]["final"], abs=1e-3
    )
    merged, chained = models.load([voice, Model("more", {}, folder / "final", voice)], tmp_path)
    assert isinstance(chained.weights.network, PeftModel) and merged.weights is not chained.weights
