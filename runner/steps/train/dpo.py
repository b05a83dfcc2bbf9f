"""`train: dpo`: recipe keys to TRL's DPOTrainer. The reference is the model exactly as given."""

from __future__ import annotations

import math
import shutil
from typing import Any

import torch
from datasets import Dataset, Features, List, Value
from peft import PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import DPOConfig

from runner import models, places
from runner.errors import StepError
from runner.step import Out, Step
from runner.steps.train import _launch, _lessons, _pairs, _settings, _training
from runner.steps.train._pairs import show
from runner.steps.train._preferring import NAMES, Trainer, answers_alone, lengths, reference
from runner.steps.train._sharing import sharing

__all__ = ["run", "show", "train"]
RATES = {True: 5e-5, False: 1e-6}  # learning rate with and without LoRA
FEATURES = Features({f"{name}_ids": List(Value("int32")) for name in _pairs.COLUMNS})


def run(step: Step, out: Out) -> dict[str, Any]:
    """Train and write best/ and final/. Raises StepError where there is no pair or the loss is not a number."""
    facts = _settings.ended(out)
    if facts is None:
        facts = _launch.run("dpo", step, out) if step.params.get("launch") else train(step, out)
    for name in ("checkpoints", "encoded"):
        shutil.rmtree(out.folder / name, ignore_errors=True)
    return facts


def train(step: Step, out: Out) -> dict[str, Any]:
    """The training itself, in this process; with `launch:`, in each of several."""
    threads = models.prepare(step.params["seed"])
    _expect_trainable(step)
    tokenizer = _lessons.load_tokenizer(step, out)
    data = {role: _stored(step, out, tokenizer, role) for role in _lessons.parts(step)}
    network = _network(step, out, data["train"])
    with answers_alone(), sharing(network, _longest(data["train"], network.device)) as shared:
        trainer = _trainer(step, out, tokenizer, network, data)
        facts = _train(step, out, trainer, data)
    facts["hardware"] = _training.hardware(trainer.args, trainer.model, threads) | {"prompts_shared": shared}
    _write(step, out, trainer, facts)
    out.side({"ended": facts})
    return facts


def _expect_trainable(step: Step) -> None:
    """Weights in 4 or 8 bits take an adapter on top, and only one: another cannot be merged into them without loss."""
    model = step.models["model"][0]
    if places.bits(model) and not step.params.get("lora"):
        raise StepError(f"{step.name}: weights loaded with bits: cannot be trained. Add lora:, or drop bits:.")
    if places.bits(model) and places.is_adapter(model):
        advice = f"Merge it first: {{merge: lora, model: {model.name}}}, and name that step."
        raise StepError(f"{step.name}.model: '{model.name}' is an adapter over weights loaded with bits. {advice}")


def _stored(step: Step, out: Out, tokenizer: Any, role: str) -> Dataset:
    pairs = _pairs.pairs(step, tokenizer, _lessons.parts(step)[role], out)
    made = _training.store(pairs, out.folder / "encoded" / f"{role}.arrow", FEATURES)
    if not len(made):
        advice = "See rejected.jsonl for why they were left out."
        raise StepError(f"{step.name}.from: no pair of the {role} part can be learned from. {advice}")
    return made


def _network(step: Step, out: Out, data: Dataset) -> Any:
    """The weights of the model as given, which are the reference's too."""
    model = step.models["model"][0]
    dtype = None if step.params.get("lora") else torch.float32
    network = models.load_network(model, step.artifacts, dtype, out.log)
    _settings.expect_tokens(step, network, max(_training.largest(data, f"{name}_ids") for name in _pairs.COLUMNS))
    return _settings.for_bits(network) if places.bits(model) else network


