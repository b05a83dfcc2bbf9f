"""`train: classifier`: recipe keys to transformers' Trainer. A head on any backbone says a class or numbers."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from typing import Any

from datasets import Dataset

from runner import heads, models, places
from runner.errors import StepError
from runner.heads import About
from runner.step import Out, Step
from runner.steps import _judged
from runner.steps.train import _classify, _heads, _labels, _launch, _lessons, _settings, _texts, _training, _translated
from runner.steps.train._classify import Trainer
from runner.steps.train._labels import Target
from runner.steps.train._texts import show

__all__ = ["run", "show", "train"]

FIGURES = {
    "class": ("loss", "accuracy", "macro_f1"),
    "number": ("loss", "mae", "rmse", "r2", "spearman"),
    "numbers": ("loss", "mae", "rmse", "r2", "spearman"),
}


def run(step: Step, out: Out) -> dict[str, Any]:
    """Train and write best/ and final/. Raises StepError or DataError where nothing can be learned of the rows."""
    facts = _settings.ended(out)
    if facts is None:
        facts = _launch.run("classifier", step, out) if step.params.get("launch") else train(step, out)
    for name in ("checkpoints", "encoded"):
        shutil.rmtree(out.folder / name, ignore_errors=True)
    return facts


def train(step: Step, out: Out) -> dict[str, Any]:
    """The training itself, in this process; with `launch:`, in each of several."""
    step = _complete(step)
    threads = models.prepare(step.params["seed"])
    model, roles = step.models["model"][0], _lessons.parts(step)
    tokenizer = heads.load_tokenizer(model, step.artifacts, out.log)
    before = heads.remembered(models.place(model, step.artifacts))
    target = _labels.learn(step, roles, before.labels if before else None)
    about = _texts.about(step, target)
    network = _heads.load(step, about, target, tokenizer, out.log)
    about = replace(about, length=min(about.length, heads.fit(_heads.plain(network), tokenizer)))
    if about.length < step.params["max_length"]:
        out.log(f"the model reads {about.length} tokens: max_length is {about.length}, not {step.params['max_length']}")
    data = {role: _texts.stored(step, out, tokenizer, about, target, role) for role in roles}
    _heads.expect_known(step, network, data["train"])
    if about.towers:
        _heads.start_line(network, data["train"], _classify.collate(tokenizer.pad_token_id))
    trainer = _translated.trainer(step, out, network, tokenizer, data, target)
    facts = _fit(step, out, trainer, about, data["train"])
    facts["notes"] = [*target.notes, *facts["notes"]]
    facts["tables"] = _tables(target, facts["metrics"])
    facts["hardware"] = _training.hardware(trainer.args, network, threads)
    _write(step, out, trainer, about, facts)
    out.side({"ended": facts})
    return facts


def _complete(step: Step) -> Step:
    """The step with the figure that stopping early watches. Raises StepError for what cannot go together."""
    keys = step.params
    if keys.get("towers") == "frozen" and keys.get("lora"):
        raise StepError(f"{step.name}.towers: frozen weights take no lora:. Set towers: trained, or remove lora:.")
    if places.bits(step.models["model"][0]) and not keys.get("lora"):
        raise StepError(f"{step.name}: weights loaded with bits: cannot be trained. Add lora:, or drop bits:.")
    if keys.get("freeze") is not None and (keys.get("lora") or keys.get("towers")):
        raise StepError(f"{step.name}.freeze: only where all weights are trained. Remove it, or lora: and towers:.")
    stop = keys.get("stop_early")
    return replace(step, params={**keys, "stop_early": {"on": keys["best"], **stop}}) if stop else step


# Training


def _fit(step: Step, out: Out, trainer: Trainer, about: About, data: Dataset) -> dict[str, Any]:
    keys = step.params
    updates = keys.get("max_steps") or math.ceil(_translated.updates(step, len(data)) * keys["epochs"])
    tokens = sum(trainer.sizes)
    out.log(f"{len(data)} examples of {tokens} tokens, {about.predict} of {len(about.labels)}; {updates} updates")
    resumed = _training.newest_checkpoint(out.folder / "checkpoints")
    if resumed:
        out.log(f"going on from {resumed.name}")

    def keep(network: Any) -> None:
        _classify.save(trainer, step.models["model"][0], about, out.folder / "best")

    with out.progress("training", updates) as advance:
        cost = _training.checkpoint_cost(trainer.model)
        watch = _classify.Watch(advance, keep, keys["best"], cost, lambda: trainer.seen)
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    speed = _launch.summed([trainer.seen])[0] / watch.seconds()
    return _facts(trainer, about, len(data), speed, keys["best"])


def _facts(trainer: Trainer, about: About, rows: int, speed: float, best: str) -> dict[str, Any]:
    state = trainer.state
    curves = {"loss": _training.curve(state.log_history, "loss")}
    metrics: dict[str, Any] = {
        "updates": state.global_step,
        "rows": rows,
        "train_loss": curves["loss"][-1][1],
        "tokens_per_second": round(speed, 1),
    }
    notes = []
    found = [entry for entry in state.log_history if "eval_loss" in entry]
    if found:
        values = [entry.get(f"eval_{best}", math.nan) for entry in found]
        wanted = (max if _judged.MORE_IS_BETTER[best] else min)(values)
        chosen = {"best": found[values.index(wanted)], "final": found[-1]}
        names = [name for name in FIGURES[about.predict] if f"eval_{name}" in found[-1]]
        metrics["validation"] = {
            which: {name: entry[f"eval_{name}"] for name in names if f"eval_{name}" in entry}
            | {"update": entry["step"]}
            for which, entry in chosen.items()
        }
        curves |= {f"validation_{name}": _training.curve(state.log_history, f"eval_{name}") for name in names}
    else:
        notes.append("There is no validation part, so best and final are the same model.")
    if state.global_step < state.max_steps:
        notes.append(f"Stopped early after {state.global_step} of {state.max_steps} updates.")
    return {"metrics": metrics, "curves": curves, "notes": notes}


def _tables(target: Target, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    if target.counts and len(target.labels) <= 60:
        rows = [[label, *(count[label] for count in target.counts.values())] for label in target.labels]
        made.append(
            {"title": "Labels, in the order of the outputs", "columns": ["label", *target.counts], "rows": rows}
        )
    if "validation" in metrics:
        names = list(metrics["validation"]["final"])
        rows = [[which, *(one.get(name) for name in names)] for which, one in metrics["validation"].items()]
        made.append({"title": "On the validation part", "columns": ["checkpoint", *names], "rows": rows})
    return made


# The folders at the end


def _write(step: Step, out: Out, trainer: Trainer, about: About, facts: dict[str, Any]) -> None:
    metrics, model = facts["metrics"], step.models["model"][0]
    _classify.save(trainer, model, about, out.folder / "final")
    if not _launch.leads():
        return
    best = metrics.get("validation", {}).get("best")
    if best is None or best["update"] == metrics["updates"]:
        _training.same(out.folder / "final", out.folder / "best")
    adapter = (out.folder / "final" / "adapter_config.json").is_file()
    for name in ("best", "final"):
        _heads.card(out.folder / name, step, about, adapter, metrics, trainer.args.learning_rate)
