"""What a step needs of the rows that it reads, and what it says where they do not have it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from runner.fields import Found, words
from runner.flow import Flow
from runner.problems import Problems, suggest
from runner.references import Node
from runner.strict_yaml import Map, Seq


def sources(node: Node, path: str = "from") -> str:
    """Where a step's rows come from, in words."""
    names = dict.fromkeys(rows.node.instance.written for rows in node.rows.get(path, []))
    if node.fragment.get("x-header"):
        return f"'{node.folder}'"
    return " and ".join(f"'{name}'" for name in names) or "nowhere (there is no from:)"


def check_mapping(node: Node, flow: Flow, problems: Problems) -> None:
    """`columns: {standard: ours}`: the standard name is there too, wherever ours is."""
    mapping = node.body.get("columns")
    if not isinstance(mapping, Map) or not node.fragment["properties"]["columns"].get("x-columns"):
        return
    before = flow.copy()
    for standard, ours in mapping.items():
        for name, mark in words(Found("", {}, ours, mapping.values_at[standard], standard)):
            if not before.has(name):
                where = f"{node.where}.columns.{standard}"
                hint = suggest(name, before.top(), "It has")
                problems.add(mark, f"{where}: no column '{name}' comes from {sources(node)}.{hint}")
        if isinstance(ours, Seq):
            flow.put(standard, "list")
        else:
            flow.take(standard, before, str(ours))


def check_reads(node: Node, keys: Iterable[Found], flow: Flow, problems: Problems) -> None:
    """The columns that a kind reads, and those that its keys add to or take from that."""
    keys = [found for found in keys if found.value is not False]
    spared = {name for found in keys if found.given for name in found.schema.get("x-spares", ())}
    alternatives = [[name for name in names if name not in spared] for names in node.fragment.get("x-reads") or [[]]]
    _check_any(node, "from", alternatives, flow, problems)
    for found in keys:
        needed = found.schema.get("x-needs", ()) if found.given else ()
        missing = [name for name in needed if not flow.has(name)]
        if missing:
            said = f"{node.where}.{found.path}: needs {_columns(missing)}, which {sources(node)} does not provide"
            problems.add(found.mark, f"{said} ({_has(flow)}). {_remedy(node, missing)}")
        by_value = found.schema.get("x-types-for", {})
        _check_types(node, by_value.get(str(found.value), {}), f".{found.path}: '{found.value}'", flow, problems)
    _check_types(node, node.fragment.get("x-types", {}), "", flow, problems)


def check_other(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """The columns that are read of rows other than those of `from:`."""
    if found.schema.get("x-reads"):
        _check_any(node, found.path, found.schema["x-reads"], flow, problems)


def _check_any(node: Node, path: str, alternatives: list[list[str]], flow: Flow, problems: Problems) -> None:
    missing = [[name for name in names if not flow.has(name)] for names in alternatives]
    if not all(missing):
        return
    lacks = min(missing, key=len)
    rest = [names for names in alternatives if names is not alternatives[missing.index(lacks)]]
    others = "".join(f", or {' and '.join(names)}" for names in rest)
    do = "do" if " and " in sources(node, path) else "does"
    said = f"{node.where} needs {_columns(lacks)}{others}, which {sources(node, path)} {do} not provide"
    mark = node.mark(path.split(".", maxsplit=1)[0])
    problems.add(mark, f"{said} ({_has(flow)}). {_remedy(node, lacks)}")


def _columns(names: list[str]) -> str:
    return f"column{'s' * (len(names) > 1)} " + " and ".join(f"'{name}'" for name in names)


def _has(flow: Flow) -> str:
    return f"it has: {', '.join(sorted(flow.top())) or 'nothing'}"


def _remedy(node: Node, lacks: list[str]) -> str:
    properties = node.fragment["properties"]
    spares = [key for key, held in properties.items() if set(lacks) <= set(held.get("x-spares", []))]
    if spares:
        return f"Give {spares[0]}: here, or where the rows are read."
    if not properties.get("columns", {}).get("x-columns"):
        return "Make it in an earlier step."
    return f"Make it in an earlier step, or map it: columns: {{{lacks[0]}: …}}."


def _check_types(node: Node, wanted: dict[str, Any], where: str, flow: Flow, problems: Problems) -> None:
    for name, kinds in wanted.items():
        if flow.has(name) and not flow.reads_as(name, kinds):
            said = f"{node.where}{where} needs {' or '.join(map(_many, kinds))} in column '{name}'"
            mark = node.mark(where.split(":", maxsplit=1)[0].strip(".") or "from")
            problems.add(
                mark, f"{said}, and it holds {_many(flow.columns[name])}. Map another: columns: {{{name}: …}}."
            )


def _many(kind: str) -> str:
    return kind if kind == "text" else f"{kind}s"


def check_columns(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """Every column that a key names is there."""
    for name, mark in words(found):
        if not flow.has(name):
            hint = suggest(name, flow.top(), "It has")
            problems.add(mark, f"{node.where}.{found.path}: no column '{name}' comes from {sources(node)}.{hint}")


def check_renamed(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """Every old name of a mapping {new: old} is there."""
    for new, old in found.value.items():
        check_columns(node, Found(f"{found.path}.{new}", {}, old, found.value.values_at[new], new), flow, problems)


def check_differs(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """Rows can be paired by columns that differ only where these have two values or more."""
    names = [name for name, _ in words(found)]
    counts = [len(flow.values.get(name, (1, 2))) for name in names]
    if names and math.prod(counts) < 2:
        only = ", ".join(f"{name} {flow.values[name][0]}" for name in names)
        advice = "Rows are paired where it differs: keep two values or more in its matrix list."
        problems.add(found.mark, f"{node.where}.{found.path}: there is only {only}. {advice}")


def check_one_of(node: Node, problems: Problems) -> None:
    """Exactly one of some keys is given."""
    keys = node.fragment.get("x-one-of", [])
    held = [key for key in keys if node.body.get(key) not in (None, False)]
    if keys and len(held) != 1:
        has = f"has {' and '.join(held)}. Keep one." if held else "has none. Give one."
        message = f"{node.where}: takes exactly one of {', '.join(keys)}, and {has}"
        problems.add(node.body.keys_at[held[1]] if held else node.instance.mark, message)
