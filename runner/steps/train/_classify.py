"""transformers' Trainer for heads: losses that do not depend on how a batch is cut, figures on validation, folders at the end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, Features, List, Value
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction, TrainerControl

from runner import encoding
from runner.heads import About, Towers
from runner.places import public_name
from runner.step import Model
from runner.steps import _judged
from runner.steps.train import _launch, _training
from runner.steps.train._shared import LengthGrouped, expect_number, keep_stop_out


def store(examples: Iterator[dict[str, Any]], path: Path, columns: list[str], predict: str) -> Dataset:
    """Write examples {columns of token ids, labels} to an Arrow file and map it into memory."""
    features = {name: List(Value("int32")) for name in columns}
    features["labels"] = Value("int64") if predict == "class" else List(Value("float32"))
    return _training.store(examples, path, Features(features))


def sizes(data: Dataset) -> list[int]:
    """Tokens of each example; of pairs for two towers, the longer one."""
    made = _training.lengths(data)
    return list(map(max, made, _training.lengths(data, "pair_ids"))) if "pair_ids" in data.column_names else made


def collate(filler: int) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """Examples as one padded batch with its labels."""

    def made(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return encoding.pad(rows, filler) | {"labels": torch.tensor([row["labels"] for row in rows])}

    return made


def loss_of(predict: str, weights: Sequence[float] | None, smoothing: float) -> Callable[..., torch.Tensor]:
    """The loss of a batch over `num_items_in_batch` rows: cross-entropy of classes, mean squared error of numbers.

    Weights multiply a row's loss, and the sum is over rows, so that it is the same however a batch is cut.
    """

    def made(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        if predict == "class":
            scale = torch.tensor(weights, device=logits.device) if weights else None
            each = cross_entropy(logits, labels, scale, reduction="none", label_smoothing=smoothing)
        else:
            each = ((logits - labels) ** 2).mean(-1)
        return each.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return made


def figures_of(predict: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """What is measured on the validation part, beside the loss."""

    def made(held: EvalPrediction) -> dict[str, float]:
        logits, labels = held.predictions, held.label_ids
        if predict == "class":
            classes = _judged.of_classes(labels, logits.argmax(-1))
            return {name: classes[name] for name in ("accuracy", "macro_f1")}
        each = [_judged.of_numbers(labels[:, at], logits[:, at]) for at in range(labels.shape[1])]
        return {"spearman": 0.0, **_judged.mean_of(each)}  # predictions that are all alike have no order

    return made


class Trainer(transformers.Trainer):
    """transformers' trainer with three differences: the rows of a batch are of like length; a batch is as many rows,
    however it is cut; a loss that is no number is an error."""

    control: TrainerControl
    sizes: list[int]
    seen = 0  # tokens that went through the network

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """None for checkpoints: the finished folders get ours."""

    def whole_state(self) -> dict[str, Any] | None:
        """The weights put together where they lie in pieces; all processes must ask."""
        pieces = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return self.accelerator.get_state_dict(self.model_wrapped) if pieces else None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * _launch.processes()
        return LengthGrouped(self.sizes, batch, self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Rows: a label may be any number, also the one that stands for nothing elsewhere."""
        rows = [{"labels": torch.zeros(len(batch["labels"]), dtype=torch.long)} for batch in batch_samples]
        return super()._get_num_items_in_batch(rows, device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.seen += int(inputs["attention_mask"].sum())
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss, {"logits": outputs["logits"]}) if return_outputs else loss

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **named)
        expect_number(loss, self.state)
        return loss

    def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*given, **named)
        expect_number(metrics["eval_loss"], self.state)
        keep_stop_out(self.control, self.state)
        return metrics


class Watch(_training.Watch):
    """Keeps the best model by any of our figures."""

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **held: Any) -> None:
        values = [entry[f"eval_{self.best}"] for entry in state.log_history if f"eval_{self.best}" in entry]
        better = max if _judged.MORE_IS_BETTER[self.best] else min
        if len(values) == 1 or (values and values[-1] == better(values) != better(values[:-1])):
            self.keep(model)
        self.saved = time.monotonic()


# The folders at the end


def save(trainer: Trainer, model: Model, about: About, folder: Path) -> None:
    """A Hub folder (weights or adapter with its head, tokenizer, scorer.json), whole or not there, with no path in it.

    All processes come here: weights that lie in pieces are put together by all of them.
    """
    state, network = trainer.whole_state(), trainer.model
    if _launch.leads():
        if isinstance(network, Towers):
            network, (scale, offset) = network.encoder, network.line.tolist()
            about = replace(about, scale=scale, offset=offset)
            state = {name.removeprefix("encoder."): held for name, held in state.items()} if state else None
        part = folder.with_name(f"{folder.name}.part")
        for stale in (part, folder):
            shutil.rmtree(stale, ignore_errors=True)
        _save(network, model, state, part)
        trainer.processing_class.save_pretrained(part)
        about.write(part)
        os.replace(part, folder)
    _launch.together()


def _save(network: Any, model: Model, state: dict[str, Any] | None, part: Path) -> None:
    if not isinstance(network, PeftModel):
        network.save_pretrained(part, state_dict=state)
        return
    config, name = network.peft_config["default"], network.peft_config["default"].base_model_name_or_path
    config.base_model_name_or_path = public_name(model)
    network.save_pretrained(part, state_dict=state, save_embedding_layers=False)
    config.base_model_name_or_path = name
    (part / "README.md").unlink(missing_ok=True)
