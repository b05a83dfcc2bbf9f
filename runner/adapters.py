"""Adapters from elsewhere: a folder that `load:` names and that holds an adapter, over the base that it was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import StepError
from runner.schema import bundled
from runner.step import Model

CONFIG = "adapter_config.json"


def over_base(model: Model) -> Model:
    """A model as it is; of a `models:` entry whose folder holds a language model's adapter, that adapter over its base.

    Raises StepError where the adapter does not say what its base is.
    """
    load = str(model.entry.get("load", ""))
    folder = Path(load).expanduser()
    if not load or load in bundled() or not (folder / CONFIG).is_file():
        return model
    if _read(folder).get("task_type") not in (None, "CAUSAL_LM"):
        return model  # runner/scorers.py reads a classifier's, with its head
    return replace(model, entry={}, folder=folder, base=base(model, folder))


def base(model: Model, folder: Path) -> Model:
    """The base that the adapter in a folder names: one that comes along, a Hub id or a folder."""
    name = _read(folder).get("base_model_name_or_path")
    if not name:
        raise StepError(f"{folder / CONFIG}: names no base. Write its Hub id or folder as base_model_name_or_path.")
    load = next((ours for ours, held in bundled().items() if held["hub"] == name), name)
    return Model(f"{model.name} (base {name})", {**model.entry, "load": load})


def _read(folder: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StepError(f"{folder / CONFIG}: not JSON ({error}). Fetch the adapter again.") from error
    return held
