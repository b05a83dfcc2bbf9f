from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from runner import embeddings, places
from runner.errors import StepError
from runner.step import Model
from tests.conftest import make_tokenizer

TEXTS = ["The rain has stopped.", "It is no longer raining.", "Moriarty is a professor of mathematics.", ""]
DENSE = {
    "in_features": 32,
    "out_features": 16,
    "bias": False,
    "activation_function": "torch.nn.modules.linear.Identity",
}


def modules(folder: Path, *kinds: str, **configs: Any) -> Path:
    """A sentence-transformers folder's own files: the modules, and {module: config}."""
    listed = [
        {"idx": at, "path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """The folder of a random two-layer encoder."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def load(folder: Path | str) -> embeddings.Encoder:
    if isinstance(folder, Path):
        return embeddings.load(Model("finder", {}, folder), folder)
    return embeddings.load(Model("finder", {"load": folder}), Path("nowhere"))


def test_the_bundled_encoder_puts_like_beside_like():
    vectors = embeddings.embed(load("minilm"), TEXTS)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.8 > 0.2 > vectors[0] @ vectors[2]


def test_a_text_has_the_same_vector_alone_and_among_others():
    encoder = load("minilm")
    texts = [*TEXTS, "a longer text " * 30]
    together = embeddings.embed(encoder, texts)
    alone = np.concatenate([embeddings.embed(encoder, [text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


def test_no_texts_make_no_vectors():
    assert embeddings.embed(load("minilm"), []).shape == (0, 384)


def test_a_text_that_is_too_long_counts_by_its_beginning_and_is_told():
    encoder = load("minilm")
    start, whole = "fog " * 254, "fog " * 254 + "sun " * 300
    vectors = embeddings.embed(encoder, [start, whole])
    assert np.allclose(*vectors, atol=1e-5)
    assert encoder.notes() == ["1 texts are longer than 256 tokens; only their beginnings were compared."]


def test_progress_counts_every_text():
    done: list[int] = []
    embeddings.embed(load("minilm"), [*TEXTS] * 3, lambda amount=1, note="": done.append(amount))
    assert sum(done) == 12


@pytest.mark.parametrize(
    ("mode", "place"),
    [("pooling_mode_cls_token", 0), ("pooling_mode_lasttoken", -1), ("pooling_mode_mean_tokens", None)],
)
def test_the_folder_says_which_token_stands_for_the_text(bert, mode, place):
    modules(
        bert,
        "Transformer",
        "Pooling",
        **{"1_Pooling": {"word_embedding_dimension": 32, mode: True, "pooling_mode_max_tokens": False}},
    )
    encoder = load(bert)
    made = embeddings.embed(encoder, ["the mud on his boots", "rain"])
    for text, vector in zip(["the mud on his boots", "rain"], made, strict=True):
        with torch.inference_mode():
            hidden = encoder.network(**encoder.tokenizer([text], return_tensors="pt")).last_hidden_state[0]
        expected = (hidden.mean(0) if place is None else hidden[place]).numpy()
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_an_encoder_of_a_t5_with_a_linear_layer_works(tmp_path):
    tokenizer = make_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    T5EncoderModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    modules(
        tmp_path,
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
        **{"1_Pooling": {"pooling_mode_mean_tokens": True}, "2_Dense": DENSE},
    )
    weight = torch.randn(16, 32)
    save_file({"linear.weight": weight}, tmp_path / "2_Dense" / "model.safetensors")
    encoder = load(tmp_path)
    (vector,) = embeddings.embed(encoder, ["the mud on his boots"])
    with torch.inference_mode():
        hidden = encoder.network(**encoder.tokenizer(["the mud on his boots"], return_tensors="pt")).last_hidden_state[
            0
        ]
    expected = (weight @ hidden.mean(0)).numpy()
    assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_linear_layer_that_is_not_in_safetensors_is_refused_with_the_way_out(bert):
    modules(bert, "Transformer", "Pooling", "Dense", **{"1_Pooling": {}, "2_Dense": DENSE})
    torch.save({"linear.weight": torch.randn(16, 32)}, bert / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(StepError) as caught:
        load(bert)
    assert str(caught.value) == (
        "finder: 2_Dense holds no model.safetensors, and no other weights are read. "
        "Save the model anew by sentence-transformers 3.0.1 or later (save_pretrained), and name its folder."
    )


@pytest.mark.parametrize(
    ("kinds", "configs", "message"),
    [
        (
            ["Transformer", "WordWeights"],
            {},
            "finder: its vectors go through WordWeights, which is not supported. Name another encoder.",
        ),
        (
            ["Transformer", "Pooling"],
            {"1_Pooling": {"pooling_mode_max_tokens": True}},
            "finder: its pooling (pooling_mode_max_tokens) is not supported.",
        ),
        (["Transformer", "Pooling", "Dense"], {"1_Pooling": {}}, "finder: 2_Dense is missing, or not understood"),
    ],
)
def test_what_is_not_understood_is_refused(bert, kinds, configs, message):
    with pytest.raises(StepError) as caught:
        load(modules(bert, *kinds, **configs))
    assert str(caught.value).startswith(message)


def test_a_model_that_answers_is_no_encoder(tmp_path):
    with pytest.raises(StepError, match=r"this model answers; embeddings need an encoder such as minilm"):
        embeddings.load(Model("finder", {"load": "smollm2-135m"}), tmp_path)


def test_an_adapter_is_no_encoder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(StepError, match=r"finder: an adapter makes no embeddings\. Name an encoder such as minilm\."):
        load(tmp_path)


def test_of_a_hub_folder_the_modules_of_an_encoder_are_fetched_and_nothing_else_below_it():
    from huggingface_hub.utils import filter_repo_objects

    wanted = [
        "config.json",
        "modules.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
    ]
    others = ["README.md", "onnx/config.json", "onnx/model.onnx", "original/consolidated.safetensors", "openvino/a/b.json", "1_Pooling/x/y.json"]  # fmt: skip
    kept = filter_repo_objects([*wanted, *others], allow_patterns=places.HUB_FILES, ignore_patterns=places.HUB_FOLDERS)
    assert list(kept) == wanted
