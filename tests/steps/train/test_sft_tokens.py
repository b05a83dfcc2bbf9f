"""Tokens that training adds: one piece each, trained, saved and loaded again, and unknown to the other models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from runner import chat, models, vocabulary
from runner.errors import StepError
from runner.step import Model
from tests.conftest import make_tokenizer, talks
from tests.steps.train.sft_steps import make, run

STAGES = ["<STAGE-I>", "<STAGE-II>"]


def staged(count: int) -> list[dict[str, Any]]:
    """Talks whose question begins with a stage, and whose answer ends with one."""
    rows = talks(count)
    for at, row in enumerate(rows):
        for message in row["messages"]:
            if message["role"] == "user":
                message["content"] = f"{STAGES[at % 2]} {message['content']}"
            if message["role"] == "assistant":
                message["content"] += STAGES[at % 2]
    return rows


PARTS = {"train": staged(18), "validation": staged(5)}


@pytest.fixture(scope="module", params=[True, False], ids=["shared head", "head of its own"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama whose output layer is that of the embeddings, or its own."""
    models.quiet()
    folder = tmp_path_factory.mktemp("base")
    held = make_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("llama", vocab_size=len(held), tie_word_embeddings=request.param, **sizes)
    config.eos_token_id = config.pad_token_id = held.eos_token_id
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("staged")
    return run(make(folder, base, PARTS, special_tokens=STAGES, epochs=3), folder / "out")


def answering(folder: Path, *models_: Model) -> list[Any]:
    return models.load(models_, folder)


def loss(loaded: Any) -> float:
    total = 0.0
    with loaded.active() as network, torch.no_grad():
        for row in PARTS["validation"]:
            made = chat.encode(loaded.tokenizer, row["messages"])
            total += float(network(**{name: torch.tensor([ids]) for name, ids in made.items()}).loss)
    return total / len(PARTS["validation"])


