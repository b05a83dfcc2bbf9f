"""Several adapters in one forward pass: blocks of rows, each acting as one adapter on the same weights, or as the base.

peft can do that too (`adapter_names`), going through the rows of a layer one adapter after the other. Here the matrices
of plain LoRA adapters are stacked, and each layer adds what it owes to all of its rows in two products: at four rows of
three blocks a token then costs a quarter less on a CPU. Hooks of torch do it; nothing is patched. Other adapters, such as
those with DoRA, cannot share a pass, here or there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from runner.models import Weights


@contextmanager
def acting(weights: Weights, adapters: Sequence[str | None], rows: int) -> Iterator[Any]:
    """The network while its rows, `rows` for each of the adapters, act as these; None is the base.

    Different adapters must be able to share a pass (`share`), and blocks that are the base come first.
    """
    if len(set(adapters)) == 1:
        with weights.worn(adapters[0]) as network:
            yield network
        return
    with weights.worn(None) as network, ExitStack() as hooks:
        for layer in (one for one in network.modules() if isinstance(one, LoraLayer)):
            hooks.callback(_stacked(layer, [one for one in adapters if one], rows).remove)
        yield network


def share(weights: Weights, adapters: set[str]) -> bool:
    """Whether these adapters can share a forward pass: they are LoRA matrices on linear layers and nothing else."""
    for module in weights.network.modules() if adapters else ():
        if isinstance(module, AuxiliaryTrainingWrapper) and adapters & module._adapters:  # noqa: SLF001 -- not public
            return False
        if isinstance(module, BaseTunerLayer) and not _is_plain(module, adapters):
            return False
    return True


def _is_plain(layer: BaseTunerLayer, adapters: set[str]) -> bool:
    if not isinstance(layer, LoraLayer) or layer.merged or adapters & layer.lora_variant.keys():
        return False
    pairs = [(layer.lora_A[name], layer.lora_B[name]) for name in adapters & set(layer.lora_A)]
    plain = all(isinstance(one, torch.nn.Linear) and one.bias is None and other.bias is None for one, other in pairs)
    return plain and not adapters & set(layer.lora_embedding_A)


def _stacked(layer: Any, adapters: Sequence[str], rows: int) -> Any:
    """A hook on a layer's base that adds to the last rows, in blocks, what each adapter adds."""
    down, up = _matrices(layer, adapters)
    count, last = len(adapters), len(adapters) * rows

    def add(module: Any, given: Any, made: Any) -> None:
        if down is None or up is None:
            return
        inputs = given[0][-last:].reshape(count, -1, given[0].shape[-1])
        added = torch.bmm(torch.bmm(inputs.to(down.dtype), down), up)
        made[-last:].view(count, -1, made.shape[-1]).add_(added)

    return layer.base_layer.register_forward_hook(add)


def _matrices(layer: Any, adapters: Sequence[str]) -> tuple[Any, Any]:
    """A (adapters, in, rank) and scaled B (adapters, rank, out), filled with zeros to the highest rank; None, None where
    no adapter is on this layer."""
    held = [name if name in layer.lora_A else None for name in adapters]
    known = [name for name in held if name]
    if not known:
        return None, None
    some = layer.lora_A[known[0]].weight
    rank = max(layer.lora_A[name].weight.shape[0] for name in known)
    down = some.new_zeros(len(held), some.shape[1], rank)
    up = some.new_zeros(len(held), rank, layer.lora_B[known[0]].weight.shape[0])
    for at, name in enumerate(held):
        if name:
            one, other = layer.lora_A[name].weight, layer.lora_B[name].weight
            down[at, :, : one.shape[0]] = one.T
            up[at, : one.shape[0]] = other.T * layer.scaling[name]
    return down, up
