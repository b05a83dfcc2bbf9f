"""QLoRA: an adapter over weights in four or eight bits, on whatever processor this is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from runner import bits, decoding, models
from runner.errors import MachineError
from runner.step import Decoding, Model, Step
from tests.conftest import make_tokenizer
from tests.steps.train.sft_steps import make, run


def quantised(step: Step, folder: Path, size: int) -> Step:
    return Step(**{**vars(step), "models": {"model": (Model("base", {"load": str(folder), "bits": size}),)}})


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers wide enough for bitsandbytes to pack: 64 in, multiples of 32 out."""
    models.quiet()
    folder = tmp_path_factory.mktemp("wide")
    held = make_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("llama", vocab_size=len(held), eos_token_id=held.eos_token_id, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("size", [4, 8])
def test_an_adapter_learns_over_weights_in_few_bits_and_answers(tiny_model: Path, tmp_path: Path, size: int) -> None:
    facts, folder = run(quantised(make(tmp_path, tiny_model, epochs=4), tiny_model, size), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1] - 0.2
    assert facts["curves"]["validation_loss"][-1][1] < facts["curves"]["validation_loss"][0][1]
    saved = load_file(folder / "final" / "adapter_model.safetensors")
    assert all(weight.dtype == torch.float32 for weight in saved.values())
    assert f"| base weights | {size} bits |" in (folder / "final" / "README.md").read_text()
    under = Model("base", {"load": str(tiny_model), "bits": size})
    [voice] = models.load([Model("voice", {}, folder / "best", under)], tmp_path)
    greedy = Decoding("plain", "greedy", {"max_new_tokens": 4})
    talk = [{"role": "user", "content": "Has the letter come?"}]
    assert isinstance(decoding.answers(voice, [talk], greedy, 0)[0], str)


def test_four_bits_are_nf4_with_constants_in_bits_too() -> None:
    held = bits.config("base", 4, torch.float32)
    assert (held.bnb_4bit_quant_type, held.bnb_4bit_use_double_quant) == ("nf4", True)


def test_activations_computed_twice_teach_the_same(wide_model: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"max_steps": 3}
    once, _ = run(quantised(make(tmp_path / "1", wide_model, **keys), wide_model, 4), tmp_path / "1/out")
    keys["arguments"] = {"activation_checkpointing": True}
    twice, _ = run(quantised(make(tmp_path / "2", wide_model, **keys), wide_model, 4), tmp_path / "2/out")
    assert twice["hardware"]["activation_checkpointing"] and not once["hardware"]["activation_checkpointing"]
    for one, other in zip(once["curves"]["loss"], twice["curves"]["loss"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_after_a_look_at_the_validation_part_gradients_still_go_through(wide_model: Path) -> None:
    network = models.load_network(Model("base", {"load": str(wide_model), "bits": 4}), wide_model)
    network = bits.ready(get_peft_model(network, LoraConfig(r=4, target_modules="all-linear")), trains=True)
    ids = torch.arange(12)[None]

    def gradient() -> float:
        network.train()
        network.zero_grad()
        network(input_ids=ids, labels=ids).loss.backward()
        first = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
        return float(dict(network.named_parameters())[first].grad.norm())

    before = gradient()
    network.eval()
    with torch.no_grad():
        network(input_ids=ids)
    assert before > 0 and gradient() == pytest.approx(before)


def test_layers_too_narrow_to_pack_are_not_packed(tiny_model: Path, wide_model: Path) -> None:
    for folder in (tiny_model, wide_model):
        network = models.load_network(Model("base", {"load": str(folder), "bits": 4}), folder).eval()
        with torch.no_grad():
            assert torch.isfinite(network(input_ids=torch.arange(9)[None]).logits).all()


def test_without_bitsandbytes_the_machine_is_what_lacks(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="base: bits: 4 needs the package bitsandbytes"):
        models.load_network(Model("base", {"load": str(tiny_model), "bits": 4}), tiny_model)
