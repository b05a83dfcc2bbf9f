"""The architectures of the systems that recipes reproduce, with random weights: they learn, pack, merge, and keep their head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from runner import models
from runner.errors import StepError
from runner.step import Model
from runner.steps.train import _packing
from tests.conftest import make_tokenizer, talks
from tests.steps.train.sft_steps import make, run

SMALL = {"hidden_size": 32, "num_attention_heads": 4}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 2, "intermediate_size": 64, "num_key_value_heads": 2, "tie_word_embeddings": False},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 512,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "max_position_embeddings": 512,
    },
}


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer model; those that came without a chat template come without one here too."""
    models.quiet()
    folder = tmp_path_factory.mktemp(request.param)
    held = make_tokenizer() if request.param == "llama" else make_tokenizer(None)
    torch.manual_seed(0)
    end = {"eos_token_id": held.eos_token_id, "bos_token_id": held.eos_token_id, "pad_token_id": None}
    sizes = {**(SMALL if request.param != "gpt2" else {}), **KINDS[request.param], **end}
    config = AutoConfig.for_model(request.param, vocab_size=len(held), **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("trained")
    return run(make(folder, base, epochs=3), folder / "out")


def test_it_learns_and_lora_is_in_every_linear_layer_but_the_head(trained: tuple[dict[str, Any], Path]) -> None:
    facts, folder = trained
    loss, checks = facts["curves"]["loss"], facts["curves"]["validation_loss"]
    assert loss[-1][1] < loss[0][1] - 0.1 and checks[-1][1] < checks[0][1]
    names = list(load_file(folder / "best" / "adapter_model.safetensors"))
    layers = {name.split(".lora_")[0].split(".layers.")[-1].split(".h.")[-1][2:] for name in names}
    assert len(names) == 2 * 2 * len(layers) and all(name.startswith(("self_attn", "mlp", "attn")) for name in layers)


def test_all_its_weights_can_be_trained(base: Path, tmp_path: Path) -> None:
    facts, folder = run(make(tmp_path, base, lora=None, epochs=2), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1] - 0.3
    assert set(load_file(folder / "final" / "model.safetensors")) == set(load_file(base / "model.safetensors"))


def test_merged_it_gives_the_same_logits(trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path) -> None:
    voice = Model("voice", {}, trained[1] / "final", Model("base", {"load": str(base)}))
    [loaded] = models.load([voice], tmp_path)
    ids = torch.arange(3, 60)[None]
    merged, plain = models.load_network(voice, tmp_path).eval(), AutoModelForCausalLM.from_pretrained(base).eval()
    with loaded.active() as network, torch.no_grad():
        assert isinstance(network, PeftModel) and not isinstance(merged, PeftModel)
        unmerged = network(input_ids=ids).logits
        assert torch.allclose(unmerged, merged(input_ids=ids).logits, atol=1e-5)
        assert not torch.allclose(unmerged, plain(input_ids=ids).logits, atol=1e-3)


def test_packed_examples_do_not_see_each_other(base: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(base).eval()
    generator = torch.Generator().manual_seed(0)
    examples = [torch.randint(0, 400, (length,), generator=generator).tolist() for length in (17, 5, 40, 1, 23)]
    assert _packing.apart(network, examples) < 1e-5


def test_packed_it_learns_what_it_learns_apart(base: Path, tmp_path: Path) -> None:
    rows = {"train": talks(6), "validation": talks(4)}
    keys: dict[str, Any] = {"learning_rate": 1e-9, "max_steps": 1, "batch": 6}
    apart, _ = run(make(tmp_path / "1", base, rows, **keys), tmp_path / "1/out")
    packed, _ = run(make(tmp_path / "2", base, rows, packing=True, max_length=512, **keys), tmp_path / "2/out")
    for name in ("loss", "validation_loss"):
        assert packed["curves"][name][0][1] == pytest.approx(apart["curves"][name][0][1], abs=1e-4)


def test_a_network_that_carries_a_state_along_is_not_packed(tmp_path: Path) -> None:
    held = make_tokenizer()
    config = AutoConfig.for_model("mamba", vocab_size=len(held), hidden_size=32, num_hidden_layers=2, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    held.save_pretrained(tmp_path / "base")
    with pytest.raises(
        StepError, match=r"voice.packing: in one row, examples would see each other: mamba cannot be packed"
    ):
        run(make(tmp_path, tmp_path / "base", packing=True, max_length=512, lora=None), tmp_path / "out")
