"""The loss of the learned tokens, without computing the output layer where nothing is learned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from runner.chat import IGNORED, Example

Tensors = dict[str, torch.Tensor]
# What some architectures do to the logits after the output layer; with one of these the model's own forward is used
AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
AT_ONCE = 1024


@dataclass
class Totals:
    """Sums over learned tokens: how many, their negative log-likelihood in nats, how many were the likeliest one."""

    tokens: int = 0
    nll: float = 0.0
    hits: int = 0

    @property
    def loss(self) -> float:
        return self.nll / self.tokens if self.tokens else float("nan")

    @property
    def accuracy(self) -> float:
        return self.hits / self.tokens if self.tokens else float("nan")

    def add(self, other: Totals) -> None:
        self.tokens, self.nll, self.hits = self.tokens + other.tokens, self.nll + other.nll, self.hits + other.hits


def learned_logits(network: Any, inputs: Tensors) -> tuple[Any, torch.Tensor]:
    """A function from a slice to the logits of these learned tokens (tokens × vocabulary), and all their ids (tokens).

    The network's body runs once, here; the output layer runs for the slices asked for and for learned tokens alone.
    """
    labels = inputs["labels"][:, 1:]
    kept = labels != IGNORED
    others = {name: value for name, value in inputs.items() if name != "labels"}
    model = network.get_base_model() if isinstance(network, PeftModel) else network
    if any(getattr(model.config.get_text_config(), name, None) not in (None, 1.0) for name in AFTER_HEAD):
        logits = network(**others, use_cache=False).logits[:, :-1][kept]
        return lambda part: logits[part], labels[kept]
    hidden = model.base_model(**others, use_cache=False).last_hidden_state[:, :-1][kept]
    head = model.get_output_embeddings()
    return lambda part: head(hidden[part]), labels[kept]


def mean_loss(network: Any, inputs: Tensors, count: Any = None) -> torch.Tensor:
    """The summed loss of a batch's learned tokens over `count`, or over their own number; differentiable."""
    logits, ids = learned_logits(network, inputs)
    total = cross_entropy(logits(slice(None)).float(), ids, reduction="sum")
    return total / (count if count is not None else max(1, len(ids)))


@torch.no_grad()
def totals(network: Any, batches: Iterable[Tensors]) -> Totals:
    """Sums over all batches, the output layer in slices so that a large vocabulary fits."""
    made = Totals()
    for inputs in batches:
        logits, ids = learned_logits(network, inputs)
        for start in range(0, len(ids), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            scores = logits(part).float()
            made.nll += cross_entropy(scores, ids[part], reduction="sum").item()
            made.hits += int((scores.argmax(-1) == ids[part]).sum())
        made.tokens += len(ids)
    return made


def pad(examples: list[Example], filler: int, device: str = "cpu") -> Tensors:
    """Examples of unequal length as one batch, padded on the right; padding is never learned nor attended to."""
    width = max(len(example["input_ids"]) for example in examples)

    def column(name: str, blank: int) -> torch.Tensor:
        rows = [example[name] + [blank] * (width - len(example[name])) for example in examples]
        return torch.tensor(rows, device=device)

    mask = [[1] * len(example["input_ids"]) + [0] * (width - len(example["input_ids"])) for example in examples]
    attention = torch.tensor(mask, device=device)
    return {"input_ids": column("input_ids", filler), "attention_mask": attention, "labels": column("labels", IGNORED)}
