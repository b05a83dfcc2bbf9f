"""The one JSON Schema that editors read, made from the fragments. Its verdict is that of runner/shape.py."""

from __future__ import annotations

import copy
from typing import Any

from runner.schema import VERBS, Schema, document, entry, fragment, kinds, mode, modes

_HOLE: Schema = {"type": "string", "pattern": r"\$\{"}
_NAME = "^[A-Za-z][A-Za-z0-9_-]*$"


def build() -> Schema:
    """The schema of a whole recipe file, for `# yaml-language-server: $schema=…`."""
    made = _bare(document())
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    sections = made["properties"]
    for name, section in document()["properties"].items():
        if section.get("x-names"):
            sections[name]["propertyNames"] = {"pattern": _NAME}
    for name in kinds_with_schemas():
        made.setdefault("$defs", {})[name.replace("/", ".")] = _holed(_bare(fragment(*name.split("/"))))
    made["$defs"] |= {f"decoding.{name}": _holed(_bare(mode(name))) for name in modes()}
    made["$defs"] |= {name: _bare(entry(name)) for name in ("load", "endpoint", "prompt")}
    sections["models"]["additionalProperties"] = {
        **sections["models"]["additionalProperties"],
        "if": {"type": "object"},
        "then": {"if": {"required": ["endpoint"]}, "then": _ref("endpoint"), "else": _ref("load")},
    }
    sections["chat"]["additionalProperties"] |= document()["properties"]["chat"]["additionalProperties"]["x-either"]
    sections["prompts"]["additionalProperties"]["anyOf"] = [
        _ref("prompt"),
        {"type": "array", "minItems": 1, "items": _ref("prompt")},
    ]
    sections["decoding"]["additionalProperties"] |= _chosen(
        "mode", {name: _ref(f"decoding.{name}") for name in modes()}
    )
    sections["steps"]["additionalProperties"] |= _step()
    return made


def kinds_with_schemas() -> list[str]:
    """All kinds as 'train/sft'."""
    return [f"{verb}/{kind}" for verb in VERBS for kind in kinds(verb)]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _step() -> Schema:
    chosen = [
        {"if": {"required": [verb]}, "then": _chosen(verb, {kind: _ref(f"{verb}.{kind}") for kind in kinds(verb)})}
        for verb in VERBS
    ]
    alone = {"oneOf": [{"required": [verb]} for verb in VERBS], "allOf": chosen}
    return {
        "if": {"required": ["like"]},
        "then": {"properties": {"like": {"type": "string", "description": "Take another step's keys, then these."}}},
        "else": alone,
    }


def _chosen(key: str, schemas: dict[str, Schema]) -> Schema:
    """The schema that the value of one key picks."""
    picked = [
        {"if": {"required": [key], "properties": {key: {"const": name}}}, "then": held}
        for name, held in schemas.items()
    ]
    return {"required": [key], "properties": {key: {"enum": list(schemas)}}, **({"allOf": picked} if picked else {})}


def _bare(schema: Any) -> Any:
    """A copy without our own x- keys."""
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if not key.startswith("x-")}
    return [_bare(item) for item in schema] if isinstance(schema, list) else copy.copy(schema)


def _holed(schema: Schema) -> Schema:
    """Wherever a value is wanted, a text with ${…} may stand for it."""
    made = dict(schema)
    if "properties" in made:
        closed = (*VERBS, "mode", "matrix", "like")  # decide what there is, so no ${…} may stand there
        held = made["properties"].items()
        made["properties"] = {key: value if key in closed else _or_hole(value) for key, value in held}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _or_hole(made[key])
    if "anyOf" in made:
        made["anyOf"] = [_holed(one) for one in made["anyOf"]]
    return made


def _or_hole(schema: Schema) -> Schema:
    inner = _holed(schema)
    if inner.get("type") == "string" and not {"pattern", "enum", "minLength"} & set(inner):
        return inner
    kept: Schema = {key: inner.pop(key) for key in ("description", "default") if key in inner}
    alternatives = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    return kept | {"anyOf": [*alternatives, _HOLE]}
