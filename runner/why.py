"""Why a step must run again, in words: 'learning_rate 0.0002 → 0.0001', 'datasets/me/2024.json changed'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def differences(old: Any, new: Any, steps: dict[str, str]) -> Iterator[str]:
    """What changed between two specs of a step, in words: 'learning_rate 0.0002 → 0.0001'."""
    for key in ("params", "matrix", "texts", "prompts", "decodings", "learned"):
        yield from _changes(old.get(key), new.get(key), "" if key == "params" else key)
    if old.get("revision") != new.get("revision"):
        yield "the step itself changed"
    folder = new.get("folder") or ""
    for name in sorted({*old.get("files", {}), *new.get("files", {})}):
        before, after = old.get("files", {}).get(name), new.get("files", {}).get(name)
        if before != after:
            yield f"{folder}/{name} {'added' if before is None else 'removed' if after is None else 'changed'}"
    before_keys, after_keys = set(_keys(old)), set(_keys(new))
    for key in sorted(after_keys - before_keys):
        yield f"'{steps.get(key, '?')}' changed"
    if not after_keys - before_keys and before_keys - after_keys:
        yield "fewer inputs"


def _keys(spec: Any) -> Iterator[str]:
    """Every step key that a spec mentions, its own apart."""
    for name in ("inputs", "models", "decodings"):
        waiting = [spec.get(name)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if isinstance(value.get("key"), str):
                    yield value["key"]
                waiting += list(value.values())
            elif isinstance(value, list):
                waiting += value


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if key not in ("key", "models"):
                yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        shown = [json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value for value in (old, new)]
        yield f"{path} {_short(shown[0])} → {_short(shown[1])}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
