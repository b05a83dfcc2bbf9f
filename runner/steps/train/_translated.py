"""Recipe keys of a classifier step as transformers' TrainingArguments and Trainer."""

from __future__ import annotations

import math
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from runner.errors import StepError
from runner.step import Out, Step
from runner.steps import _judged
from runner.steps.train import _classify, _labels, _settings
from runner.steps.train._classify import Trainer
from runner.steps.train._labels import Target

SMOOTHING = "label_smoothing_factor"  # goes into the loss, which is ours
RATES = {True: 2e-4, False: 2e-5}  # learning rate with and without LoRA


def trainer(step: Step, out: Out, network: Any, tokenizer: Any, data: dict[str, Dataset], target: Target) -> Trainer:
    weights = _labels.weights(step, target)
    _expect_figure(step, data.get("validation"), target)
    smoothing = float((step.params.get("arguments") or {}).get(SMOOTHING, 0.0))
    sizes = _classify.sizes(data["train"])
    try:
        made = Trainer(
            model=network,
            args=_config(step, out, network, sizes, "validation" in data),
            train_dataset=data["train"],
            eval_dataset=data.get("validation"),
            processing_class=tokenizer,
            data_collator=_classify.collate(tokenizer.pad_token_id),
            compute_loss_func=_classify.loss_of(target.predict, weights, smoothing),
            compute_metrics=_classify.figures_of(target.predict),
        )
    except (ValueError, TypeError) as error:
        raise StepError(f"{step.name}: {str(error).splitlines()[0]}") from error
    made.sizes = sizes
    made.model_accepts_loss_kwargs = False  # the loss is ours: nothing of it goes through the network
    made.remove_callback(PrinterCallback)
    if "stop_early" in step.params and "validation" in data:
        made.add_callback(EarlyStoppingCallback(step.params["stop_early"]["after"]))
    return made


def _expect_figure(step: Step, checked: Dataset | None, target: Target) -> None:
    """R² and rank correlation are not defined for numbers that are all alike: better said before training than after."""
    named = {step.params["best"], (step.params.get("stop_early") or {}).get("on")} & {"r2", "spearman"}
    columns = list(zip(*checked["labels"], strict=True)) if named and checked is not None else []
    for name, values in zip(target.labels, columns, strict=False):
        if len(set(values)) < 2:
            said = f"the validation part has the same {name} in all {len(values)} rows, so it has no {min(named)}"
            raise StepError(f"{step.name}.best: {said}. Choose mae, or a larger validation part.")


def updates(step: Step, rows: int) -> int:
    """How many updates see every row once."""
    return math.ceil(rows / step.params["batch"])


def _config(step: Step, out: Out, network: Any, sizes: list[int], checked: bool) -> TrainingArguments:
    """The machine's choices, then `arguments:`, then what our keys say. Raises ValueError where a batch does not divide."""
    keys = step.params
    watched = (keys.get("stop_early") or {}).get("on", keys["best"])
    ours = _settings.common(step, out, network, sizes, checked) | {
        "learning_rate": keys.get("learning_rate", RATES["lora" in keys]),
        "metric_for_best_model": watched,
        "greater_is_better": _judged.MORE_IS_BETTER[watched],
        "label_names": ["labels"],
        "remove_unused_columns": False,
    }
    given = {name: value for name, value in (keys.get("arguments") or {}).items() if name != SMOOTHING}
    return TrainingArguments(**_settings.free(network, sizes, keys["batch"]) | given | ours)
