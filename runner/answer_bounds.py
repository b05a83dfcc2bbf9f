"""A JSON Schema as a grammar whose texts are so short that an answer held to it comes to its end within max_new_tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
LIST = 4  # a list without a bound of its own may have so many items
SPARE = 2  # tokens to each text that its quotes may take
LETTERS = 2  # to a token, where a bound in letters is all that can be said: fewer than in common words
# Not blank at first. No escapes: where the share of a text is used up, it could end in the middle of one
_TEXT = r'/[^"\\\x00-\x20][^"\\\x00-\x1F]*/'
_OWN = ("pattern", "format", "minLength", "maxLength")  # of a text: the schema says how long or what


def grammar(schema: Schema, tokens: int, size: Callable[[str], int]) -> str:
    """The schema in llguidance's Lark. `size` tells how many tokens a text is.

    Every property of an object is written, in the schema's order; a text is given an equal share of the tokens.
    """
    texts = max(1, _texts(schema))
    each = max(2, (tokens - size(json.dumps(_smallest(schema), ensure_ascii=False)) - 4) // texts - SPARE)
    if "$ref" in json.dumps(schema):
        return f"start: %json {json.dumps(_bound(schema, each * LETTERS))}\n"
    made = _Rules(each)
    start = made.of(schema)
    return "\n".join([f"start: {start}", *made.rules, ""])


class _Rules:
    """The rules that are written on the way."""

    def __init__(self, each: int) -> None:
        self.each = each
        self.rules = [f"text[max_tokens={each}]: TEXT", f"TEXT: {_TEXT}"]

    def of(self, schema: Schema) -> str:
        """What stands in a rule for a value of this schema."""
        kind = schema.get("type")
        if "enum" in schema:
            return "(" + " | ".join(_literal(json.dumps(one, ensure_ascii=False)) for one in schema["enum"]) + ")"
        if kind == "object" and schema.get("properties"):
            return self._object(schema["properties"])
        if kind == "array" and isinstance(schema.get("items"), dict) and schema["items"].get("type"):
            return self._array(schema)
        if kind == "string" and not any(key in schema for key in _OWN):
            return f"{_literal(chr(34))} text {_literal(chr(34))}"
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}: %json {json.dumps(_bound(schema, self.each * LETTERS))}")
        return name

    def _object(self, properties: dict[str, Schema]) -> str:
        pieces = [_literal("{")]
        for place, (name, held) in enumerate(properties.items()):
            key = json.dumps(name, ensure_ascii=False)
            pieces += [_literal(f"{', ' if place else ''}{key}: "), self.of(held)]
        return " ".join([*pieces, _literal("}")])

    def _array(self, schema: Schema) -> str:
        item = self.of(schema["items"])
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}: {item}")
        least, most = max(1, schema.get("minItems", 1)), schema.get("maxItems", LIST)
        following = [f"{_literal(', ')} {name}"] * (least - 1)
        rest = ""
        for _ in range(max(0, most - least)):
            rest = f"({_literal(', ')} {name} {rest})?"
        return " ".join([_literal("["), name, *following, rest, _literal("]")])


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _texts(schema: Schema) -> int:
    """How many texts without a bound there may be."""
    if schema.get("type") == "string":
        return int("enum" not in schema)
    if schema.get("type") == "array":
        return int(schema.get("maxItems", LIST)) * _texts(schema.get("items", {"type": "string"}))
    return sum(_texts(held) for held in schema.get("properties", {}).values())


def _smallest(schema: Schema) -> Any:
    """The shortest value of a schema, or nearly."""
    if "enum" in schema:
        return max(schema["enum"], key=lambda choice: len(str(choice)))
    if schema.get("type") == "object":
        return {name: _smallest(held) for name, held in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_smallest(schema.get("items", {"type": "string"}))] * int(schema.get("maxItems", LIST))
    return "" if schema.get("type") == "string" else schema.get("maximum", 12345.67)


def _bound(schema: Schema, letters: int) -> Schema:
    """The schema with bounds where it has none."""
    kind = schema.get("type")
    if kind == "string" and "enum" not in schema:
        most = min(letters, schema.get("maxLength", letters))
        return {"minLength": min(1, most), **schema, "maxLength": most}
    if kind == "array":
        items = _bound(schema.get("items", {"type": "string"}), letters)
        return {"minItems": 1, "maxItems": LIST, **schema, "items": items}
    if kind == "integer" and not {"minimum", "maximum"} <= set(schema):
        return {"minimum": -99999, "maximum": 99999, **schema}
    if kind == "number":  # or a small model writes digits without end
        return {"minimum": -99999, "maximum": 99999, "multipleOf": 0.01, **schema}
    if kind == "object" and "properties" in schema:
        held = {name: _bound(inner, letters) for name, inner in schema["properties"].items()}
        return {**schema, "properties": held, "required": list(held), "additionalProperties": False}
    return schema
