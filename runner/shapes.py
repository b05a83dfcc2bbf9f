"""How large a model is, from its config.json or, failing that, its name: no weights are read and nothing is fetched."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import schema

# 7b, 1.7B, 360M; 8x7b: so many experts of that size
SIZED = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """A transformer's sizes. body: parameters of its layers; inside: those of one layer's matrices, by their sizes."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    inside: tuple[tuple[int, int], ...]
    guessed: bool = False

    @property
    def body(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.inside)


def find(entry: dict[str, Any], root: Path) -> Shape | None:
    """The shape of a `models:` entry, None where nothing here tells it. root: the artifacts folder."""
    load = str(entry.get("load", ""))
    bundled = schema.bundled().get(load)
    if bundled:
        return shape(bundled["config"], bundled["parameters"])
    place = folder(load)
    if place and (place / "config.json").is_file():
        try:
            config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        except ValueError:
            return None
        return shape(config, _weighed(place, config))
    return _by_name(load)


def folder(load: str) -> Path | None:
    """Where the files of a model lie that is a folder or in the cache of the Hub, None where they are not here."""
    own = Path(load).expanduser()
    return own if load and own.is_dir() else _snapshot(load)


def shape(config: dict[str, Any], parameters: int | None = None) -> Shape | None:
    """From a config.json as transformers writes it; None where it has other names for its sizes."""
    config = config.get("text_config") or config

    def number(*names: str) -> int | None:
        return next((int(config[name]) for name in names if config.get(name)), None)

    hidden, layers = number("hidden_size", "n_embd", "d_model"), number("num_hidden_layers", "n_layer", "num_layers")
    if not hidden or not layers:
        return None
    inner = number("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    heads = number("num_attention_heads", "n_head", "num_heads") or 1
    each = number("head_dim") or hidden // heads
    keys = each * (number("num_key_value_heads") or heads)
    vocabulary = number("vocab_size") or 0
    gated = config.get("hidden_act", config.get("hidden_activation")) in ("silu", "swish", "gelu_pytorch_tanh")
    experts = number("num_local_experts", "num_experts") or 1
    attention = ((hidden, each * heads), (hidden, keys), (hidden, keys), (each * heads, hidden))
    inside = (*attention, *(((hidden, inner),) * (3 if gated else 2) * experts))
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings", True) else 2)
    counted = layers * sum(rows * columns for rows, columns in inside) + embeddings
    return Shape(parameters or counted, layers, hidden, inner, vocabulary, inside)


def _weighed(folder: Path, config: dict[str, Any]) -> int | None:
    """The parameters by the size of the weights on disk, None where they are not there, or in bits."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if not size or config.get("quantization_config"):
        return None
    return size // (2 if dtype.endswith("float16") else 4)


def _snapshot(load: str) -> Path | None:
    """The folder of a Hub model in the cache of huggingface_hub, None where it is not there."""
    name, _, revision = load.partition("@")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    home = Path(os.environ.get("HF_HOME") or caches).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub").expanduser()
    place = hub / f"models--{name.replace('/', '--')}"
    named = place / "refs" / (revision or "main")
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    folder = place / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def _by_name(load: str) -> Shape | None:
    """A usual shape for the size that a name tells: width 128 times the depth, 12 width² a layer."""
    found = SIZED.search(load.rpartition("/")[2])
    if not found:
        return None
    experts, size, unit = found.groups()
    parameters = int(float(size) * (1e9 if unit in "bB" else 1e6) * int(experts or 1))
    hidden = round((parameters * 128 / 12) ** (1 / 3) / 64) * 64 or 64
    layers, inner = max(1, round(parameters / (12 * hidden**2))), round(8 / 3 * hidden)
    inside = ((hidden, hidden),) * 4 + ((hidden, inner),) * 3
    return Shape(parameters, layers, hidden, inner, 64_000, inside, guessed=True)
