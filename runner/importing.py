"""Recipes from what other programs were set up with: `python -m runner import selfchatbot FOLDER`.

selfchatbot keeps its data in $selfChatBot_raw/Dataset_ID_Name/ (parameters.json, and a folder of text files for each
format), edits its training settings in $selfChatBot_preprocessed/Dataset_ID_Name/parameters.json, and its sampling
settings in $selfChatBot_results/Dataset_ID_Name/parameters.json. All three are read where they are there.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from runner.errors import DataError
from runner.imported import FORMATS, recipe_text
from runner.problems import suggest
from runner.schema import kinds

RAW, PREPROCESSED, RESULTS = "selfChatBot_raw", "selfChatBot_preprocessed", "selfChatBot_results"
SETTINGS = "parameters.json"
TARGETS = "target_modules"
DATASET = re.compile(r"Dataset_(\d+)_?(.*)")
COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
TRAILING = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', re.DOTALL)
WAYS = ("lora", "qlora", "full")
NEAR = 0.5  # how alike a word and the one that was meant are: Discord and DiscordChatExporter
INPUT: dict[str, type] = {"model": str, "type_fine_tune": str, "max_length": int, "preprocessor_data": dict}
KINDS = {str: "a text", int: "a whole number", dict: "an object"}
TRAINING: dict[str, Any] = {
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "warmup_steps_percent": 0.05,
    "epochs": 500,
    "weight_decay": 0.01,
    "dataset_split": 0.8,
    "lora_r": 32,
    "lora_alpha": 64,
    "lora_dropout": 0.05,
    "max_length": None,
}
SAMPLING = {"temperature": 0.8, "top_p": 0.85, "top_k": 50, "repetition_penalty": 1.1}


def selfchatbot(folder: Path | None, dataset: int | None = None) -> tuple[str, str]:
    """The name and the text of a recipe for one of selfchatbot's datasets.

    folder:  the folder of all datasets, or one dataset; None for $selfChatBot_raw
    dataset: the ID, needed where the folder holds several
    Raises DataError, everything found together, where folders or settings are not as selfchatbot has them.
    """
    found = _dataset(_raw(folder), dataset)
    settings = _settings(found)
    formats = _formats(found, settings)
    training = _edited(found, settings, PREPROCESSED, TRAINING)
    sampling = _edited(found, settings, RESULTS, SAMPLING)
    known = DATASET.search(found.name)
    assert known, "datasets are found by this pattern"
    name = re.sub(r"[^a-z0-9]+", "-", known[2].lower()).strip("-")
    name = name if name[:1].isalpha() else f"dataset-{int(known[1])}" + (f"-{name}" if name else "")
    return name, recipe_text(known[2] or name, settings, formats, training, sampling)


def _raw(folder: Path | None) -> Path:
    if folder is None and not os.environ.get(RAW):
        raise DataError(f"no folder is named. Give one, or set {RAW} in the environment or in .env.")
    made = folder if folder is not None else Path(os.environ[RAW])
    if not made.is_dir():
        raise DataError(f"{made}: no such folder. Name the one that holds Dataset_… folders.")
    return made


def _dataset(raw: Path, wanted: int | None) -> Path:
    """The dataset's folder. Raises DataError where IDs are equal, none is there, or several and none is chosen."""
    if DATASET.search(raw.resolve().name) and (raw / SETTINGS).is_file():
        return raw.resolve()
    held = sorted(path for path in raw.iterdir() if path.is_dir() and DATASET.search(path.name))
    by_id: dict[int, list[Path]] = {}
    for path in held:
        by_id.setdefault(_id(path), []).append(path)
    equal = [
        f"{raw}: {' and '.join(path.name for path in paths)} have the same ID {key}. Rename one."
        for key, paths in by_id.items()
        if len(paths) > 1
    ]
    if equal:
        raise DataError(*equal)
    if wanted is None and len(held) == 1:
        return held[0]
    if wanted in by_id:
        return by_id[wanted][0]
    listed = f" There are: {', '.join(path.name for path in held)}." if held else " It needs a folder Dataset_ID_Name."
    raise DataError(f"{raw}: {'no dataset chosen' if wanted is None else f'no dataset {wanted}'}.{listed}")


def _id(path: Path) -> int:
    found = DATASET.search(path.name)
    return int(found[1]) if found else -1


