"""The network that a classifier step trains: a fresh head, LoRA around the backbone and never around the head, or two towers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import DataLoader
from transformers.pytorch_utils import Conv1D

from runner import heads, models, places
from runner.errors import StepError
from runner.heads import About, Towers
from runner.places import Say, public_name
from runner.step import Step
from runner.steps.train import _settings, _training
from runner.steps.train._labels import Target

MOST_PAIRS = 2000  # that the line of two towers is fitted to, before training


def load(step: Step, about: About, target: Target, tokenizer: Any, say: Say) -> Any:
    """The network, ready to train. Raises StepError where the adapter's targets are not in it."""
    model, lora = step.models["model"][0], step.params.get("lora")
    dtype = models.precision() if lora else torch.float32
    network, missing = heads.load_fresh(model, step.artifacts, about, dtype, say)
    network.config.use_cache = False
    heads.fit(network, tokenizer)
    if places.bits(model):
        network = _settings.for_bits(network)
    if isinstance(network, Towers):
        network.freeze(step.params["towers"] == "frozen")
        if lora:
            network.encoder = _adapted(step, network.encoder, [], "FEATURE_EXTRACTION")
        return network
    _freeze(step, network)
    full = heads.trained_in_full(network, missing)
    if target.means and missing:
        _start_at(network, full, target.means)
    return _adapted(step, network, full, "SEQ_CLS") if lora else network


def _freeze(step: Step, network: Any) -> None:
    """`freeze: n`: the embeddings and the first n layers of the backbone stay as they are."""
    count = step.params.get("freeze")
    if count is None:
        return
    body = network.base_model
    layers = next((part for part in body.modules() if isinstance(part, torch.nn.ModuleList)), torch.nn.ModuleList())
    if count > len(layers):
        raise StepError(f"{step.name}.freeze: the model has {len(layers)} layers. Freeze fewer.")
    tables = [part for part in body.modules() if isinstance(part, torch.nn.Embedding)]
    around = [part for name, part in body.named_children() if "embed" in name]
    for part in [*tables, *around, *layers[:count]]:
        part.requires_grad_(False)


def plain(network: Any) -> Any:
    """The network without what PEFT puts around it."""
    return network.get_base_model() if isinstance(network, PeftModel) else network


def expect_known(step: Step, network: Any, data: Dataset) -> None:
    """Raises StepError where the rows have tokens that the network does not know."""
    inner = network.encoder if isinstance(network, Towers) else network
    rows, last = inner.get_input_embeddings().weight.shape[0], _training.largest(data)
    if last >= rows:
        said = f"'{step.models['model'][0].name}' knows {rows} tokens, and the rows have token {last}"
        advice = "Its tokenizer belongs to another model: use the files that were published together."
        raise StepError(f"{step.name}.model: {said}. {advice}")


def _start_at(network: Any, full: list[str], means: list[float]) -> None:
    """A fresh head begins by saying the mean of the training rows, where it has a bias."""
    for name in full:
        for part in network.get_submodule(name).modules():
            if isinstance(part, torch.nn.Linear) and part.out_features == len(means) and part.bias is not None:
                part.bias.data = torch.tensor(means, dtype=part.bias.dtype, device=part.bias.device)


def _adapted(step: Step, network: Any, full: list[str], task: str) -> Any:
    """LoRA on the backbone; the modules in `full` are trained whole, in float32, and never wrapped."""
    lora = step.params["lora"]
    config = LoraConfig(
        r=lora["rank"],
        lora_alpha=lora.get("alpha", 2 * lora["rank"]),
        lora_dropout=lora["dropout"],
        target_modules=_targets(step, network, full),
        modules_to_save=list(full) or None,
        task_type=task,
    )
    made = get_peft_model(network, config)
    _training.settle(made)
    return made


def _targets(step: Step, network: Any, full: list[str]) -> list[str]:
    """The last names of the layers that get an adapter. PEFT leaves out those of them that are in `full`."""
    linear = [
        name
        for name, part in network.named_modules()
        if isinstance(part, torch.nn.Linear | Conv1D)
        and not any(name == one or name.startswith(f"{one}.") for one in full)
    ]
    known = sorted({name.rsplit(".", maxsplit=1)[-1] for name in linear})
    wanted = step.params["lora"]["targets"]
    if wanted == "all":
        return known
    for one in wanted:
        if one in full:
            raise StepError(f"{step.name}.lora.targets: {one} is the head, which is always trained whole. Remove it.")
        if not any(name == one or name.endswith(f".{one}") for name in linear):
            raise StepError(f"{step.name}.lora.targets: no layer {one!r} (there are: {', '.join(known)}).")
    return list(wanted)


# Two towers


@torch.no_grad()
def start_line(towers: Towers, data: Dataset, collate: Callable[[list[Any]], dict[str, torch.Tensor]]) -> None:
    """Begin with the line that fits the labels best for the cosines of the first pairs: from there training goes on."""
    towers.eval()
    cosines, labels = [], []
    for batch in DataLoader(data.select(range(min(len(data), MOST_PAIRS))), batch_size=16, collate_fn=collate):
        held = {name: value.to(models.device()) for name, value in batch.items()}
        labels += held.pop("labels")[:, 0].tolist()
        cosines += towers.similarity(**held).tolist()
    scale, offset = (0.0, float(np.mean(labels)))
    if np.ptp(cosines) > 0:
        scale, offset = (float(one) for one in np.polyfit(cosines, labels, 1))
    towers.line.data = torch.tensor([scale, offset], device=towers.line.device)


# The card


def card(folder: Path, step: Step, about: About, adapter: bool, metrics: dict[str, Any], rate: float) -> None:
    """The folder's README.md: base, labels, settings and figures; no time, no path, no recipe."""
    lora, model = step.params.get("lora"), step.models["model"][0]
    task = "sentence-similarity" if about.towers else "text-classification"
    library = "peft" if adapter else "transformers"
    lines = {
        "predicts": about.predict,
        "labels, in order": ", ".join(about.labels),
        "reads": "text and text_pair" if about.pairs else "text",
        "tokens read": f"{about.length}, from the {about.keep}",
        "method": f"LoRA of rank {lora['rank']}, the head in full"
        if lora
        else f"towers: {step.params['towers']}"
        if about.towers
        else "all weights",
        "updates": metrics["updates"],
        "rows an update": step.params["batch"],
        "learning rate": rate,
    }
    for which, figures in metrics.get("validation", {}).items():
        lines[f"validation ({which})"] = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    head = ["---", f"base_model: {public_name(model)}", f"library_name: {library}", f"pipeline_tag: {task}"]
    head += [
        "tags: [persona]",
        "---",
        "",
        "# What a text says of who wrote it" if about.predict == "class" else "# A score for texts",
        "",
    ]
    lines |= _training.digests(step)
    rows = [f"| {name} | {value} |" for name, value in lines.items()]
    (folder / "README.md").unlink(missing_ok=True)
    text = "\n".join([*head, "| setting | value |", "|---|---|", *rows, ""])
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
