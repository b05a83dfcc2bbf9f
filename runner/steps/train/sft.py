"""`train: sft`: recipe keys to TRL's SFTTrainer. What is learned of a row is decided in runner.chat alone."""

from __future__ import annotations

import math
import shutil
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import SFTConfig

from runner import models, places
from runner.errors import StepError
from runner.files import loads
from runner.step import Out, Step
from runner.steps.train import _lessons, _training
from runner.steps.train._lessons import show
from runner.steps.train._trainer import Trainer

__all__ = ["run", "show"]
RATES = {True: 2e-4, False: 2e-5}  # learning rate with and without LoRA


def run(step: Step, out: Out) -> dict[str, Any]:
    """Train and write best/ and final/. Raises StepError where nothing is to be learned or the loss is not a number."""
    facts = _ended(out) or _made(step, out)
    for name in ("checkpoints", "encoded"):
        shutil.rmtree(out.folder / name, ignore_errors=True)
    return facts


def _made(step: Step, out: Out) -> dict[str, Any]:
    threads = models.prepare(step.params["seed"])
    tokenizer = models.load_tokenizer(step.models["model"][0], step.artifacts, out.log)
    data = {role: _stored(step, out, tokenizer, role) for role in _lessons.parts(step)}
    trainer = _trainer(step, out, tokenizer, data)
    facts = _train(step, out, trainer, data["train"])
    facts["hardware"] = _training.hardware(trainer.args, trainer.model, threads)
    _write(step, out, trainer, facts)
    out.side({"ended": facts})
    return facts


def _ended(out: Out) -> dict[str, Any] | None:
    """The facts of a training that was killed after its end, before the end of the step."""
    side = out.folder / "side.jsonl"
    lines = side.read_text(encoding="utf-8").splitlines() if side.is_file() else []
    found = [line for line in lines if line.startswith('{"ended"') and line.endswith("}")]
    return dict(loads(found[-1])["ended"]) if found else None


def _stored(step: Step, out: Out, tokenizer: Any, role: str) -> Dataset:
    examples = _lessons.examples(step, tokenizer, _lessons.parts(step)[role], out)
    made = _training.store(examples, out.folder / "encoded" / f"{role}.arrow")
    if not len(made):
        advice = "See rejected.jsonl, and make show for what is learned."
        raise StepError(f"{step.name}.from: no row of the {role} part has an answer to learn from. {advice}")
    return made


# Translation to TRL


def _trainer(step: Step, out: Out, tokenizer: Any, data: dict[str, Dataset]) -> Trainer:
    model, lora = step.models["model"][0], step.params.get("lora")
    if places.root(model).entry.get("bits") and not lora:
        raise StepError(f"{step.name}: weights loaded with bits: cannot be trained. Add lora:, or drop bits:.")
    network = models.load_network(model, step.artifacts, None if lora else torch.float32, out.log)
    try:
        trainer = Trainer(
            model=network,
            args=_config(step, out, network, data),
            train_dataset=data["train"],
            eval_dataset=data.get("validation"),
            processing_class=tokenizer,
            peft_config=_lora(network, lora) if lora else None,
        )
    except (ValueError, TypeError) as error:
        raise StepError(f"{step.name}: {str(error).splitlines()[0]}") from error
    trainer.remove_callback(PrinterCallback)
    if "check_every" not in step.params:
        trainer.args.eval_steps = _updates(step, trainer)
    if "stop_early" in step.params and "validation" in data:
        trainer.add_callback(EarlyStoppingCallback(step.params["stop_early"]["after"]))
    return trainer


def _updates(step: Step, trainer: Trainer) -> int:
    """How many updates see every row once; packed rows are fewer."""
    return math.ceil(len(trainer.train_dataset) / step.params["batch"])


def _lora(network: Any, lora: dict[str, Any]) -> LoraConfig:
    targets = lora["targets"]
    head = next(name for name, module in network.named_modules() if module is network.get_output_embeddings())
    if targets != "all" and head.split(".")[-1] in targets:
        raise ValueError(f"lora.targets: {head} is the output layer, which LoRA leaves alone. Remove it.")
    return LoraConfig(
        r=lora["rank"],
        lora_alpha=lora.get("alpha", 2 * lora["rank"]),
        lora_dropout=lora["dropout"],
        target_modules="all-linear" if targets == "all" else targets,
        task_type="CAUSAL_LM",
    )


