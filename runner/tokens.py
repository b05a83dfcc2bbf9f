"""Whether models that steer each other cut text into the same tokens, as far as a recipe and tokenizers on disk tell.

The run compares the tokenizers themselves, before weights are read. What is known earlier is said earlier.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner import schema, shapes
from runner.fields import walk, words
from runner.files import digest
from runner.problems import Problems
from runner.references import ModelUse, Node

ADVICE = "Models that steer each other need one vocabulary"


def check(node: Node, problems: Problems) -> None:
    """Warn where training adds tokens to one of two models on the same base, and not to the other."""
    for where, base, other in _pairs(node):
        mine, theirs = _added(base), _added(other)
        if mine != theirs and base.entry_below() is other.entry_below():
            odd = " ".join(token for token in (*theirs, *mine) if (token in theirs) != (token in mine))
            who = f"'{other.name}' and '{base.name}' learn other tokens{f' ({odd})' if odd else ''}"
            problems.warn(other.mark, f"{where}: {who}. {ADVICE}: give both the same special_tokens.")


def differences(nodes: list[Node]) -> list[str]:
    """A line for each pair of models whose tokenizers lie here and differ."""
    lines: dict[str, None] = {}
    for node in nodes:
        for where, base, other in _pairs(node):
            if _added(base) or _added(other) or base.entry_below() is other.entry_below():
                continue
            mine, theirs = vocabulary(base.entry_below() or {}), vocabulary(other.entry_below() or {})
            if mine and theirs and mine != theirs:
                lines[f"{where}: the tokens of '{other.name}' are not those of '{base.name}'. {ADVICE}."] = None
    return list(lines)


def vocabulary(entry: dict[str, Any]) -> str | None:
    """A digest of the tokens of a `models:` entry with their numbers, None where nothing here tells it."""
    load = str(entry.get("load", ""))
    if load in schema.bundled():
        known: str | None = schema.bundled()[load].get("vocabulary")
        return known
    folder = shapes.folder(load)
    return digest_of(folder / "tokenizer.json") if folder else None


def digest_of(path: Path) -> str | None:
    """The digest of the tokens in a tokenizer.json, those that were added to it too; None where it holds none."""
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        known = held["model"]["vocab"]
        tokens = dict(known) if isinstance(known, dict) else {one[0]: at for at, one in enumerate(known)}
        tokens |= {one["content"]: one["id"] for one in held.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError):
        return None
    return digest(sorted(tokens.items()))[:16]


def _pairs(node: Node) -> Iterator[tuple[str, ModelUse, ModelUse]]:
    """Who answers beside each model that a decoding of theirs names, with the path of the key that names it."""
    for path, decoding in node.decodings.items():
        for base in node.answering(path):
            for inner, others in decoding.models.items():
                yield from ((f"decoding.{decoding.name}.{inner}", base, other) for other in others)


def _added(use: ModelUse) -> tuple[str, ...]:
    """The tokens that training adds on the way to a model."""
    made: list[str] = []
    step: ModelUse | None = use
    while step is not None and step.node is not None:
        found = walk(step.node.body, step.node.fragment)
        made[:0] = [token for one in found if one.schema.get("x-tokens") for token, _ in words(one)]
        step = next(iter(step.node.models.get("model", ())), None)
    return tuple(dict.fromkeys(made))
