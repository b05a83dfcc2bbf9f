"""What our three trainers do alike, and transformers' does not: batches of like length, losses that are numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from runner.errors import StepError

# Rows of a batch are drawn from groups of this many batches sorted by length
GROUP = 50


class LengthGrouped(Sampler[int]):
    """Shuffled rows, those of one batch of like length. The order depends on the seed and the epoch alone: a resumed
    run sees the rows that it would have seen.

    filler: the row that fills up the last batch, so that several processes get equally many; none for one process
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, filler: int | None = None) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0
        self.fill = [] if filler is None else [filler] * (-len(lengths) % batch)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + len(self.fill)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch * min(GROUP, max(1, len(order) // (self.batch * 4)))
        groups = [
            sorted(order[at : at + size], key=lambda row: -self.lengths[row]) for at in range(0, len(order), size)
        ]
        rows = [row for group in groups for row in group]
        whole = len(rows) // self.batch * self.batch
        batches = [rows[at : at + self.batch] for at in range(0, whole, self.batch)]
        for at in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[at]
        yield from [*rows[whole:], *self.fill]


def expect_number(loss: torch.Tensor | float, state: Any) -> None:
    """Raises StepError where a loss is NaN or infinite."""
    if not math.isfinite(loss):
        advice = "Lower learning_rate, or raise warmup."
        raise StepError(f"the loss is not a number at update {state.global_step + 1}. {advice}")


def keep_stop_out(control: Any, state: Any) -> None:
    """No checkpoint where training stops early: a run resumed from it would go on. It is resumed from before and stops again."""
    control.should_save &= not control.should_training_stop or state.global_step >= state.max_steps
