"""Columns followed through the graph: what each step's rows hold, which parts they have, where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateSyntaxError

from runner import prompts as jinja
from runner.matrix import Values
from runner.problems import Mark, Problems, suggest
from runner.references import Found, Names, Node, Rows, walk
from runner.step import PARTS
from runner.strict_yaml import Map, Seq


@dataclass
class Flow:
    """What is known of rows before they exist.

    columns: name → type (text, number, list, object, any); `anything` where more may come that nobody can know
    parts:   of a whole split, else ()
    tests:   for each part ('' for plain rows) the test parts that its rows come from, with the step that passed them on
    split:   the split that the rows went through
    values:  the values that a column is known to have, for columns that are matrix keys
    prompt:  the prompt with which the rows became messages
    """

    columns: dict[str, str] = field(default_factory=dict)
    anything: bool = False
    parts: tuple[str, ...] = ()
    tests: dict[str, dict[str, str]] = field(default_factory=dict)
    split: str | None = None
    values: dict[str, list[Any]] = field(default_factory=dict)
    prompt: str | None = None


def follow(nodes: list[Node], known: Names, problems: Problems) -> dict[str, Flow]:
    """The flow out of every step, in order; what cannot work becomes a problem."""
    flows: dict[str, Flow] = {}
    for node in nodes:
        flows[node.name] = _through(node, known, flows, problems)
    return flows


def _through(node: Node, known: Names, flows: dict[str, Flow], problems: Problems) -> Flow:
    flow = incoming(node, "from", flows, problems)
    before = len(problems.errors)
    _add_mapped(node, flow, problems)
    if "from" in node.rows or not node.fragment.get("x-reads"):
        _check_reads(node, flow, problems)
    _check_templates(node, known, flow, problems)
    if node.verb == "train":
        _check_leak(node, flow, problems)
    return _out(node, flow, known, problems, fine=len(problems.errors) == before)


def incoming(node: Node, path: str, flows: dict[str, Flow], problems: Problems) -> Flow:
    """The rows that a step reads by one of its keys, joined."""
    parts = [_one(node, path, rows, flows, problems) for rows in node.rows.get(path, []) if rows.node.name in flows]
    if not parts:
        return Flow(anything=path in node.rows and not node.rows[path])
    made = Flow(
        columns={name: kind for name, kind in parts[0].columns.items() if all(name in part.columns or part.anything for part in parts)},
        anything=all(part.anything for part in parts),
        parts=parts[0].parts,
        split=next((part.split for part in parts if part.split), None),
        prompt=next((part.prompt for part in parts if part.prompt), None),
    )
    for part in parts:
        for name, values in part.values.items():
            made.values.setdefault(name, []).extend(value for value in values if value not in made.values.get(name, []))
        for name, tests in part.tests.items():
            made.tests.setdefault(name, {}).update(tests)
    if len({bool(part.parts) for part in parts}) > 1:
        mark = node.rows[path][0].mark
        problems.add(mark, f"{node.where}.{path}: joins a whole split with plain rows. Name a part ({parts[0].split or 'split'}.train), or split later.")
    return made


def _one(node: Node, path: str, rows: Rows, flows: dict[str, Flow], problems: Problems) -> Flow:
    flow = flows[rows.node.name]
    made = Flow(dict(flow.columns), flow.anything, flow.parts, {k: dict(v) for k, v in flow.tests.items()}, flow.split, dict(flow.values), flow.prompt)
    if rows.part and rows.part not in flow.parts:
        written = rows.node.instance.written
        has = f"it has: {', '.join(flow.parts)}" if flow.parts else "it is not split"
        problems.add(rows.mark, f"{node.where}.{path}: '{written}' has no part '{rows.part}' ({has}). Name another, or let the split make it.")
    if rows.part:
        made.parts = ()
        made.tests = {"": dict(flow.tests.get(rows.part, {}))}
    for key, value in rows.columns.items():
        made.columns[key] = "number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"
        made.values[key] = [*made.values.get(key, []), value]
    return made


def _has(flow: Flow, name: str) -> bool:
    return flow.anything or name.split(".")[0] in flow.columns


def _add_mapped(node: Node, flow: Flow, problems: Problems) -> None:
    """`columns: {standard: ours}`: the standard name is there wherever ours is."""
    mapping = node.body.get("columns")
    if not isinstance(mapping, Map) or not node.fragment["properties"]["columns"].get("x-columns"):
        return
    for standard, ours in mapping.items():
        for name in ours if isinstance(ours, Seq) else [ours]:
            if not _has(flow, str(name)):
                where = f"{node.where}.columns.{standard}"
                problems.add(mapping.values_at[standard], f"{where}: no column '{name}' comes from {_sources(node)}.{suggest(str(name), flow.columns, 'It has')}")
        flow.columns[standard] = flow.columns.get(str(ours), "any") if not isinstance(ours, Seq) else "list"


def _sources(node: Node) -> str:
    names = dict.fromkeys(rows.node.instance.written for rows in node.rows.get("from", []))
    return " and ".join(f"'{name}'" for name in names) or "nowhere (there is no from:)"


def _check_reads(node: Node, flow: Flow, problems: Problems) -> None:
    spared = {name for found in walk(node.body, node.fragment) for name in found.schema.get("x-spares", [])}
    mark = node.body.values_at.get("from", node.instance.mark)
    alternatives = node.fragment.get("x-reads") or [[]]
    missing = [[name for name in names if name not in spared and not _has(flow, name)] for names in alternatives]
    if all(missing):
        lacks = min(missing, key=len)
        others = "".join(f", or {' and '.join(names)}" for names in alternatives if set(names) != set(alternatives[missing.index(lacks)]))
        plural = "columns " if len(lacks) > 1 else "column "
        shown = plural + " and ".join(f"'{name}'" for name in lacks)
        has = ", ".join(sorted(flow.columns)) or "nothing"
        problems.add(mark, f"{node.where} needs {shown}{others}, which {_sources(node)} does not provide (it has: {has}). {_remedy(node, lacks)}")
    for found in walk(node.body, node.fragment):
        if found.schema.get("x-column") == "reads":
            _check_column(node, found, flow, problems)


def _remedy(node: Node, lacks: list[str]) -> str:
    spares = [key for key, schema in node.fragment["properties"].items() if set(lacks) <= set(schema.get("x-spares", []))]
    if spares:
        return f"Give {spares[0]}: here, or where the rows are read."
    return f"Make it in an earlier step, or map it: columns: {{{lacks[0]}: …}}."


def _check_column(node: Node, found: Found, flow: Flow, problems: Problems) -> None:
    held = zip(found.value, found.value.items_at, strict=True) if isinstance(found.value, Seq) else [(found.value, found.mark)]
    for name, mark in held:
        if isinstance(name, str) and not _has(flow, name):
            problems.add(mark, f"{node.where}.{found.path}: no column '{name}' comes from {_sources(node)}.{suggest(name, flow.columns, 'It has')}")


def _check_templates(node: Node, known: Names, flow: Flow, problems: Problems) -> None:
    """Every variable of a step's prompts and expressions is a column, a matrix key or one that the kind provides."""
    open_columns = node.fragment.get("x-prompt-columns", True)
    for path, name in node.prompts.items():
        prompt = known.section("prompts").get(name)
        own = set(node.fragment["properties"].get(path.split(".")[0], {}).get("x-variables", []))
        columns = {**({} if not open_columns else flow.columns), **dict.fromkeys(own, "any")}
        values = {**(flow.values if open_columns else {}), **{key: [value] for key, value in node.instance.matrix.items()}}
        anything = flow.anything and open_columns
        for text, mark, where in templates(prompt, f"prompts.{name}", known.section("prompts").values_at.get(name)):
            check_template(text, mark, where, node.where, columns, values, anything, known, problems)
    for found in walk(node.body, node.fragment):
        if "x-jinja" in found.schema and isinstance(found.value, str):
            values = {**flow.values, **{key: [value] for key, value in node.instance.matrix.items()}}
            expression = found.schema["x-jinja"] == "expression"
            where = f"{node.where}.{found.path}"
            check_template(found.value, found.mark, where, "", flow.columns, values, flow.anything, known, problems, expression)


