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
    _warn_of_plain(node, alternatives, flow, problems)
    for found in keys:
        by_value = found.schema.get("x-types-for", {})
        _check_types(node, by_value.get(str(found.value), {}), f".{found.path}: '{found.value}'", flow, problems)
    _check_types(node, node.fragment.get("x-types", {}), "", flow, problems)


def check_needs(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """The columns that one key needs, as the keys before it have made them."""
    if found.value is False:
        return
    needed = found.schema.get("x-needs", ()) if found.given else ()
    needed = [*needed, *found.schema.get("x-needs-for", {}).get(str(found.value), ())]
    missing = [name for name in needed if not flow.has(name)]
    if missing:
        said = f"{node.where}.{found.path}: needs {_columns(missing)}, which {sources(node)} does not provide"
        problems.add(found.mark, f"{said} ({_has(flow)}). {_remedy(node, missing)}")


def check_other(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """The columns that are read of rows other than those of `from:`."""
    if found.schema.get("x-reads"):
        _check_any(node, found.path, found.schema["x-reads"], flow, problems, bool(found.schema.get("x-mapped")))


def _check_any(
    node: Node, path: str, alternatives: list[list[str]], flow: Flow, problems: Problems, mapped: bool = True
) -> None:
    missing = [[name for name in names if not flow.has(name)] for names in alternatives]
    if not all(missing):
        return
    lacks = min(missing, key=len)
    rest = [names for names in alternatives if names is not alternatives[missing.index(lacks)]]
    others = "".join(f", or {' and '.join(names)}" for names in rest)
    do = "do" if " and " in sources(node, path) else "does"
    said = f"{node.where} needs {_columns(lacks)}{others}, which {sources(node, path)} {do} not provide"
    mark = node.mark(path.split(".", maxsplit=1)[0])
    remedy = _remedy(node, lacks) if mapped else "Make it in an earlier step."
    problems.add(mark, f"{said} ({_has(flow)}). {remedy}")


def _warn_of_plain(node: Node, alternatives: list[list[str]], flow: Flow, problems: Problems) -> None:
    """Texts that are read as they stand for lack of anything better may lack the step that was to shape them."""
    for column, key in node.fragment.get("x-plain", {}).items():
        usable = [names for names in alternatives if all(flow.has(name) for name in names)]
        meant = key in node.body or column in (node.body.get("columns") or ())
        if usable == [[column]] and not meant:
            others = " or ".join(f"'{' and '.join(names)}'" for names in alternatives if names != [column])
            said = f"{node.where}: learns column '{column}' of {sources(node)} as it stands, for want of {others}"
            advice = f"Put a step such as conversations or examples before it; if it is meant, say {key}: all."
            problems.warn(node.mark("from"), f"{said}. {advice}")


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


def check_fits(node: Node, found: Found, problems: Problems) -> None:
    """Keys that only go with some values of another key, or have other choices there."""
    for beside, by_value in found.schema.get("x-fits", {}).items() if found.given else ():
        other = node.body.get(beside, node.fragment["properties"][beside].get("default"))
        choices, where = by_value.get(str(other)), f"{node.where}.{found.path}"
        if choices is None:
            known = " or ".join(by_value)
            problems.add(
                found.mark, f"{where}: does not go with {beside}: {other}. Set {beside}: {known}, or remove it."
            )
        elif isinstance(choices, list) and found.value not in choices:
            hint = suggest(str(found.value), choices, "There are")
            problems.add(found.mark, f"{where}: '{found.value}' does not go with {beside}: {other}.{hint}")


def check_beside(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    """What a key says of the columns that another key names: that it is one of them, is given by them, or lies in each."""
    held, where = found.schema, f"{node.where}.{found.path}"
    beside = held.get("x-among") or held.get("x-keyed-by") or held.get("x-within")
    names = node.body.get(beside) if beside else None
    if not found.given or not isinstance(names, Seq):
        return
    by_name = found.value if isinstance(found.value, Map) else None
    if "x-among" in held:
        _check_among([(str(found.value), found.mark)], where, names, problems)
    elif by_name is not None:
        _check_among([(name, by_name.keys_at[name]) for name in by_name], where, names, problems)
        missing = [str(name) for name in names if name not in by_name] if held.get("x-for-all") else []
        if missing and len(by_name) < len(names):
            problems.add(found.mark, f"{where}: none for '{missing[0]}'. Give one for each of {' and '.join(names)}.")
    if "x-within" in held:
        for name in names:
            inner = by_name.get(name) if by_name is not None else found.value
            if isinstance(inner, str) and flow.has(str(name)) and not flow.has(f"{name}.{inner}"):
                hint = suggest(inner, [one for one in flow.inside(str(name)) if "." not in one], "It has")
                problems.add(found.mark, f"{where}: '{name}' has no '{inner}'.{hint}")
                if by_name is None:
                    return


def _check_among(given: list[tuple[str, Any]], where: str, names: Seq, problems: Problems) -> None:
    for name, mark in given:
        if name not in names:
            problems.add(mark, f"{where}: '{name}' is none of them.{suggest(name, list(map(str, names)))}")
