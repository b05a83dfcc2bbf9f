"""Weights in four or eight bits (bitsandbytes): how they are read, and what a CPU must not do with them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from runner.errors import MachineError

PACKED = 32  # outputs that bitsandbytes packs together


def config(name: str, size: int, dtype: torch.dtype) -> BitsAndBytesConfig:
    """Eight bits, or four as in QLoRA: nf4, its constants quantised too. Raises MachineError without bitsandbytes."""
    if not find_spec("bitsandbytes"):
        raise MachineError(f"{name}: bits: {size} needs the package bitsandbytes. Install it, or leave bits out.")
    if size == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def ready(network: Any, trains: bool = False) -> Any:
    """The network, ready for this device; `trains`: gradients will go through it.

    On a CPU with AVX512-BF16 bitsandbytes 0.50 packs a layer's weights when it is first used without gradients. That
    fails for layers whose outputs are no multiple of 32, or inputs none of its block size. And a packed layer passes no
    gradient on: training after a look at the validation part would learn nothing below the last layers, and not say so.
    """
    for module in network.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None and hasattr(module, "support_avx512bf16_for_cpu"):
            outputs, inputs = state.shape
            module.support_avx512bf16_for_cpu &= not trains and not (outputs % PACKED or inputs % state.blocksize)
    return network
