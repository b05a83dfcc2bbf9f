"""TRL's SFTTrainer, with what a CPU, a kill and a careful reader ask of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerControl
from trl import SFTTrainer

from runner import models
from runner.errors import StepError
from runner.steps._losses import mean_loss, totals
from runner.steps.train import _training


class Trainer(SFTTrainer):
    """TRL's trainer with four differences: the rows of a batch are of like length; on a CPU the output layer runs for
    learned tokens alone (TRL does so on a GPU); validation loss is by token; a loss that is no number is an error."""

    control: TrainerControl
    seen = 0  # tokens that went through the network

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """None for checkpoints: the finished folders get ours."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self.args.packing or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return _training.LengthGrouped(_training.lengths(self.train_dataset), batch, self.args.seed)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.seen += int(inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel())
        plain = self.args.loss_type == "nll" and not self.args.label_smoothing_factor and not return_outputs
        if models.device() == "cuda" or not plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return mean_loss(model, inputs, num_items_in_batch)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **named)
        return self._expect_number(loss)

    def _expect_number(self, loss: Any) -> Any:
        if not math.isfinite(loss):
            advice = "Lower learning_rate, or raise warmup."
            raise StepError(f"the loss is not a number at update {self.state.global_step + 1}. {advice}")
        return loss

    def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        self.model.eval()
        with self.compute_loss_context_manager():
            made = totals(self.model, (self._prepare_inputs(batch) for batch in self.get_eval_dataloader()))
        metrics = {"eval_loss": self._expect_number(made.loss), "eval_accuracy": made.accuracy}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        # A run that is resumed from where it stopped early would go on: it is resumed from before and stops again
        self.control.should_save &= (
            not self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        )
        return metrics
