"""Writes schemas/arguments/<trainer>.json from the config class of the pinned version: `python -m tests.arguments`.

The checker reads these lists, so that `arguments:` is checked by name and type without importing the trainer.
"""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import Field, fields
from enum import Enum
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "schemas" / "arguments"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}
SECRET = re.compile(r"token$")
OUTDATED = re.compile(r"deprecated", re.IGNORECASE)


def typed(hint: Any) -> dict[str, Any] | None:
    """The JSON Schema of a type hint, None where JSON has nothing for it."""
    members = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        members = [hint]
    enums = [one for one in members if isinstance(one, type) and issubclass(one, Enum)]
    if enums:
        return {"type": "string", "enum": [str(item.value) for item in enums[0]]}
    names = [TYPES.get(typing.get_origin(one) or one) for one in members]
    found = [name for name in dict.fromkeys(names) if name]
    if "number" in found and "integer" in found:
        found.remove("integer")
    return {"type": found[0] if len(found) == 1 else found} if found else None


def field(one: Field[Any], hint: Any) -> dict[str, Any] | None:
    """One field of the config class; None where a recipe cannot or should not set it."""
    told = " ".join(str(one.metadata.get("help", "")).replace("%%", "%").split())
    made = typed(hint)
    if made is None or not one.init or SECRET.search(one.name) or OUTDATED.search(told):
        return None
    if "choices" in one.metadata and made["type"] == "string":
        made["enum"] = [str(getattr(choice, "value", choice)) for choice in one.metadata["choices"]]
    sentence = re.split(r"(?<=[.!?])\s", told)[0] or f"The field {one.name} of the trainer's configuration."
    return {"description": sentence, **made}


def generate(config: type) -> dict[str, Any]:
    """Every settable field of a config class, by name."""
    hints = typing.get_type_hints(config)
    made = {one.name: field(one, hints[one.name]) for one in fields(config)}
    return {name: value for name, value in sorted(made.items()) if value}


def configs() -> dict[str, type]:
    from transformers import TrainingArguments
    from trl import DPOConfig, SFTConfig

    return {"sft": SFTConfig, "dpo": DPOConfig, "classifier": TrainingArguments}


def text(config: type) -> str:
    return json.dumps(generate(config), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for name, config in configs().items():
        (FOLDER / f"{name}.json").write_text(text(config), encoding="utf-8")
