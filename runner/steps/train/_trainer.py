"""TRL's SFTTrainer, with what a CPU, a kill and a careful reader ask of it."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import TrainerControl
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from runner import models
from runner.steps._losses import Totals, mean_loss, totals
from runner.steps.train import _launch, _training
from runner.steps.train._shared import LengthGrouped, expect_number, keep_stop_out


class Trainer(SFTTrainer):
    """TRL's trainer with four differences: the rows of a batch are of like length; on a CPU the output layer runs for
    learned tokens alone (TRL does so on a GPU); validation loss is by token; a loss that is no number is an error."""

    control: TrainerControl
    seen = 0  # tokens that went through the network in this process

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """None for checkpoints: the finished folders get ours."""

    def _save(self, *given: Any, **named: Any) -> None:
        """A checkpoint holds what is trained: PEFT would look for the base by its name, and add all embeddings where
        some are new."""
        if isinstance(self.model, PeftModel):
            self.model.peft_config["default"].base_model_name_or_path = None
        super()._save(*given, **named)

    @property
    def in_pieces(self) -> bool:
        """Whether each process holds a piece of the weights (FSDP, DeepSpeed)."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def whole_state(self) -> dict[str, Any] | None:
        """The weights put together where they lie in pieces; all processes must ask."""
        return self.accelerator.get_state_dict(self.model_wrapped) if self.in_pieces else None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self.args.packing or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * _launch.processes()
        sizes = _training.lengths(self.train_dataset)
        filler = len(sizes) - 1 if _launch.processes() > 1 else None
        return LengthGrouped(sizes[:filler], batch, self.args.seed, filler)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.seen += int(inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel())
        plain = self.args.loss_type == "nll" and not self.args.label_smoothing_factor and not return_outputs
        # Among several processes gradients are only shared for what went through the wrapped model, as TRL does it
        if models.device() == "cuda" or not plain or _launch.processes() > 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return mean_loss(model, inputs, num_items_in_batch)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **named)
        expect_number(loss, self.state)
        return loss

    def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        metrics = self._checked_in_pieces() if self.in_pieces else self._checked()
        expect_number(metrics["eval_loss"], self.state)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        keep_stop_out(self.control, self.state)
        return metrics

    def _checked(self) -> dict[str, float]:
        """Loss and accuracy over all learned tokens, each process taking its share of the rows."""
        self.model.eval()
        sizes = _training.lengths(self.eval_dataset)
        order = sorted(range(len(sizes)), key=lambda row: -sizes[row])[self.args.process_index :: _launch.processes()]
        size = self.args.per_device_eval_batch_size
        collate = DataCollatorForLanguageModeling(pad_token_id=self.processing_class.pad_token_id)  # never packed
        loader = DataLoader(self.eval_dataset.select(order), batch_size=size, collate_fn=collate)
        with self.compute_loss_context_manager():
            mine = totals(self.model, (self._prepare_inputs(batch) for batch in loader))
        tokens, nll, hits = _launch.summed([mine.tokens, mine.nll, mine.hits])
        made = Totals(int(tokens), nll, int(hits))
        return {"eval_loss": made.loss, "eval_accuracy": made.accuracy}

    def _checked_in_pieces(self) -> dict[str, float]:
        """As TRL does it: all processes must go through the wrapped model equally often."""
        self.model_wrapped.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        for batch in self.get_eval_dataloader():
            inputs = self._prepare_inputs(batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                made = self.model_wrapped(**inputs, use_cache=False, fused_lm_head=True)
            sums += torch.stack([made.label_mask.sum(), -made.log_probs.sum(), made.is_top1.sum()]).double()
        tokens, nll, hits = _launch.summed(sums.tolist())
        return {"eval_loss": nll / tokens, "eval_accuracy": hits / tokens}
