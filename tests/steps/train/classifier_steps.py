"""Classifier steps on tiny real models, for the tests of classifier and of the evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    BertConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from runner.models import quiet
from runner.step import Model, Out, Step
from runner.steps.train import classifier
from tests.conftest import make_step, make_tokenizer

WORDS = {"wet": "rain mud river boots", "dry": "sand desert dust camel", "cold": "snow ice frost winter"}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def texts(count: int, labels: tuple[str, ...] = ("wet", "dry"), start: int = 0) -> list[dict[str, Any]]:
    """Rows whose label can be told by their words; unequal lengths."""
    rows = []
    for at in range(start, start + count):
        label = labels[at % len(labels)]
        words = WORDS[label].split()
        said = " ".join(f"{words[(at + more) % 4]} and" for more in range(1 + at % 5))
        rows.append({"id": str(at), "source": f"notes.csv:{at}", "text": f"{said} {words[at % 4]}", "label": label})
    return rows


def _config(kind: str, size: int, pad: int) -> PreTrainedConfig:
    positions = {"max_position_embeddings": 130}
    made: dict[str, PreTrainedConfig] = {
        "bert": BertConfig(vocab_size=size, pad_token_id=pad, **SMALL, **positions),
        "roberta": RobertaConfig(vocab_size=size, pad_token_id=pad, type_vocab_size=1, **SMALL, **positions),
        "llama": LlamaConfig(vocab_size=size, num_key_value_heads=2, pad_token_id=None, **SMALL, **positions),
        "gpt2": GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=128),
        "gpt_neo": GPTNeoConfig(
            vocab_size=size,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=128,
        ),
    }
    return made[kind]


def backbone(folder: Path, kind: str = "bert") -> Path:
    """The folder of a random two-layer model of an architecture, without a head; decoders have no pad token."""
    quiet()
    tokenizer = make_tokenizer(None)
    if kind in ("bert", "roberta"):
        tokenizer.pad_token = "<|endoftext|>"
    else:
        tokenizer.pad_token = None
    torch.manual_seed(0)
    AutoModel.from_config(
        _config(kind, len(tokenizer), tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make(folder: Path, model: Path, parts: Any = None, **keys: Any) -> Step:
    """A training step; a key given as None is left out."""
    quick = {"epochs": 4, "batch": 8, "learning_rate": 0.003, "max_length": 64, "warmup": 0}
    keys = {name: value for name, value in {**quick, **keys}.items() if value is not None}
    held = parts or {"train": texts(32), "validation": texts(8, start=32)}
    entry = {"load": str(model), **({"bits": keys.pop("bits")} if "bits" in keys else {})}
    return make_step("train", "classifier", folder, held, models=[Model("base", entry)], **keys)


def run(step: Step, folder: Path) -> tuple[dict[str, Any], Path]:
    folder.mkdir(parents=True, exist_ok=True)
    out = Out(folder)
    try:
        return classifier.run(step, out), folder
    finally:
        out.close()


def trained(step: Step, folder: Path, which: str = "best") -> Model:
    """The model of a finished step."""
    return Model("judge", {}, folder / which, step.models["model"][0])
