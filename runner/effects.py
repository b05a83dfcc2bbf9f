"""What a key of a step does to the columns, as its schema says (runner/columns.py has the list)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from runner import outputs
from runner.fields import Found, words
from runner.flow import Flow, type_of
from runner.references import Node
from runner.strict_yaml import Map

_ONE_EXPRESSION = re.compile(r"\s*\{\{((?!\{\{|\}\}).)*\}\}\s*", re.DOTALL)


def start(node: Node, flow: Flow) -> Flow:
    """The columns that a step writes whatever its keys."""
    writes = node.fragment.get("x-writes", {})
    made = flow.copy() if writes.get("keeps") or node.fragment.get("x-header") else Flow(prompts=flow.prompts)
    columns = writes.get("columns", {})
    for key, held in node.fragment["properties"].items():
        columns = held.get("x-writes-when", {}).get(str(node.body.get(key)), columns)
    for name, kind in columns.items():
        made.put(name, kind)
    return made


def stand_for(keys: Iterable[Found], flow: Flow) -> None:
    """The names by which prompts see one or the other of several columns: they have what any of these has."""
    for found in keys:
        columns = [name for name, _ in words(found)] if "x-stands" in found.schema else []
        known = all(flow.inside(name) for name in columns)
        inside = {path: kind for name in columns for path, kind in flow.inside(name).items()} if known else {}
        for name in found.schema["x-stands"] if columns else ():
            flow.put(name, "object" if inside else "any", inside=inside)


def apply(found: Found, seen: Flow, made: Flow, wrapped: Flow | None) -> None:
    """Change the columns that later keys see, and those that are written, by what one key says."""
    before = seen.copy() if "x-renames" in found.schema or "x-carries" in found.schema else seen
    for flow in (seen, made):
        _apply(found, flow, before, wrapped)


def _apply(found: Found, flow: Flow, before: Flow, wrapped: Flow | None) -> None:
    held, names = found.schema, [name for name, _ in words(found)]
    if held.get("x-renames") and isinstance(found.value, Map):
        _rename(found.value, flow, before)
    if held.get("x-keeps"):
        flow.keep(names)
    for name in names:
        if held.get("x-column") == "writes":
            flow.put(name, held.get("x-column-type", "any"))
        if held.get("x-column") == "takes" or held.get("x-drops"):
            flow.remove(name)
        if held.get("x-carries"):
            flow.take(name, before, name)
        if held.get("x-becomes"):
            flow.put(name, held["x-becomes"])
    _add(found, flow, names, wrapped)


def _add(found: Found, flow: Flow, names: list[str], wrapped: Flow | None) -> None:
    held = found.schema
    if found.given and found.value is not False:
        for name in held.get("x-adds", ()):
            flow.put(name, held["x-adds"][name] if isinstance(held["x-adds"], dict) else "any")
    if held.get("x-adds-key"):
        kind, values = _constant(found.value)
        flow.put(found.key, held.get("x-column-type", kind), values)
    if held.get("x-output") and not isinstance(found.value, bool | None):
        for column in outputs.columns(found.value):
            flow.put(*column)
    if held.get("x-words") and isinstance(found.value, int):
        flow.words[found.path.split(".")[-2]] = found.value
    if wrapped is not None:
        for name in names:
            flow.put(name, "object", inside=wrapped.columns)


def _rename(names: Map, flow: Flow, before: Flow) -> None:
    """All at once, so that two columns may change their names with each other."""
    for old in map(str, names.values()):
        flow.remove(old)
    for new, old in names.items():
        flow.take(new, before, str(old))


def _constant(value: Any) -> tuple[str, list[Any]]:
    """The type of what a template makes, and its value where that is plain to see."""
    if not isinstance(value, str):
        return type_of(value), [] if isinstance(value, Map) else [value]
    if "{{" in value or "{%" in value:
        return ("any" if _ONE_EXPRESSION.fullmatch(value) else "text"), []
    return "text", [value]
