"""The keys of a mapping beside what its schema says of them: how the language's x- annotations are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from runner.problems import Mark
from runner.schema import Schema
from runner.strict_yaml import Map, Seq

# A mapping whose keys are free, such as model: {seeker: …, supporter: …}, says these of each of its values.
PASSED_ON = (
    "x-ref",
    "x-endpoint",
    "x-takes",
    "x-sorts",
    "x-merges",
    "x-jinja",
    "x-after",
    "x-roles",
    "x-column",
    "x-reads",
    "x-passes",
)


class Found(NamedTuple):
    """One key with its value and what the schema says of it; the path is dotted."""

    path: str
    schema: Schema
    value: Any
    mark: Mark
    key: str
    given: bool = True  # false for a default


def walk(value: Map, schema: Schema, path: str = "") -> Iterator[Found]:
    """Every key of a mapping that the schema describes, nested ones too: a mapping's key before those in it."""
    for key, item in value.items():
        held = schema.get("properties", {}).get(key)
        if held is None and isinstance(schema.get("additionalProperties"), dict):
            held = _passed_on(schema)
        if held is not None:
            here = f"{path}.{key}" if path else key
            yield from _below(Found(here, fitting(held, item), item, value.values_at[key], key))


def _passed_on(schema: Schema) -> Schema:
    """What a schema says of the value of a free key."""
    made: Schema = {name: schema[name] for name in PASSED_ON if name in schema}
    made |= schema["additionalProperties"]
    if schema.get("x-adds-keys"):
        made["x-adds-key"] = True
    if schema.get("x-renames"):
        made.pop("x-column", None)  # the old names are looked at together
    return made


def _below(found: Found) -> Iterator[Found]:
    yield found
    if isinstance(found.value, Map):
        yield from walk(found.value, found.schema, found.path)
    elif isinstance(found.value, Seq):
        for place, item in enumerate(found.value):
            if isinstance(item, Map):
                yield from walk(item, fitting(found.schema.get("items", {}), item), f"{found.path}.{place}")


def given(value: Map, schema: Schema, mark: Mark) -> list[Found]:
    """As `walk`, in the order of the schema, and with the defaults of top keys left out; they are at `mark`."""
    properties = schema.get("properties", {})
    made = list(walk(value, schema))
    for key, held in properties.items():
        if key not in value and "default" in held:
            made.append(Found(key, fitting(held, held["default"]), held["default"], mark, key, False))
    order = {key: place for place, key in enumerate(properties)}
    return sorted(made, key=lambda found: order.get(found.path.split(".")[0], len(order)))


def fitting(schema: Schema, value: Any) -> Schema:
    """A schema with the one of its alternatives (anyOf) whose type the value has; they differ in type."""
    fits = [one for one in schema.get("anyOf", ()) if _has_type(value, one.get("type", ()))]
    if not fits:
        return schema
    made: Schema = {key: held for key, held in schema.items() if key != "anyOf"}
    made |= fits[0]
    return made


def _has_type(value: Any, types: str | list[str]) -> bool:
    if isinstance(value, dict):
        name = "object"
    elif isinstance(value, list):
        name = "array"
    elif isinstance(value, bool):
        name = "boolean"
    elif isinstance(value, str):
        name = "string"
    else:
        name = "number"
    return name in types or (name == "number" and "integer" in types)


def words(found: Found) -> list[tuple[str, Mark]]:
    """The one word, or the words of a list, that a key holds, with their places; none for a mapping."""
    if isinstance(found.value, Seq):
        pairs = zip(found.value, found.value.items_at, strict=True)
        return [(str(item), mark) for item, mark in pairs if not isinstance(item, Map | Seq)]
    if isinstance(found.value, list):  # a default
        return [(str(item), found.mark) for item in found.value]
    return [] if found.value is None or isinstance(found.value, Map) else [(str(found.value), found.mark)]