def _longest(data: Dataset, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of the longest pair alone."""
    sizes = lengths(data)
    pair = data[max(range(len(sizes)), key=sizes.__getitem__)]
    rows = [pair["prompt_ids"] + pair[f"{name}_ids"] for name in ("chosen", "rejected")]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    there = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": there}


# Translation to TRL


def _trainer(step: Step, out: Out, tokenizer: Any, network: Any, data: dict[str, Dataset]) -> Trainer:
    lora = step.params.get("lora")

    def compute(trainer: Trainer, rows: Dataset, name: str, batch: int) -> Dataset:
        with out.progress("reference" if name == "train" else "reference, validation", len(rows)) as advance:
            return reference(trainer, rows, batch, out.folder / "encoded" / f"{name}.reference", advance)

    try:
        trainer = Trainer(
            compute,
            lora["dropout"] if lora else 0.0,
            model=network,
            args=_config(step, out, network, data),
            train_dataset=data["train"],
            eval_dataset=data.get("validation"),
            processing_class=tokenizer,
            peft_config=_settings.lora(network, lora) if lora else None,
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StepError(f"{step.name}: {str(error).splitlines()[0]}") from error
    _training.settle(trainer.model)
    trainer.remove_callback(PrinterCallback)
    if "stop_early" in step.params and "validation" in data:
        trainer.add_callback(EarlyStoppingCallback(step.params["stop_early"]["after"]))
    return trainer


def _config(step: Step, out: Out, network: Any, data: dict[str, Dataset]) -> DPOConfig:
    keys, sizes = step.params, lengths(data["train"])
    loss = keys["loss"]
    ours = _settings.common(step, out, network, sizes, "validation" in data) | {
        "learning_rate": keys.get("learning_rate", RATES["lora" in keys]),
        "beta": keys["beta"],
        "loss_type": [loss] if isinstance(loss, str) else loss,
        "max_length": None,  # _pairs has cut them
        "precompute_ref_log_probs": True,
    }
    return DPOConfig(**_settings.free(network, sizes, keys["batch"]) | dict(keys.get("arguments") or {}) | ours)


def _train(step: Step, out: Out, trainer: Trainer, data: dict[str, Dataset]) -> dict[str, Any]:
    keys = step.params
    sizes, answers = lengths(data["train"]), _answers(data["train"])
    updates = keys.get("max_steps") or math.ceil(math.ceil(len(sizes) / keys["batch"]) * keys["epochs"])
    out.log(f"{len(sizes)} pairs of {sum(sizes)} tokens, {answers} of them in answers; {updates} updates")
    resumed = _training.newest_checkpoint(out.folder / "checkpoints")
    if resumed:
        out.log(f"going on from {resumed.name}")

    def keep(network: Any) -> None:
        _save(step, trainer, "best", out)

    with out.progress("training", updates) as advance:
        cost = _training.checkpoint_cost(trainer.model)
        watch = _training.Watch(advance, keep, keys["best"], cost, lambda: trainer.seen)
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    facts = _facts(trainer, keys["best"])
    speed = round(_launch.summed([trainer.seen])[0] / watch.seconds(), 1)
    counts = {"pairs": len(sizes), "tokens": sum(sizes), "answer_tokens": answers, "tokens_per_second": speed}
    return {**facts, "metrics": counts | facts["metrics"]}


def _answers(data: Dataset) -> int:
    return sum(sum(_training.lengths(data, f"{name}_ids")) for name in ("chosen", "rejected"))


def _facts(trainer: Trainer, best: str) -> dict[str, Any]:
    history, state = trainer.state.log_history, trainer.state
    logged = {"loss": "loss", **NAMES}
    updates, looks = ([entry for entry in history if name in entry] for name in ("loss", "eval_loss"))
    last = updates[-max(1, len(updates) // 10) :]
    metrics: dict[str, Any] = {"updates": state.global_step}
    metrics["train"] = {name: sum(entry[theirs] for entry in last) / len(last) for name, theirs in logged.items()}
    notes = ["The figures of the train part are means over the last tenth of the updates, those seen on the way."]
    rows = [["train", "on the way", *metrics["train"].values()]]
    if looks:
        choose = min if best == "loss" else max
        kept = {"best": choose(looks, key=lambda entry: entry[f"eval_{best}"]), "final": looks[-1]}
        found = {name: {which: entry[f"eval_{name}"] for which, entry in kept.items()} for name in logged}
        metrics["validation"] = found
        rows += [["validation", which, *(one[which] for one in found.values())] for which in ("best", "final")]
    else:
        notes.append("There is no validation part, so best and final are the same model.")
    if state.global_step < state.max_steps:
        notes.append(f"Stopped early after {state.global_step} of {state.max_steps} updates.")
    curves = {name: _training.curve(history, theirs) for name, theirs in logged.items()}
    curves |= {f"validation_{name}": _training.curve(history, f"eval_{name}") for name in logged if looks}
    columns = ["part", "model", "loss", "accuracy", "margin", "reward chosen", "reward rejected"]
    table = {"title": "Preferences", "columns": columns, "rows": rows}
    return {"metrics": metrics, "curves": curves, "tables": [table], "notes": notes}


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
    if "validation" not in facts["metrics"]:
        _training.same(out.folder / "final", out.folder / "best")
    told = _told(step, trainer, facts["metrics"]) | _training.digests(step)
    for name in ("best", "final"):
        _training.card(out.folder / name, step.models["model"][0], isinstance(trainer.model, PeftModel), told)


def _told(step: Step, trainer: Trainer, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the model card says: nothing of the recipe, the machine or the time."""
    keys, lora, bits = step.params, step.params.get("lora"), places.bits(step.models["model"][0])
    held = metrics.get("validation")

    def both(name: str) -> str | None:
        return f"{held[name]['best']:.4f}, {held[name]['final']:.4f}" if held else None

    return {
        "method": "direct preference optimisation, " + (f"LoRA of rank {lora['rank']}" if lora else "all weights"),
        "base weights": f"{bits} bits" if bits else None,
        "loss": keys["loss"] if isinstance(keys["loss"], str) else " + ".join(keys["loss"]),
        "beta": keys["beta"],
        "pairs": metrics["pairs"],
        "updates": metrics["updates"],
        "pairs an update": keys["batch"],
        "learning rate": trainer.args.learning_rate,
        "seed": keys["seed"],
        "held-out loss (best, final)": both("loss"),
        "held-out accuracy (best, final)": both("accuracy"),
        "held-out margin (best, final)": both("margin"),
    }