def read_settings(path: Path) -> dict[str, Any]:
    """A parameters.json, in which comments (// and /* */) and commas before a closing bracket are allowed."""
    if not path.is_file():
        raise DataError(f"{path}: not there. selfchatbot keeps model, type_fine_tune and preprocessor_data in it.")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    text = COMMENT.sub(lambda found: found[0] if found[0][0] == '"' else re.sub(r"[^\n]", " ", found[0]), text)
    text = TRAILING.sub(lambda found: found[0] if found[0][0] == '"' else " ", text)
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise DataError(f"{path}:{line}: not JSON ({error}). Mend it.") from error
    if not isinstance(held, dict):
        raise DataError(f"{path}:1: a {type(held).__name__} where an object belongs.")
    return held


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    held = read_settings(path)
    problems = [f"{path}: '{key}' is missing." for key in ("model", "type_fine_tune") if key not in held]
    problems += [f"{path}: unknown key '{key}'.{suggest(key, INPUT, cutoff=NEAR)}" for key in held if key not in INPUT]
    problems += [
        f"{path}: '{key}' is {json.dumps(held[key])}, {KINDS[kind]} belongs there."
        for key, kind in INPUT.items()
        if key in held and (not isinstance(held[key], kind) or isinstance(held[key], bool))
    ]
    way = held.get("type_fine_tune")
    if isinstance(way, str) and way not in WAYS:
        problems.append(f"{path}: type_fine_tune is '{way}'. Use one of: {', '.join(WAYS)}.")
    if problems:
        raise DataError(*problems)
    return held


def _formats(folder: Path, settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """For each format's folder its kind of reader and the user name; sorted by folder name."""
    readable = {name: kind for name, kind in FORMATS.items() if kind in kinds("preprocess")}
    data = settings.get("preprocessor_data") or {}
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    where = folder / SETTINGS
    problems = [
        f"{folder / name}: no known format.{suggest(name, readable, cutoff=NEAR)}"
        for name in found
        if name not in readable
    ]
    problems += [
        f"{where}: preprocessor_data.{name} has no folder {name} beside it." for name in data if name not in found
    ]
    made = {}
    for name in (name for name in found if name in readable):
        held = data.get(name)
        user = held.get("username") if isinstance(held, dict) else None
        if not isinstance(user, str) or not user.strip():
            problems.append(f"{where}: 'preprocessor_data.{name}.username' is missing. It says whose voice is learned.")
            continue
        more = [key for key in (held or {}) if key != "username"]
        problems += [
            f"{where}: unknown key 'preprocessor_data.{name}.{key}'.{suggest(key, ['username'], cutoff=NEAR)}"
            for key in more
        ]
        if not any(path.is_file() for path in (folder / name).iterdir()):
            problems.append(f"{folder / name}: empty. Put the exported chats there.")
        made[name] = (str(folder / name), user)
    if not found:
        problems.append(f"{folder}: no folder of chats. Make one of: {', '.join(readable)}.")
    if problems:
        raise DataError(*problems)
    return made


def _edited(folder: Path, settings: dict[str, Any], variable: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """What selfchatbot itself wrote for this dataset, where the variable says where that is; else its defaults.

    target_modules, which it reads although it never writes them, are kept. Raises DataError for what is no number, and
    for what would train another model than the recipe's.
    """
    root = os.environ.get(variable)
    path = Path(root, folder.name, SETTINGS) if root else None
    held = read_settings(path) if path and path.is_file() else {}
    problems = [
        f"{path}: '{key}' is {json.dumps(held[key])}, no number. Mend it."
        for key in defaults
        if key in held and type(held[key]) not in (int, float)
    ]
    if variable == PREPROCESSED:
        problems += [f"{path}: {said}" for said in _not_taken(held, settings, folder / SETTINGS)]
    if problems:
        raise DataError(*problems)
    return {**defaults, **{key: held[key] for key in (*defaults, TARGETS) if key in held}}


def _not_taken(held: dict[str, Any], settings: dict[str, Any], first: Path) -> list[str]:
    problems = [
        f"'{key}' is {json.dumps(held[key])}, and {json.dumps(settings[key])} in {first}. Make them the same."
        for key in ("model", "type_fine_tune")
        if key in held and held[key] != settings[key]
    ]
    if "config" in held:
        problems.append("'config' is not taken over: it makes another model. Save that model, and name its folder.")
    targets = held.get(TARGETS, [""])
    if not isinstance(targets, list) or not targets or not all(isinstance(one, str) for one in targets):
        problems.append(f"'{TARGETS}' is {json.dumps(targets)}. Write a list of the layers' names.")
    return problems
