"""Several examples in one row: whether a network keeps them apart."""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from runner.errors import StepError

# How far logits may lie apart, as a share of the largest one, by the type of the weights
NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


@torch.no_grad()
def apart(network: Any, examples: list[list[int]]) -> float:
    """The greatest difference between the logits of examples packed into one row and of each by itself, as a share of
    the largest logit. Packed as TRL packs them: their positions say where each begins."""
    row = {"input_ids": [one for ids in examples for one in ids], "seq_lengths": [len(ids) for ids in examples]}
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([row])
    inputs = {
        name: value.to(network.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "labels"
    }
    packed = network(**inputs, use_cache=False).logits[0]
    alone = [
        network(input_ids=torch.tensor([ids], device=network.device), use_cache=False).logits[0] for ids in examples
    ]
    there = torch.cat(alone)
    return float((packed - there).abs().max() / there.abs().max())


def expect_isolated(name: str, network: Any) -> None:
    """Raises StepError where packed examples would see each other: with attention that heeds no positions (a recurrent
    state, a window of its own making) they do, and nothing else would tell."""
    ids = torch.arange(40) * 7 % network.get_input_embeddings().weight.shape[0]
    far = apart(network.eval(), [ids[:15].tolist(), ids[15:].tolist()])
    if not far <= NEAR.get(network.dtype, NEAR[torch.bfloat16]):
        kind = network.config.model_type
        raise StepError(
            f"{name}.packing: in one row, examples would see each other: {kind} cannot be packed. Remove it."
        )
