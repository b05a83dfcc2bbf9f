from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from runner.chat import IGNORED, Example
from runner.models import quiet
from runner.steps import _losses

SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 64},
    "gpt2": {"n_positions": 64},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gemma2": {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 2.0},
    "granite": {"intermediate_size": 64, "logits_scaling": 8.0},
    "cohere": {"intermediate_size": 64, "logit_scale": 0.3},
}


def network(kind: str) -> Any:
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind]})).eval()
    for weight in made.parameters():  # louder, so that no two tokens are equally likely
        weight.data.mul_(3)
    return made


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for length in (12, 5, 9):
        ids = torch.randint(1, 300, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [one if at % 3 else IGNORED for at, one in enumerate(ids)]})
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradient_are_the_models_own(kind: str) -> None:
    one, batch = network(kind), _losses.pad(examples(), 0)
    theirs = one(**batch, use_cache=False).loss
    theirs.backward()
    gradients = {name: weight.grad.clone() for name, weight in one.named_parameters() if weight.grad is not None}
    one.zero_grad()
    ours = _losses.mean_loss(one, batch)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for name, weight in one.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], atol=1e-5), name


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_adapter_is_part_of_the_loss(kind: str) -> None:
    batch = _losses.pad(examples(), 0)
    quiet()
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(network(kind), lora).eval()
    ours = _losses.mean_loss(adapted, batch).item()
    assert ours == pytest.approx(adapted(**batch, use_cache=False).loss.item(), rel=1e-5)
    assert abs(ours - _losses.mean_loss(network(kind), batch).item()) > 1e-3


def test_totals_do_not_depend_on_how_rows_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    one, rows = network("llama"), examples()
    whole = _losses.totals(one, [_losses.pad(rows, 0)])
    monkeypatch.setattr(_losses, "AT_ONCE", 2)
    apart = _losses.totals(one, [_losses.pad([row], 0) for row in rows])
    assert (whole.tokens, whole.hits) == (apart.tokens, apart.hits)
    assert whole.tokens == sum(label != IGNORED for row in rows for label in row["labels"][1:])
    assert whole.nll == pytest.approx(apart.nll, rel=1e-5)


def test_nothing_learned_is_zero_loss_and_not_a_crash() -> None:
    one = network("llama")
    blank = [{"input_ids": [5, 6, 7], "labels": [IGNORED] * 3}]
    loss = _losses.mean_loss(one, _losses.pad(blank, 0))
    loss.backward()
    assert loss.item() == 0.0 and _losses.totals(one, [_losses.pad(blank, 0)]).tokens == 0