def templates(prompt: Any, where: str, mark: Mark | None) -> list[tuple[str, Mark, str]]:
    """The texts of a prompt with their places."""
    if isinstance(prompt, Seq):
        return [item for place, turn in enumerate(prompt) for item in templates(turn, f"{where}.{place}", mark)]
    if not isinstance(prompt, Map):
        return []
    return [(text, prompt.values_at[role], f"{where}.{role}") for role, text in prompt.items() if isinstance(text, str)]


def check_template(
    text: str,
    mark: Mark,
    where: str,
    by: str,
    columns: dict[str, str],
    values: dict[str, list[Any]],
    anything: bool,
    known: Names,
    problems: Problems,
    expression: bool = False,
) -> set[str]:
    """Check one template's variables; returns those that it uses. `values` are columns and matrix keys with known values."""
    try:
        found, _ = jinja.uses(text, expression)
    except TemplateSyntaxError as error:
        problems.add(mark, f"{where}: not Jinja: {error.message}.")
        return set()
    for path in sorted(found):
        name = path[0]
        if name == "texts":
            _check_texts(path, mark, where, values, known, problems)
        elif name not in columns and name not in values and not anything:
            used = f", used by {by}," if by else ""
            have = {*columns, *values}
            hint = suggest(name, have, "There are") or " There are none here: write the words out, or give the step a matrix."
            problems.add(mark, f"{where}{used} has no variable '{name}'.{hint}")
    return {path[0] for path in found} - {"texts"}