def _config(step: Step, out: Out, network: Any, data: dict[str, Dataset]) -> SFTConfig:
    keys = step.params
    at_once, twice = _training.rows_at_once(network.config, _training.lengths(data["train"]), keys["batch"])
    at_once = keys.get("batch_at_once", at_once)
    if keys["batch"] % at_once:
        raise ValueError(f"batch_at_once: {at_once} does not divide batch: {keys['batch']}.")
    cpu = models.device() == "cpu"
    stop = keys.get("stop_early") or {"on": keys["best"]}
    ours = {
        "output_dir": str(out.folder / "checkpoints"),
        "seed": keys["seed"],
        "num_train_epochs": keys["epochs"],
        "max_steps": keys.get("max_steps", -1),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": keys["batch"] // at_once,
        "learning_rate": keys.get("learning_rate", RATES["lora" in keys]),
        "warmup_steps": keys["warmup"],
        "weight_decay": keys["weight_decay"],
        "max_length": keys["max_length"],
        "packing": keys["packing"],
        "eval_packing": False,
        "dataset_kwargs": None if keys["packing"] else {"skip_prepare_dataset": True},
        "eval_strategy": "steps" if "validation" in data else "no",
        "eval_steps": keys.get("check_every", 1),
        "save_strategy": "no",  # _training.Watch asks for checkpoints
        "save_total_limit": keys["keep_checkpoints"],
        "metric_for_best_model": stop["on"],
        "greater_is_better": stop["on"] == "accuracy",
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "use_cpu": cpu,
    }
    half = models.precision() == torch.bfloat16
    free = {"report_to": "none", "activation_checkpointing": twice, "bf16": half, "dataloader_pin_memory": not cpu}
    return SFTConfig(**free | dict(keys.get("arguments") or {}) | ours)


def _train(step: Step, out: Out, trainer: Trainer, data: Dataset) -> dict[str, Any]:
    keys = step.params
    tokens, learned = sum(_training.lengths(data)), _training.learned(data)
    updates = keys.get("max_steps") or math.ceil(_updates(step, trainer) * keys["epochs"])
    out.log(f"{len(data)} examples of {tokens} tokens, {learned} of them learned; {updates} updates")
    resumed = _training.newest_checkpoint(out.folder / "checkpoints")
    if resumed:
        out.log(f"going on from {resumed.name}")

    def keep(network: Any) -> None:
        _save(step, trainer, network, "best", out)

    with out.progress("training", updates) as advance:
        watch = _training.Watch(
            advance, keep, keys["best"], _training.checkpoint_cost(trainer.model), lambda: trainer.seen
        )
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    return _facts(trainer, learned, tokens, trainer.seen / watch.seconds())


def _facts(trainer: Trainer, learned: int, tokens: int, speed: float) -> dict[str, Any]:
    state = trainer.state
    trained, checked = _training.curve(state.log_history, "loss"), _training.curve(state.log_history, "eval_loss")
    metrics: dict[str, Any] = {"updates": state.global_step, "tokens": tokens, "learned_tokens": learned}
    metrics |= {
        "learned_share": round(learned / tokens, 4),
        "train_loss": trained[-1][1],
        "tokens_per_second": round(speed, 1),
    }
    notes = []
    if checked:
        metrics["validation_loss"] = {"best": min(value for _, value in checked), "final": checked[-1][1]}
    else:
        notes.append("There is no validation part, so best and final are the same model.")
    if state.global_step < state.max_steps:
        notes.append(f"Stopped early after {state.global_step} of {state.max_steps} updates.")
    curves = {"loss": trained} | ({"validation_loss": checked} if checked else {})
    return {"metrics": metrics, "curves": curves, "notes": notes}


# The folders at the end


def _save(step: Step, trainer: Trainer, network: Any, name: str, out: Out) -> None:
    model = step.models["model"][0]
    _training.save(network, trainer.processing_class, model, step.learned, out.folder / name)


def _write(step: Step, out: Out, trainer: Trainer, facts: dict[str, Any]) -> None:
    _save(step, trainer, trainer.model, "final", out)
    if "validation_loss" not in facts["metrics"]:
        _training.same(out.folder / "final", out.folder / "best")
    args, metrics = trainer.args, facts["metrics"]
    lora = step.params.get("lora")
    told = {
        "method": f"supervised fine-tuning with LoRA of rank {lora['rank']}"
        if lora
        else "supervised fine-tuning, all weights",
        "updates": metrics["updates"],
        "rows an update": step.params["batch"],
        "learning rate": args.learning_rate,
        "tokens learned": metrics["learned_tokens"],
        "validation loss (best, final)": _pair(metrics.get("validation_loss")),
    }
    adapter = isinstance(trainer.model, PeftModel)
    for name in ("best", "final"):
        _training.card(out.folder / name, step.models["model"][0], adapter, told)


def _pair(values: dict[str, float] | None) -> str | None:
    return f"{values['best']:.4f}, {values['final']:.4f}" if values else None
