"""`train: sft`: recipe keys to TRL's SFTTrainer. What is learned of a row is decided in runner.chat alone."""

from __future__ import annotations

import math
import shutil
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import SFTConfig

from runner import models, places, vocabulary
from runner.errors import StepError
from runner.step import Out, Step
from runner.steps.train import _launch, _lessons, _settings, _training
from runner.steps.train._lessons import show
from runner.steps.train._packing import expect_isolated
from runner.steps.train._trainer import Trainer

__all__ = ["run", "show", "train"]
RATES = {True: 2e-4, False: 2e-5}  # learning rate with and without LoRA


def run(step: Step, out: Out) -> dict[str, Any]:
    """Train and write best/ and final/. Raises StepError where nothing is to be learned or the loss is not a number."""
    facts = _settings.ended(out)
    if facts is None:
        facts = _launch.run("sft", step, out) if step.params.get("launch") else train(step, out)
    for name in ("checkpoints", "encoded"):
        shutil.rmtree(out.folder / name, ignore_errors=True)
    return facts


def train(step: Step, out: Out) -> dict[str, Any]:
    """The training itself, in this process; with `launch:`, in each of several."""
    threads = models.prepare(step.params["seed"])
    disable_progress_bars()
    _expect_trainable(step)
    tokenizer = _lessons.load_tokenizer(step, out)
    length = _lessons.room(step, tokenizer)
    if length < step.params["max_length"]:
        out.log(f"the model reads {length} tokens: max_length is {length}, not {step.params['max_length']}")
    data = {role: _stored(step, out, tokenizer, role) for role in _lessons.parts(step)}
    trainer = _trainer(step, out, tokenizer, data)
    facts = _train(step, out, trainer, data["train"])
    facts["hardware"] = _training.hardware(trainer.args, trainer.model, threads)
    _write(step, out, trainer, facts)
    out.side({"ended": facts})
    return facts


def _expect_trainable(step: Step) -> None:
    model = step.models["model"][0]
    if places.bits(model) and not step.params.get("lora"):
        raise StepError(f"{step.name}: weights loaded with bits: cannot be trained. Add lora:, or drop bits:.")


def _stored(step: Step, out: Out, tokenizer: Any, role: str) -> Dataset:
    examples = _lessons.examples(step, tokenizer, _lessons.parts(step)[role], out)
    made = _training.store(examples, out.folder / "encoded" / f"{role}.arrow")
    if not len(made):
        advice = "See rejected.jsonl, and make show for what is learned."
        raise StepError(f"{step.name}.from: no row of the {role} part has an answer to learn from. {advice}")
    return made


# Translation to TRL


def _network(step: Step, out: Out, tokenizer: Any, data: dict[str, Dataset]) -> Any:
    """The weights, with rows for the tokens that the step adds."""
    model, lora, tokens = step.models["model"][0], step.params.get("lora"), step.params.get("special_tokens", ())
    network = models.load_network(model, step.artifacts, None if lora else torch.float32, out.log)
    vocabulary.add(tokenizer, network, tokens)
    _settings.expect_tokens(step, network, max(map(_training.largest, data.values())))
    if places.bits(model):
        network = _settings.for_bits(network)
    if step.params["packing"]:
        expect_isolated(step.name, network)
    return network


def _trainer(step: Step, out: Out, tokenizer: Any, data: dict[str, Dataset]) -> Trainer:
    network, lora = _network(step, out, tokenizer, data), step.params.get("lora")
    try:
        trainer = Trainer(
            model=network,
            args=_config(step, out, network, data, _lessons.room(step, tokenizer)),
            train_dataset=_training.with_silent(data["train"]) if _filled(step) else data["train"],
            eval_dataset=data.get("validation"),
            processing_class=tokenizer,
            peft_config=_lora(step, network, tokenizer) if lora else None,
        )
    except (ValueError, TypeError) as error:
        raise StepError(f"{step.name}: {str(error).splitlines()[0]}") from error
    _training.settle(trainer.model)
    vocabulary.show_bias(trainer.model)
    trainer.remove_callback(PrinterCallback)
    if "check_every" not in step.params:
        trainer.args.eval_steps = _updates(step, trainer)
    if "stop_early" in step.params and "validation" in data:
        trainer.add_callback(EarlyStoppingCallback(step.params["stop_early"]["after"]))
    return trainer


