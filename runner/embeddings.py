"""Texts as vectors: a sentence encoder (all-MiniLM and its like), pooled and normalised as its own folder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

from runner import models, places
from runner.errors import StepError
from runner.files import read_json
from runner.places import Say, is_adapter, nothing
from runner.step import Advance, Model

Vectors = NDArray[np.float32]

MOST_TOKENS = 8192  # of one batch, padding included
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}


@dataclass
class Encoder:
    """A loaded encoder. `length`: tokens that it reads of a text; `cut`: how many texts so far were longer."""

    tokenizer: Any
    network: Any
    pooling: str
    length: int
    after: torch.nn.Module
    cut: int = 0

    @property
    @torch.inference_mode()
    def size(self) -> int:
        """How many numbers a vector has."""
        return int(self.after(torch.zeros(1, self.network.config.hidden_size)).shape[1])

    def notes(self) -> list[str]:
        """What a report should say of the texts so far."""
        return (
            [f"{self.cut} texts are longer than {self.length} tokens; only their beginnings were compared."]
            if self.cut
            else []
        )


def load(model: Model, artifacts: Path, say: Say = nothing) -> Encoder:
    """Load an encoder in float32. Raises StepError where the model makes no sentence vectors."""
    if is_adapter(model):
        raise StepError(f"{model.name}: an adapter makes no embeddings. Name an encoder such as minilm.")
    folder = model.folder or places.resolve(model.entry, artifacts, _refuse, say)
    pooling, after = _modules(model, folder)
    models.quiet()
    code = model.entry.get("trust_remote_code", False)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=code)
    kind = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    try:
        network = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=code)
    except (OSError, ValueError) as error:
        raise StepError(f"{model.name}: {folder}: {str(error).splitlines()[0]}") from error
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    length = _length(folder, config, tokenizer)
    return Encoder(tokenizer, network.to(models.device()).eval(), pooling, length, after.eval())


def _refuse(source: Path, into: Path) -> None:
    raise StepError(f"{source.name}: this model answers; embeddings need an encoder such as minilm.")


def _modules(model: Model, folder: Path) -> tuple[str, torch.nn.Module]:
    """How the folder says that token vectors become one (mean where it says nothing), and what follows that."""
    held = read_json(folder / "modules.json") or ()
    listed = [(entry["type"].rsplit(".", 1)[-1], folder / entry["path"]) for entry in held]
    pooling, after = "mean", []
    for kind, place in listed:
        if kind == "Pooling":
            pooling = _pooling(model, place)
        elif kind == "Dense":
            after.append(_dense(model, place))
        elif kind not in ("Transformer", "Normalize"):
            raise StepError(
                f"{model.name}: its vectors go through {kind}, which is not supported. Name another encoder."
            )
    return pooling, torch.nn.Sequential(*after)


def _pooling(model: Model, place: Path) -> str:
    said = read_json(place / "config.json") or {}
    chosen = [key for key, on in said.items() if key.startswith("pooling_mode") and on]
    names: list[str] = [POOLINGS.get(key, key) for key in chosen] or ["mean"]
    if len(names) > 1 or names[0] not in POOLINGS.values():
        raise StepError(f"{model.name}: its pooling ({', '.join(names)}) is not supported. Name another encoder.")
    return names[0]


def _dense(model: Model, place: Path) -> torch.nn.Module:
    """A linear layer after the pooling, as the gtr models have one."""
    said, weights = read_json(place / "config.json") or {}, place / "model.safetensors"
    activation = str(said.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    if not said or activation not in ("Identity", "Tanh"):
        raise StepError(
            f"{model.name}: {place.name} is missing, or not understood ({activation}). Fetch the whole model, or name another encoder."
        )
    if not weights.is_file():
        advice = "Save the model anew by sentence-transformers 3.0.1 or later (save_pretrained), and name its folder."
        raise StepError(f"{model.name}: {place.name} holds no {weights.name}, and no other weights are read. {advice}")
    layer = torch.nn.Linear(said["in_features"], said["out_features"], bias=said.get("bias", True))
    held = load_file(weights)
    layer.load_state_dict({name.removeprefix("linear."): value.float() for name, value in held.items()})
    return torch.nn.Sequential(layer, torch.nn.Tanh()) if activation == "Tanh" else layer


def _length(folder: Path, config: Any, tokenizer: Any) -> int:
    said = (read_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    most = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(said or most, most, tokenizer.model_max_length))


def embed(encoder: Encoder, texts: Sequence[str], advance: Advance = lambda amount=1, note="": None) -> Vectors:
    """Unit vectors of shape (texts, size), in the order of the texts; a text longer than `length` counts up to there."""
    made = np.zeros((len(texts), encoder.size), dtype=np.float32)
    encoded = (
        encoder.tokenizer(list(texts), truncation=True, max_length=encoder.length + 1)["input_ids"] if texts else []
    )
    sizes = np.array([len(ids) for ids in encoded], dtype=np.int64)
    encoder.cut += int((sizes > encoder.length).sum())
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        widest = int(min(sizes[order[start]], encoder.length))
        chosen = order[start : start + max(1, MOST_TOKENS // widest)]
        made[chosen] = _batch(encoder, [texts[at] for at in chosen])
        start += len(chosen)
        advance(len(chosen))
    return made


@torch.inference_mode()
def _batch(encoder: Encoder, texts: list[str]) -> Vectors:
    asked = encoder.tokenizer(texts, truncation=True, max_length=encoder.length, padding=True, return_tensors="pt")
    asked = asked.to(encoder.network.device)
    vectors = _pool(encoder.network(**asked).last_hidden_state, asked["attention_mask"], encoder.pooling)
    made: Vectors = torch.nn.functional.normalize(encoder.after(vectors.float().cpu()), dim=1).numpy()
    return made


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        places = torch.arange(mask.shape[1], device=mask.device)
        return hidden[torch.arange(len(mask), device=mask.device), (mask * places).argmax(dim=1)]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
