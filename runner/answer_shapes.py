"""The shape of an answer (`output:`): as a JSON Schema, told to the model, and found again in what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match

from runner import outputs
from runner.errors import StepError
from runner.files import loads

Schema = dict[str, Any]
STARTS = 200  # so many opening brackets of a reply are looked at
SHOWN = 100  # letters of a message that quotes the reply
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:/\s*(\d+))?\s*")


class Misshapen(ValueError):
    """A reply that is not what was asked for; the text says why, in words that the model can be told."""


@dataclass(frozen=True)
class Shape:
    """What `output:` asks for: short types, or a JSON Schema as it stands.

    any_case: keys and choices of a reply are matched without case and without the signs between their words
    """

    output: dict[str, Any]
    any_case: bool = False

    @cached_property
    def schema(self) -> Schema:
        """Raises StepError where a schema of the recipe is none."""
        made = self.output if outputs.is_schema(self.output) else _object(self.output)
        try:
            Draft202012Validator.check_schema(made)
        except SchemaError as error:
            raise StepError(f"output: not a JSON Schema: {error.message}.") from error
        return made

    @property
    def told(self) -> str:
        """What a model is told of it."""
        if outputs.is_schema(self.output):
            held = json.dumps(self.output, ensure_ascii=False)
            return f"Answer only with JSON that fits this schema: {held}"
        return f"Answer only with JSON of this form: {_told(self.output)}"

    def read(self, reply: str) -> dict[str, Any]:
        """The value in a reply, however much is said around it. Raises Misshapen."""
        problem: Misshapen | None = None
        for found in _candidates(reply):
            value = _fitted(found, self.schema, self.any_case)
            error = best_match(Draft202012Validator(self.schema).iter_errors(value)) or _blank(value, self.schema)
            if error is None:
                held: dict[str, Any] = value
                return held
            problem = problem or Misshapen(error if isinstance(error, str) else _said(error))
        raise problem or Misshapen("it holds no whole JSON object")


def _object(output: dict[str, Any]) -> Schema:
    properties = {name: _type(held) for name, held in output.items()}
    required = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **required}


def _type(held: Any) -> Schema:
    if isinstance(held, dict):
        return held if outputs.is_schema(held) else _object(held)
    if isinstance(held, list):
        texts = all(isinstance(choice, str) for choice in held)
        return {**({"type": "string"} if texts else {}), "enum": list(held)}
    found = outputs.RANGE.fullmatch(held)
    if found:
        return {"type": "integer", "minimum": int(found[1]), "maximum": int(found[2])}
    if held == "list":
        return {"type": "array", "items": {"type": "string"}}
    return {"type": "string" if held == "text" else "number"}


def _told(held: Any) -> str:
    if outputs.is_schema(held):
        return json.dumps(held, ensure_ascii=False)
    if isinstance(held, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_told(inner)}" for name, inner in held.items()) + "}"
    if isinstance(held, list):
        return " or ".join(json.dumps(choice, ensure_ascii=False) for choice in held)
    found = outputs.RANGE.fullmatch(held)
    if found:
        return f"<a whole number from {found[1]} to {found[2]}>"
    return {"text": '"…"', "number": "<a number>", "list": '["…", "…"]'}[str(held)]


# Finding it


def _candidates(reply: str) -> Iterator[Any]:
    """The JSON objects of a reply: all of it, what is fenced, and what stands between other words, the longest first."""
    text = _THOUGHTS.sub("", reply).strip()
    for piece in (text, *(found[1] for found in reversed(list(_FENCED.finditer(text))))):
        try:
            value = loads(piece)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    places: list[tuple[int, int, Any]] = []
    end = 0
    for start in [one.start() for one in re.finditer(r"\{", text)][:STARTS]:
        if start < end:
            continue
        try:
            value, after = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        places.append((start - after, start, value))
        end = after
    yield from (value for _, _, value in sorted(places, key=lambda one: one[:2]))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fitted(value: Any, schema: Schema, any_case: bool) -> Any:
    """A value with what is meant but written otherwise put right: a number as text, keys too many, case where asked."""
    kind = schema.get("type")
    if isinstance(value, dict) and "properties" in schema:
        return _fitted_object(value, schema, any_case)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_fitted(item, schema["items"], any_case) for item in value]
    if isinstance(value, str) and kind in ("integer", "number"):
        found = _NUMBER.fullmatch(value)
        value = float(found[1]) if found and found[2] in (None, str(schema.get("maximum"))) else value
    if isinstance(value, float) and value.is_integer() and kind in ("integer", "number"):
        return int(value)
    if any_case and isinstance(value, str) and "enum" in schema:
        return {_plain(str(choice)): choice for choice in schema["enum"]}.get(_plain(value), value)
    return value


def _fitted_object(value: dict[str, Any], schema: Schema, any_case: bool) -> dict[str, Any]:
    """In the schema's order. Keys that are not asked for go where all that are asked for are there."""
    wanted = schema["properties"]
    known = {_plain(name): name for name in wanted} if any_case else {}
    named = {name if name in wanted else known.get(_plain(name), name): item for name, item in value.items()}
    whole = {name: _fitted(named[name], wanted[name], any_case) for name in wanted if name in named}
    if schema.get("additionalProperties") is False and len(whole) == len(wanted):
        return whole
    return whole | {name: item for name, item in named.items() if name not in wanted}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _blank(value: Any, schema: Schema, path: str = "") -> str | None:
    """That the first text which is blank is so; None where none is."""
    for name, held in schema.get("properties", {}).items():
        inner, here = value.get(name), f"{path}{name}"
        if isinstance(inner, str) and not inner.strip() and "enum" not in held:
            return f"{here} is blank"
        if isinstance(inner, dict) and (found := _blank(inner, held, f"{here}.")):
            return found
    return None


def _said(error: ValidationError) -> str:
    """'age: it must be a whole number from 12 to 40', without more of the reply than a few words."""
    where = ".".join(map(str, error.absolute_path))
    held = error.schema if isinstance(error.schema, dict) else {}
    if "minimum" in held and "maximum" in held:
        message = f"it must be a whole number from {held['minimum']} to {held['maximum']}"
    elif error.validator == "enum":
        message = "it must be one of " + ", ".join(json.dumps(one, ensure_ascii=False) for one in held["enum"])
    elif error.validator == "additionalProperties":
        message = f"there are no other keys than {', '.join(held['properties'])}"
    else:
        message = error.message if len(error.message) < SHOWN else f"it breaks '{error.validator}'"
    return f"{where}: {message}" if where else message