def _updates(step: Step, trainer: Trainer) -> int:
    """How many updates see every row once; packed rows are fewer."""
    return math.ceil((len(trainer.train_dataset) - _filled(step)) / step.params["batch"])


def _filled(step: Step) -> bool:
    """Whether the last update is filled up with an example of which nothing is learned: processes work in step."""
    return _launch.processes() > 1 and not step.params["packing"]


def _lora(step: Step, network: Any, tokenizer: Any) -> Any:
    made = _settings.lora(network, step.params["lora"])
    tokens = step.params.get("special_tokens")
    if tokens:
        made.trainable_token_indices = vocabulary.trainable(network, tokenizer, tokens)
    return made


def _config(step: Step, out: Out, network: Any, data: dict[str, Dataset], length: int) -> SFTConfig:
    keys, sizes = step.params, _training.lengths(data["train"])
    ours = _settings.common(step, out, network, sizes, "validation" in data) | {
        "learning_rate": keys.get("learning_rate", RATES["lora" in keys]),
        "max_length": length,
        "packing": keys["packing"],
        "eval_packing": False,
        "dataset_kwargs": None if keys["packing"] else {"skip_prepare_dataset": True},
    }
    return SFTConfig(**_settings.free(network, sizes, keys["batch"]) | dict(keys.get("arguments") or {}) | ours)


def _train(step: Step, out: Out, trainer: Trainer, data: Dataset) -> dict[str, Any]:
    keys = step.params
    tokens, learned = sum(_training.lengths(data)), _training.learned(data)
    updates = keys.get("max_steps") or math.ceil(_updates(step, trainer) * keys["epochs"])
    out.log(f"{len(data)} examples of {tokens} tokens, {learned} of them learned; {updates} updates")
    resumed = _training.newest_checkpoint(out.folder / "checkpoints")
    if resumed:
        out.log(f"going on from {resumed.name}")

    def keep(network: Any) -> None:
        _save(step, trainer, "best", out)

    with out.progress("training", updates) as advance:
        watch = _training.Watch(
            advance, keep, keys["best"], _training.checkpoint_cost(trainer.model), lambda: trainer.seen
        )
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    return _facts(trainer, learned, tokens, _launch.summed([trainer.seen])[0] / watch.seconds())


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


def _save(step: Step, trainer: Trainer, name: str, out: Out) -> None:
    """All processes come here: weights that lie in pieces are put together by all of them."""
    model, state = step.models["model"][0], trainer.whole_state()
    if _launch.leads():
        place = out.folder / name
        _training.save(trainer.model, trainer.processing_class, model, step.learned, place, state)
    _launch.together()


def _write(step: Step, out: Out, trainer: Trainer, facts: dict[str, Any]) -> None:
    _save(step, trainer, "final", out)
    if not _launch.leads():
        return
    if "validation_loss" not in facts["metrics"]:
        _training.same(out.folder / "final", out.folder / "best")
    told = _told(step, trainer, facts["metrics"]) | _training.digests(step)
    for name in ("best", "final"):
        _training.card(out.folder / name, step.models["model"][0], isinstance(trainer.model, PeftModel), told)


def _told(step: Step, trainer: Trainer, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the model card says: nothing of the recipe, the machine or the time."""
    keys, lora, bits = step.params, step.params.get("lora"), places.bits(step.models["model"][0])
    checked, args = metrics.get("validation_loss"), trainer.args
    return {
        "method": "supervised fine-tuning, " + (f"LoRA of rank {lora['rank']}" if lora else "all weights"),
        "base weights": f"{bits} bits" if bits else None,
        "learned of a row": keys.get("loss"),
        "added tokens": " ".join(f"`{token}`" for token in keys.get("special_tokens", ())) or None,
        "updates": metrics["updates"],
        "rows an update": keys["batch"],
        "learning rate": args.learning_rate,
        "seed": keys["seed"],
        "tokens learned": metrics["learned_tokens"],
        "training loss at the end": f"{metrics['train_loss']:.4f}",
        "validation loss (best, final)": f"{checked['best']:.4f}, {checked['final']:.4f}" if checked else None,
    }
