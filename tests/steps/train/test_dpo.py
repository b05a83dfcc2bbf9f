from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner import models
from runner.errors import StepError
from runner.step import Model, Prompt
from runner.steps.train import _pairs, _sharing, dpo
from tests.steps.train import sft_steps
from tests.steps.train.dpo_steps import PARTS, make, pairs, run

LOG2 = math.log(2)


def base(tiny_model: Path) -> Model:
    return Model("base", {"load": str(tiny_model)})


def logits(model: Model, folder: Path) -> torch.Tensor:
    [loaded] = models.load([model], folder)
    with loaded.active() as network, torch.no_grad():
        made: torch.Tensor = network(torch.tensor([[5, 9, 22, 41, 100, 7]])).logits
    return made


@pytest.fixture(scope="module")
def voice(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small adapter that sft made."""
    folder = tmp_path_factory.mktemp("voice")
    _, made = sft_steps.run(sft_steps.make(folder, tiny_model, learning_rate=0.02), folder / "out")
    return Model("voice", {}, made / "best", base(tiny_model))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("trained")
    step = make(folder, tiny_model, epochs=3, learned=Prompt("persona", ({"system": "You are Holmes."},)))
    return run(step, folder / "out.part")


def test_the_loss_goes_down_and_margins_up_on_held_out_pairs_too(trained: tuple[dict[str, Any], Path]) -> None:
    facts, _ = trained
    curves, held = facts["curves"], facts["metrics"]["validation"]
    assert curves["loss"][-1][1] < LOG2 - 0.2 and curves["margin"][-1][1] > 0.3
    assert [step for step, _ in curves["validation_loss"]] == [5, 10, 15]
    assert held["loss"]["final"] < LOG2 - 0.1 and held["accuracy"]["final"] == 1.0
    assert held["margin"]["final"] == pytest.approx(held["chosen"]["final"] - held["rejected"]["final"], abs=1e-6)
    [table] = facts["tables"]
    assert [row[:2] for row in table["rows"]] == [
        ["train", "on the way"],
        ["validation", "best"],
        ["validation", "final"],
    ]


@pytest.mark.parametrize("lora", [{"rank": 4}, None])
def test_the_reference_is_the_model_given_so_the_first_loss_is_log_two(voice: Model, tmp_path: Path, lora: Any) -> None:
    facts, _ = run(make(tmp_path, voice, lora=lora, max_steps=2), tmp_path / "out")
    first = {name: points[0][1] for name, points in facts["curves"].items()}
    assert first["loss"] == pytest.approx(LOG2, abs=1e-5)
    assert first["chosen"] == pytest.approx(0, abs=1e-5) and first["rejected"] == pytest.approx(0, abs=1e-5)
    assert facts["curves"]["loss"][1][1] < LOG2 - 1e-4


def test_what_the_reference_says_is_the_log_probability_of_each_answer(
    voice: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a plain forward pass of the adapter on its base, token by token."""
    seen: list[Any] = []
    monkeypatch.setattr(dpo, "_write", lambda step, out, trainer, facts: seen.append(trainer))
    step = make(tmp_path, voice, max_steps=1)
    run(step, tmp_path / "out")
    [loaded] = models.load([voice], tmp_path)
    data = seen[0].train_dataset
    for pair in [data[place] for place in (0, 7, 17)]:
        for name in ("chosen", "rejected"):
            ids = torch.tensor([pair["prompt_ids"] + pair[f"{name}_ids"]])
            with loaded.active() as network, torch.no_grad():
                scores = network(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
            answer = scores[len(pair["prompt_ids"]) - 1 :].sum().item()
            assert pair[f"ref_{name}_logps"] == pytest.approx(answer, abs=1e-3)


def test_answers_are_learned_to_their_end_token_and_prompts_are_not(tiny_model: Path, tmp_path: Path) -> None:
    step = make(tmp_path, tiny_model)
    tokenizer = models.load_tokenizer(step.models["model"][0], tmp_path)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    [pair, *_] = _pairs.pairs(step, tokenizer, "train")
    assert tokenizer.decode(pair["prompt_ids"]) == (
        "<|im_start|>system\nYou are Holmes.<|im_end|>\n<|im_start|>user\nHas the letter come? 0 <|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokenizer.decode(pair["chosen_ids"]) == "Observe the mud on his boots, 0!<|im_end|>"
    assert tokenizer.decode(pair["rejected_ids"]) == "Good morning, Watson 0<|im_end|>"


def test_padding_that_is_the_end_token_does_not_count(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(dpo, "_write", lambda step, out, trainer, facts: seen.append(trainer))
    run(make(tmp_path, tiny_model, max_steps=1), tmp_path / "out")
    rows = [seen[0].train_dataset[place] for place in range(3)]
    batch = seen[0].data_collator(rows)
    for at, name in enumerate(["chosen"] * 3 + ["rejected"] * 3):
        learned = batch["input_ids"][at][batch["completion_mask"][at].bool()].tolist()
        assert learned == rows[at % 3][f"{name}_ids"] and learned[-1] == 2
        assert batch["attention_mask"][at].sum() == len(rows[at % 3]["prompt_ids"]) + len(learned)


def test_a_chain_of_sft_and_dpo_loads_as_what_was_trained_merged_or_not(
    voice: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    write = dpo._write
    monkeypatch.setattr(dpo, "_write", lambda *given: (seen.append(given[2].model), write(*given)))
    _, folder = run(make(tmp_path, voice, learning_rate=0.03), tmp_path / "out")
    sharper = Model("sharper", {}, folder / "final", voice)
    with torch.no_grad():
        wanted = seen[0](torch.tensor([[5, 9, 22, 41, 100, 7]])).logits
    assert torch.allclose(logits(sharper, tmp_path), wanted, atol=1e-5)
    assert not torch.allclose(logits(voice, tmp_path), wanted, atol=0.01)
    one = models.load_network(sharper, tmp_path)
    with torch.no_grad():
        assert torch.allclose(one(torch.tensor([[5, 9, 22, 41, 100, 7]])).logits, wanted, atol=1e-5)
    together = models.load([sharper, voice, sharper.base.base, sharper], tmp_path)  # type: ignore[union-attr, list-item]
    for loaded, model in zip(together, (sharper, voice, base(Path("x")), sharper), strict=True):
        with loaded.active() as network, torch.no_grad():
            made = network(torch.tensor([[5, 9, 22, 41, 100, 7]])).logits
        assert torch.allclose(made, wanted, atol=1e-5) == (model.name == "sharper")
    assert together[0].weights is together[3].weights and together[1].weights is together[2].weights


def test_all_weights_are_trained_without_lora(voice: Model, tiny_model: Path, tmp_path: Path) -> None:
    facts, folder = run(make(tmp_path, voice, lora=None, learning_rate=1e-3, epochs=3), tmp_path / "out")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(folder / "final" / "model.safetensors")
    assert before.keys() == after.keys() and not any(torch.equal(before[name], after[name]) for name in before)
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1]


def test_the_shape_of_batches_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """18 pairs by 4: the last update of an epoch has 2, and each pair counts the same there too."""
    curves = [
        run(make(tmp_path / str(n), tiny_model, batch_at_once=n, epochs=2), tmp_path / str(n) / "out")[0]["curves"]
        for n in (2, 4)
    ]
    for other in curves[1:]:
        for name in ("loss", "margin", "validation_loss", "validation_margin", "validation_accuracy"):
            for one, two in zip(curves[0][name], other[name], strict=True):
                assert one == pytest.approx(two, abs=1e-4), name


LOSSES = [0.6931, 0.6542, 0.5977, 0.5575, 0.5575, 0.5349, 0.5508, 0.5310, 0.5456, 0.5169]
MARGINS = [0.0, 0.0794, 0.2011, 0.2929, 0.2926, 0.3478, 0.3087, 0.3577, 0.3218, 0.3908]
HELD_OUT = [0.5541, 0.5200]


@pytest.mark.parametrize("at_once", [4, 1])
def test_the_course_of_training_is_that_of_the_committed_series(tiny_model: Path, tmp_path: Path, at_once: int) -> None:
    """Written with torch 2.13, transformers 5.23, TRL 1.16 and peft 0.21; a new version that differs has to be explained."""
    facts, _ = run(make(tmp_path, tiny_model, epochs=2, seed=7, batch_at_once=at_once), tmp_path / "out")
    for name, wanted in (("loss", LOSSES), ("margin", MARGINS), ("validation_loss", HELD_OUT)):
        assert [value for _, value in facts["curves"][name]] == pytest.approx(wanted, abs=1e-3), name


def test_prompts_that_are_run_once_give_what_they_give_twice(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, _ = run(make(tmp_path / "1", tiny_model, epochs=2), tmp_path / "1/out")
    monkeypatch.setattr(_sharing, "NEAR", {torch.float32: -1.0})
    twice, _ = run(make(tmp_path / "2", tiny_model, epochs=2), tmp_path / "2/out")
    assert once["hardware"]["prompts_shared"] and not twice["hardware"]["prompts_shared"]
    for one, two in zip(once["curves"]["loss"], twice["curves"]["loss"], strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_a_window_over_the_past_is_noticed_and_its_prompts_are_run_twice() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    probe = {"input_ids": torch.randint(1, 50, (2, 20)), "attention_mask": torch.ones(2, 20, dtype=torch.long)}
    probe["input_ids"][1, :12] = probe["input_ids"][0, :12]
    for window, wanted in ((6, False), (64, True)):
        network = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=window)).eval()
        with _sharing.sharing(network, probe) as on:
            assert on is wanted


def test_training_twice_gives_the_same_weights_and_the_same_curves(tiny_model: Path, tmp_path: Path) -> None:
    one, first = run(make(tmp_path / "1", tiny_model, lora={"dropout": 0.1}), tmp_path / "1/out")
    two, second = run(make(tmp_path / "2", tiny_model, lora={"dropout": 0.1}), tmp_path / "2/out")
    plain, _ = run(make(tmp_path / "3", tiny_model), tmp_path / "3/out")
    assert one["curves"] == two["curves"] != plain["curves"]
    for name in ("best", "final"):
        for path in (first / name).iterdir():
            assert path.read_bytes() == (second / name / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        ("ipo", {}),
        ("hinge", {}),
        (["sigmoid", "sft"], {"loss_weights": [1.0, 0.5]}),
        ("robust", {"label_smoothing": 0.1}),
    ],
    ids=str,
)
def test_other_losses_go_down(tiny_model: Path, tmp_path: Path, loss: Any, arguments: dict[str, Any]) -> None:
    facts, folder = run(make(tmp_path, tiny_model, loss=loss, epochs=2, arguments=arguments), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1]
    assert (loss if isinstance(loss, str) else "sigmoid + sft") in (folder / "best" / "README.md").read_text()


def test_what_trl_refuses_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^voice: Label smoothing must be greater than 0.0"):
        run(make(tmp_path, tiny_model, loss="exo_pair"), tmp_path / "out")
    with pytest.raises(StepError, match=r"^voice: batch_at_once: 3 does not divide batch: 4"):
        run(make(tmp_path / "2", tiny_model, batch_at_once=3), tmp_path / "2/out")


def test_a_loss_that_is_not_a_number_names_the_update(tiny_model: Path, tmp_path: Path) -> None:
    arguments = {"max_grad_norm": 0.0, "optim": "sgd"}
    with pytest.raises(StepError, match=r"the loss is not a number at update \d+. Lower learning_rate"):
        run(make(tmp_path, tiny_model, learning_rate=1e18, arguments=arguments, lora=None), tmp_path / "out")


def test_training_stops_early_on_the_margin_and_keeps_the_best(tiny_model: Path, tmp_path: Path) -> None:
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(4)]
    keys = {"epochs": 50, "best": "margin", "stop_early": {"after": 2, "on": "margin"}, "check_every": 1}
    facts, folder = run(make(tmp_path, tiny_model, {"train": pairs(8), "validation": turned}, **keys), tmp_path / "out")
    margins = [value for _, value in facts["curves"]["validation_margin"]]
    assert len(margins) == 3 and max(margins) == margins[0]
    assert facts["metrics"]["validation"]["margin"] == {"best": margins[0], "final": margins[-1]}
    weights = [load_file(folder / name / "adapter_model.safetensors") for name in ("best", "final")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert facts["notes"][-1] == "Stopped early after 3 of 100 updates."


def test_best_and_final_are_whole_hub_folders(trained: tuple[dict[str, Any], Path], tiny_model: Path) -> None:
    _, folder = trained
    names = {"adapter_config.json", "adapter_model.safetensors", "README.md", "prompt.json", "tokenizer.json"}
    for name in ("best", "final"):
        found = {path.name for path in (folder / name).iterdir()}
        assert found == names | {"tokenizer_config.json", "chat_template.jinja"}
        config = json.loads((folder / name / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == tiny_model.name
        texts = [path.read_text() for path in (folder / name).glob("*.*") if path.suffix != ".safetensors"]
        assert not any("/tmp" in text or str(tiny_model) in text for text in texts)
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]


def test_without_validation_best_is_final(tiny_model: Path, tmp_path: Path) -> None:
    facts, folder = run(make(tmp_path, tiny_model, {"rows": pairs(8)}, max_steps=2), tmp_path / "out")
    assert "There is no validation part, so best and final are the same model." in facts["notes"]
    assert "validation" not in facts["metrics"]
    for path in (folder / "final").iterdir():
        assert path.read_bytes() == (folder / "best" / path.name).read_bytes()


def test_the_test_part_is_never_read(tiny_model: Path, tmp_path: Path) -> None:
    run(make(tmp_path, tiny_model, PARTS | {"test": [{"prompt": 3}]}, max_steps=1), tmp_path / "out")


def test_a_base_model_without_a_template_learns_preferences(bare_model: Path, tmp_path: Path) -> None:
    facts, _ = run(make(tmp_path, bare_model, epochs=3), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1] - 0.05


@pytest.mark.parametrize("lora", [{"rank": 4}, None])
def test_weights_in_bits_take_one_adapter_and_no_more(
    tiny_model: Path, voice: Model, tmp_path: Path, lora: Any
) -> None:
    small = Model("base", {"load": str(tiny_model), "bits": 4})
    below = Model("voice", {}, voice.folder, small) if lora else small
    wanted = "voice.model: 'voice' is an adapter over .* Merge it first" if lora else "cannot be trained. Add lora:"
    with pytest.raises(StepError, match=wanted):
        run(make(tmp_path, below, lora=lora), tmp_path / "out")


def test_a_card_says_what_was_learned_and_how_well(trained: tuple[dict[str, Any], Path]) -> None:
    text = (trained[1] / "best" / "README.md").read_text()
    assert "| method | direct preference optimisation, LoRA of rank 4 |" in text and "| beta | 0.1 |" in text
    assert "| held-out accuracy (best, final) | 1.0000, 1.0000 |" in text


def test_show_marks_both_answers_without_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load_network", None)
    seen = dpo.show(make(tmp_path, tiny_model), 2)
    assert [learned for _, learned in seen["samples"][0]] == [False, True, False, True]
    assert seen["samples"][0][1][0] == "Observe the mud on his boots, 0!<|im_end|>"
    assert (len(seen["samples"]), len(seen["lengths"])) == (2, 18) and 0 < seen["trained_tokens"] < seen["tokens"]


def test_show_says_so_where_no_pair_is_left(tiny_model: Path, tmp_path: Path) -> None:
    same = [{**row, "rejected": row["chosen"]} for row in pairs(3)]
    with pytest.raises(StepError, match="there is no pair to learn from"):
        dpo.show(make(tmp_path, tiny_model, {"rows": same}), 2)
