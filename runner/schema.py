"""The allow-list: schemas/ says all that a recipe may say. Loads the fragments and fills in defaults."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from runner.strict_yaml import Map

_HERE = Path(__file__).resolve().parent
FOLDER = _HERE / "schemas" if (_HERE / "schemas").is_dir() else _HERE.parent / "schemas"
VERBS = ("preprocess", "generate", "train", "merge", "evaluate", "export")
Schema = dict[str, Any]


@cache
def kinds(verb: str) -> tuple[str, ...]:
    """The kinds of a verb, by the files in schemas/steps/<verb>/."""
    return tuple(sorted(path.stem for path in (FOLDER / "steps" / verb).glob("*.json")))


@cache
def modes() -> tuple[str, ...]:
    """The decoding modes, by the files in schemas/decoding/."""
    return tuple(sorted(path.stem for path in (FOLDER / "decoding").glob("*.json")))


@cache
def _load(path: str) -> Schema:
    schema: Schema = json.loads((FOLDER / path).read_text(encoding="utf-8"))
    return schema


@cache
def document() -> Schema:
    """The schema of the whole file, entries of steps and decoding left open."""
    return _load("recipe.json")


@cache
def bundled() -> dict[str, Any]:
    """The models that come along: name → {context, parameters, …}."""
    return _load("models.json")


@cache
def fragment(verb: str, kind: str) -> Schema:
    """The schema of one kind of step, the keys common to all steps included."""
    made = dict(_load(f"steps/{verb}/{kind}.json"))
    own = {key: _with_arguments(key, value) for key, value in made["properties"].items()}
    made["properties"] = {verb: _kind_key(verb), **own, **_common(made)}
    made["required"] = [verb, *made.get("required", [])]
    return made


def _kind_key(verb: str) -> Schema:
    return {"description": f"What kind of {verb} this is.", "type": "string", "enum": list(kinds(verb))}


_VALUES: Schema = {
    "description": "The values, each at most once.",
    "type": "array",
    "minItems": 1,
    "items": {"description": "A word or a number.", "type": ["string", "number", "boolean"]},
}


def _common(made: Schema) -> Schema:
    common: Schema = {
        "like": {"description": "Take another step's keys, then these.", "type": "string"},
        "matrix": {
            "description": "The lists that this step runs over: one step for each combination.",
            "anyOf": [
                {"type": "array", "minItems": 1, "items": {"type": "string", "description": "A name under matrix:."}},
                {"type": "object", "minProperties": 1, "additionalProperties": _VALUES},
            ],
        },
    }
    if "from" in made["properties"] and "columns" not in made["properties"]:
        common["columns"] = {
            "description": "The step's standard columns by the names that the rows have: {standard: ours}.",
            "type": "object",
            "x-columns": True,
            "additionalProperties": {
                "description": "The column, or several for a list.",
                "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
            },
        }
    return common


def _with_arguments(key: str, value: Schema) -> Schema:
    """`x-arguments: sft` becomes the typed fields of that trainer's config class, less those that our own keys set."""
    if "x-arguments" not in value:
        return value
    fields = _load(f"arguments/{value['x-arguments']}.json")
    taken = value.get("x-sets", {})
    return {
        **value,
        "additionalProperties": False,
        "properties": {name: field for name, field in fields.items() if name not in taken},
    }


@cache
def mode(name: str) -> Schema:
    """The schema of one decoding mode."""
    made = dict(_load(f"decoding/{name}.json"))
    own = {"mode": {"description": "How the next token is chosen.", "type": "string", "enum": list(modes())}}
    made["properties"] = {**own, **made["properties"]}
    made["required"] = ["mode", *made.get("required", [])]
    return made


@cache
def entry(name: str) -> Schema:
    """The schema of an entry: load, endpoint (models) or prompt."""
    return _load(f"entries/{name}.json")


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of document:, inventory:, mode:<mode>, entry:<entry>, step:<verb>/<kind>, or part: (some keys of a
    step)."""
    where, _, rest = name.partition(":")
    verb, _, kind = rest.partition("/")
    if where in ("step", "part"):
        made = fragment(verb, kind)
        return Draft202012Validator(made if where == "step" else made | {"required": []})
    if where in ("mode", "entry"):
        return Draft202012Validator(mode(rest) if where == "mode" else entry(rest))
    return Draft202012Validator(document() if where == "document" else _load(f"{where}.json"))


def verb_of(step: Map) -> str | None:
    """The one verb of a step, None where it has none or several."""
    found = [verb for verb in VERBS if verb in step]
    return found[0] if len(found) == 1 else None


def defaults(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    """A copy of a mapping with the schema's defaults filled in, nested mappings too."""
    filled = dict(value)
    for key, field in schema.get("properties", {}).items():
        if key not in filled and "default" in field:
            filled[key] = field["default"]
        elif isinstance(filled.get(key), dict) and "properties" in field:
            filled[key] = defaults(field, filled[key])
    return filled


def without_defaults(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    """A copy of a mapping without what is default or does not change the output (`x-key: false`)."""
    kept = {}
    for key, item in value.items():
        field = schema.get("properties", {}).get(key, {})
        if field.get("x-key", True) is False or ("default" in field and item == field["default"]):
            continue
        kept[key] = without_defaults(field, item) if isinstance(item, dict) and "properties" in field else item
    return kept