def _check_texts(path: jinja.Use, mark: Mark, where: str, values: Values, known: Names, problems: Problems) -> None:
    """Every cell that texts.a[b][c] can mean is there, as far as b and c are known."""
    places: list[tuple[Any, str]] = [(known.section("texts"), "texts")]
    if len(path) > 1:
        known.used.add(("texts", path[1]))
    for key in path[1:]:
        choices = values.get(key[1:]) if key.startswith("?") else [key]
        if choices is None:
            return
        following = []
        for held, shown in places:
            for choice in choices:
                if not isinstance(held, Map) or str(choice) not in held:
                    hint = suggest(str(choice), held, "It has") if isinstance(held, Map) else ""
                    problems.add(mark, f"{where}: {shown} has no '{choice}'.{hint}")
                    continue
                following.append((held[str(choice)], f"{shown}.{choice}"))
        places = following


def _check_leak(node: Node, flow: Flow, problems: Problems) -> None:
    """Rows of a test part may never be learned from, whatever they went through."""
    used = ["train", "validation"] if flow.parts else [""]
    for part in used:
        for test, through in flow.tests.get(part, {}).items():
            mark = node.body.values_at.get("from", node.instance.mark)
            way = f", through '{through}'" if through and through != test.split(".")[0] else ""
            problems.add(mark, f"{node.where}.from: would learn from rows of '{test}'{way}. Train on '{test.split('.')[0]}' or its train part.")


def _out(node: Node, flow: Flow, known: Names, problems: Problems, fine: bool) -> Flow:
    writes = node.fragment.get("x-writes", {})
    columns = dict(flow.columns) if writes.get("keeps") else {}
    columns |= writes.get("columns", {})
    for found in walk(node.body, node.fragment):
        columns |= dict.fromkeys(found.schema.get("x-adds", []), "any")
        if found.schema.get("x-column") == "writes" and isinstance(found.value, str):
            columns[found.value] = found.schema.get("x-column-type", "any")
    made = Flow(columns, (flow.anything and bool(writes.get("keeps"))) or not fine, split=flow.split, prompt=node.prompts.get("prompt", flow.prompt))
    made.values = {key: values for key, values in flow.values.items() if writes.get("keeps")}
    if node.fragment.get("x-parts") == "makes":
        return _split(node, flow, made, problems)
    made.parts = flow.parts if node.fragment.get("x-parts") == "keeps" else ()
    passed = {part: {test: node.instance.written for test in tests} for part, tests in flow.tests.items()}
    joined = {test: node.instance.written for tests in passed.values() for test in tests}
    made.tests = passed if made.parts or not flow.parts else {"": joined}
    return made


def _split(node: Node, flow: Flow, made: Flow, problems: Problems) -> Flow:
    written = node.instance.written
    if flow.split:
        mark = node.body.values_at.get("from", node.instance.mark)
        problems.add(mark, f"{node.where}.from: these rows come from the split '{flow.split}'; a second split lets test rows leak. Split once.")
    made.split = written
    made.parts = tuple(part for part in PARTS if part == "train" or node.body.get(part))
    made.tests = {part: ({f"{written}.test": ""} if part == "test" else {}) for part in made.parts}
    return made