def test_each_token_is_one_piece_and_its_embedding_is_trained_and_saved(
    trained: tuple[dict[str, Any], Path], base: Path
) -> None:
    facts, folder = trained
    held = AutoTokenizer.from_pretrained(folder / "best")
    ids = held.convert_tokens_to_ids(STAGES)
    assert ids == [len(held) - 2, len(held) - 1] and held("a<STAGE-I>b").input_ids[1] == ids[0]
    saved = load_file(folder / "best" / "adapter_model.safetensors")
    rows = {name: weight for name, weight in saved.items() if "trainable_tokens" in name}
    shared = AutoConfig.from_pretrained(base).tie_word_embeddings
    assert len(rows) == (1 if shared else 2) and all(weight.shape == (2, 32) for weight in rows.values())
    mean = load_file(base / "model.safetensors")["model.embed_tokens.weight"].mean(0)
    assert all(
        torch.linalg.norm(weight - mean) > 0.05
        for weight in rows["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    )
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1] - 0.3
    assert "<STAGE-I>" in (folder / "best" / "README.md").read_text()


def test_loaded_again_the_model_is_what_it_was_and_beside_it_the_base_is_what_it_was(
    trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path
) -> None:
    facts, folder = trained
    under = Model("base", {"load": str(base)})
    staged_, plain = answering(tmp_path, Model("voice", {}, folder / "final", under), under)
    with staged_.active() as network, torch.no_grad():
        wide = network(input_ids=torch.tensor([[1, 2, 3]])).logits
    with plain.active() as network, torch.no_grad():
        narrow = network(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert wide.shape[-1] == narrow.shape[-1] + 2
    [alone] = answering(tmp_path, under)
    with alone.active() as network, torch.no_grad():
        assert torch.equal(network(input_ids=torch.tensor([[1, 2, 3]])).logits, narrow)
    measured = facts["metrics"]["validation_loss"]["final"]
    assert loss(staged_) == pytest.approx(measured, abs=0.2) and loss(staged_) < 5.9


def test_merged_it_says_the_same(trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path) -> None:
    voice = Model("voice", {}, trained[1] / "final", Model("base", {"load": str(base)}))
    [loaded] = answering(tmp_path, voice)
    merged = models.load_network(voice, tmp_path).eval()
    ids = torch.tensor([[*loaded.tokenizer.convert_tokens_to_ids(STAGES), 5, 9]])
    with loaded.active() as network, torch.no_grad():
        assert torch.allclose(network(input_ids=ids).logits, merged(input_ids=ids).logits, atol=1e-5)


def test_an_adapter_on_top_keeps_the_tokens(trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path) -> None:
    voice = Model("voice", {}, trained[1] / "final", Model("base", {"load": str(base)}))
    step = make(tmp_path, base, PARTS, max_steps=2, learning_rate=1e-9)
    facts, folder = run(type(step)(**{**vars(step), "models": {"model": (voice,)}}), tmp_path / "out")
    assert facts["metrics"]["validation_loss"]["final"] == pytest.approx(
        trained[0]["metrics"]["validation_loss"]["final"], abs=1e-3
    )
    [more] = answering(tmp_path, Model("more", {}, folder / "final", voice))
    assert "<STAGE-I>" in more.tokenizer.get_vocab()


def test_two_adapters_with_tokens_share_a_base_and_stay_themselves(
    trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path
) -> None:
    _, folder = run(make(tmp_path, base, PARTS, special_tokens=STAGES, seed=1, max_steps=4), tmp_path / "out")
    under = Model("base", {"load": str(base)})
    pair = [Model("one", {}, trained[1] / "final", under), Model("two", {}, folder / "final", under)]
    ids = torch.tensor([[5, *AutoTokenizer.from_pretrained(folder / "best").convert_tokens_to_ids(STAGES), 9]])

    def logits(loaded: Any) -> torch.Tensor:
        with loaded.active() as network, torch.no_grad():
            return network(input_ids=ids).logits

    alone = [logits(answering(tmp_path, one)[0]) for one in pair]
    together = answering(tmp_path, *pair)
    assert together[0].weights is together[1].weights
    for loaded, held in zip([*together, *together[::-1]], [*alone, *alone[::-1]], strict=True):
        assert torch.allclose(logits(loaded), held, atol=1e-6)


def test_all_weights_trained_hold_the_tokens_too(base: Path, tmp_path: Path) -> None:
    _, folder = run(make(tmp_path, base, PARTS, special_tokens=STAGES, lora=None, max_steps=3), tmp_path / "out")
    held = AutoTokenizer.from_pretrained(folder / "best")
    network = AutoModelForCausalLM.from_pretrained(folder / "best")
    assert network.get_input_embeddings().weight.shape[0] == len(held) == network.config.vocab_size


def test_a_token_that_the_model_knows_is_not_added_twice(trained: tuple[dict[str, Any], Path]) -> None:
    held = AutoTokenizer.from_pretrained(trained[1] / "best")
    size = len(held)
    vocabulary.add(held, None, STAGES)
    assert len(held) == size


def test_an_adapter_of_another_vocabulary_is_named_in_one_line(
    trained: tuple[dict[str, Any], Path], base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in (trained[1] / "final").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    saved = load_file(other / "adapter_model.safetensors")
    saved = {name: weight for name, weight in saved.items() if "trainable_tokens" not in name}
    save_file(saved | {"base_model.model.lm_head.weight": torch.zeros(77, 32)}, other / "adapter_model.safetensors")
    config = json.loads((other / "adapter_config.json").read_text())
    config["trainable_token_indices"] = None
    (other / "adapter_config.json").write_text(json.dumps(config))
    under = Model("base", {"load": str(base)})
    with pytest.raises(StepError, match=r"voice: this adapter does not fit 'base': its vocabulary has 77 tokens"):
        models.load([Model("voice", {}, other, under)], tmp_path)


def test_an_adapter_of_a_wider_model_is_named_in_one_line(
    trained: tuple[dict[str, Any], Path], tiny_model: Path, tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=400, **sizes)).save_pretrained(wide)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(wide)
    with pytest.raises(StepError, match=r"voice: this adapter does not fit 'base': size mismatch .* trained on\."):
        models.load([Model("voice", {}, trained[1] / "final", Model("base", {"load": str(wide)}))], tmp_path)
