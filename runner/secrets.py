"""Secrets are names of environment variables: a value that looks like a key may not stand in a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.problems import Mark, Problems
from runner.strict_yaml import Map, Seq

_PREFIXED = r"sk-[A-Za-z0-9_-]{12,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
_OTHERS = (
    r"xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}"
)
_KEY = re.compile(rf"(?<![A-Za-z0-9])({_PREFIXED}|{_OTHERS})")
_LOGIN = re.compile(r"https?://[^/\s:@]+:[^/\s@]+@")  # https://user:password@host
_NAMES = ("api_key", "apikey", "api_token", "hub_token", "auth_token", "password", "secret")


def check(value: Any, problems: Problems) -> None:
    """Every value that looks like a key is a problem; what it is is never said."""
    for mark, where in _found(value, ""):
        parts = where.split(".")
        model = parts[parts.index("models") + 1] if "models" in parts[:-1] else ""
        variable = f"{model.upper().replace('-', '_')}_API_KEY" if model else "NAME_OF_VARIABLE"
        advice = f"Put it in the environment and name the variable: api_key_env: {variable}."
        problems.add(mark, f"{where}: this looks like a key. {advice}")


def _found(value: Any, where: str) -> Iterator[tuple[Mark, str]]:
    pairs: list[tuple[str, Any, Mark]] = []
    if isinstance(value, Map):
        pairs = [(key, item, value.values_at[key]) for key, item in value.items()]
    elif isinstance(value, Seq):
        pairs = [(str(place), item, value.items_at[place]) for place, item in enumerate(value)]
    for key, item, mark in pairs:
        if _KEY.search(key):
            yield value.keys_at[key], f"{where}.…".strip(".")
            continue
        here = f"{where}.{key}" if where else key
        named = key.lower() in _NAMES and bool(item) and not where.startswith("texts")
        if isinstance(item, str) and (named or _KEY.search(item) or _LOGIN.search(item)):
            yield mark, here
        else:
            yield from _found(item, here)
