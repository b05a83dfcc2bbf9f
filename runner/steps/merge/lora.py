"""`merge: lora`: an adapter and its base as one whole model, which the next step may load, train or export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from runner import models, places, scorers
from runner.errors import StepError
from runner.heads import NAME as SCORER
from runner.step import Model, Out, Step


def run(step: Step, out: Out) -> dict[str, Any]:
    """Write model/: weights, tokenizer with its template, the prompt that is remembered, a card.

    The base is read in the type of its own files, or in `dtype:`, into the machine's memory and not a GPU's, which may
    be too small for it. Raises StepError where the model is no adapter, MachineError where the weights do not fit in.
    """
    given = step.models["model"][0]
    model = given
    if given.folder and not given.files:  # an adapter from elsewhere has no other checkpoints
        model = replace(given, folder=given.folder.with_name(step.params["checkpoint"]))
    if not places.is_adapter(model):
        raise StepError(
            f"{step.name}.model: '{model.name}' is a whole model. There is nothing to merge: use it as it is."
        )
    models.prepare(0)
    whole = _whole(model)
    folder = out.folder / "model"
    judges = (model.folder / SCORER).is_file() if model.folder else False
    if judges:
        network = _judge(step, whole, folder, out)
    else:
        network = models.load_network(whole, step.artifacts, _dtype(step, whole, out), out.log, on="cpu")
        network.save_pretrained(folder)
        models.load_tokenizer(model, step.artifacts).save_pretrained(folder)
        places.remember(places.remembered(model.folder), folder)
    parameters = sum(one.numel() for one in network.parameters())
    dtype = str(network.dtype).removeprefix("torch.")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    task = "text-classification" if judges else "text-generation"
    _card(folder, model, task, {"parameters": parameters, "dtype": dtype})
    return {
        "metrics": {"parameters": parameters, "bytes": size},
        "tables": [
            {
                "title": f"{model.name}, merged",
                "columns": ["parameters", "dtype", "GB"],
                "rows": [[parameters, dtype, round(size / 1e9, 3)]],
            }
        ],
        "notes": _notes(model),
        "hardware": {"device": "cpu", "dtype": dtype},
    }


def _judge(step: Step, whole: Model, folder: Path, out: Out) -> Any:
    """A classifier with its head, saved; returns the network."""
    scorer = scorers.load(whole, step.artifacts, out.log)
    network = scorer.network.to(_dtype(step, whole, out)) if "dtype" in step.params else scorer.network
    return scorers.save(replace(scorer, network=network), folder)


def _card(folder: Path, model: Model, task: str, made: dict[str, Any]) -> None:
    """The folder's README.md: base and figures; no time, no path."""
    head = ["---", f"base_model: {places.public_name(model)}", "library_name: transformers"]
    head += [f"pipeline_tag: {task}", "tags: [persona, merged]", "---", "", "# A persona model, merged", ""]
    lines = [f"| {name} | {value} |" for name, value in made.items()]
    text = "\n".join([*head, "| setting | value |", "|---|---|", *lines, ""])
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def _whole(model: Model) -> Model:
    """The same chain with the weights under it read whole."""
    entry = {key: value for key, value in model.entry.items() if key != "bits"}
    return replace(model, entry=entry, base=_whole(model.base) if model.base else None)


def _dtype(step: Step, model: Model, out: Out) -> torch.dtype:
    if "dtype" in step.params:
        named: torch.dtype = getattr(torch, step.params["dtype"])
        return named
    under = model
    while places.is_adapter(under) and under.base:
        under = under.base
    held = models.read_config(under, models.place(under, step.artifacts, out.log)).dtype
    return held if isinstance(held, torch.dtype) else torch.float32


def _notes(model: Model) -> list[str]:
    held = places.bits(model)
    if not held:
        return []
    return [
        f"The adapter learned over weights in {held} bits and is merged into the whole ones, which differ a little."
    ]
