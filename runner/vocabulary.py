"""Tokens that training adds: embeddings that grow for them, adapters that carry them, and those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from runner.errors import StepError

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "lm_head.weight", "word_embeddings.weight", "embed_in.weight")


def add(tokenizer: Any, network: Any, tokens: Sequence[str]) -> None:
    """Make a tokenizer know these tokens, each as one piece, and the network too (None: the tokenizer alone)."""
    tokenizer.add_special_tokens({"extra_special_tokens": list(tokens)}, replace_extra_special_tokens=False)
    if network is not None and tokens:
        grow(network, max(tokenizer.convert_tokens_to_ids(list(tokens))) + 1)


@torch.no_grad()
def grow(network: Any, rows: int) -> None:
    """Give the embeddings and the output layer at least so many rows; a new one is the mean of those that were there."""
    before = network.get_input_embeddings().weight.shape[0]
    if rows <= before:
        return
    network.resize_token_embeddings(rows, mean_resizing=False)
    for layer in (network.get_input_embeddings(), network.get_output_embeddings()):
        layer.weight[before:] = layer.weight[:before].mean(0)


def trainable(network: Any, tokenizer: Any, tokens: Sequence[str]) -> dict[str, list[int]]:
    """What LoRA trains beside its own matrices, as peft's `trainable_token_indices`: the rows of these tokens in the
    embeddings, and in an output layer that does not share them."""
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    layers = [network.get_input_embeddings()]
    head = network.get_output_embeddings()
    if head.weight is not layers[0].weight:
        layers.append(head)
    names = {id(module): name.split(".")[-1] for name, module in network.named_modules()}
    return {names[id(layer)]: list(ids) for layer in layers}


def show_bias(network: Any) -> None:
    """Let the output layer show its bias, or that it has none: where PEFT trains rows of it, it hides that (0.21), and
    TRL's loss multiplies by the layer's weight and bias instead of calling it."""
    head = network.get_output_embeddings()
    if not hasattr(head, "bias"):
        object.__setattr__(head, "bias", head.original_module.bias)  # no second registration of a parameter


def needed(folder: Path | None) -> int:
    """How many tokens the base of the adapter in a folder must know: 0 where the adapter brings none of its own."""
    if folder is None:
        return 0
    held = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("trainable_token_indices")
    lists = list(held.values()) if isinstance(held, dict) else [held or []]
    rows = [max(ids) + 1 for ids in lists if ids]
    return max([*rows, *_saved_rows(folder)], default=0)


def _saved_rows(folder: Path) -> list[int]:
    """The rows of embeddings that an adapter's file holds whole, as some trainers write them."""
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as held:
        names = [name for name in held.keys() if name.endswith(EMBEDDINGS)]  # noqa: SIM118 -- no mapping
        return [held.get_slice(name).get_shape()[0] for name in names]


def expect_known(network: Any, folder: Path | None) -> None:
    """Raises ValueError where an adapter holds embeddings of another vocabulary than the network's."""
    saved = _saved_rows(folder) if folder else []
    rows = network.get_input_embeddings().weight.shape[0]
    if saved and max(saved) != rows:
        raise ValueError(f"its vocabulary has {max(saved)} tokens, and the base {rows}.")


def expect_same(tokenizers: Sequence[tuple[str, Any]]) -> None:
    """Raises StepError where a model has other tokens than the first one: their scores could not be added."""
    (first, tokenizer), *others = tokenizers
    known = tokenizer.get_vocab()
    for name, other in others:
        theirs = other.get_vocab()
        if theirs != known:
            odd = next(iter(sorted(known.items() ^ theirs.items())))[0]
            sizes = f"{len(theirs)} and {len(known)} tokens; {odd!r} is not the same in both"
            advice = "Models that steer each other need one vocabulary: take them from one family."
            raise StepError(f"{name}: its tokens are not those of {first} ({sizes}). {advice}")
