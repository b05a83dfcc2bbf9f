"""What a recipe's names stand for: steps, parts, models, prompts, decodings, folders, matrix siblings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner import schema
from runner.matrix import Instance, Values, fill
from runner.problems import Mark, Problems, suggest
from runner.shape import check_decoding
from runner.step import PARTS
from runner.strict_yaml import Map, Seq

ROW_VERBS = ("preprocess", "generate", "evaluate")
MODEL_VERBS = ("train", "merge")


class Found(NamedTuple):
    """One key of a step with what its schema says of it."""

    path: str
    schema: dict[str, Any]
    value: Any
    mark: Mark


def walk(value: Map, fragment: dict[str, Any], path: str = "") -> Iterator[Found]:
    """Every key of a mapping that the schema describes, nested mappings too."""
    for key, item in value.items():
        field_schema = fragment.get("properties", {}).get(key) or fragment.get("additionalProperties")
        if not isinstance(field_schema, dict):
            continue
        here = f"{path}.{key}" if path else key
        yield Found(here, field_schema, item, value.values_at[key])
        if isinstance(item, Map):
            yield from walk(item, field_schema, here)


def names(found: Found) -> list[tuple[str, Mark]]:
    """The one name, or the names of a list, that a key holds."""
    if isinstance(found.value, Seq):
        return [(str(item), mark) for item, mark in zip(found.value, found.value.items_at, strict=True)]
    return [(str(found.value), found.mark)] if found.value is not None else []


@dataclass
class Rows:
    """A reference to a step's rows, to one part of them or to all; `columns` are the matrix keys that fan in."""

    node: Node
    part: str | None
    columns: Values
    mark: Mark


@dataclass
class ModelUse:
    """A reference to an entry under models:, or to a step that makes a model."""

    name: str
    entry: Map | None
    node: Node | None
    mark: Mark


@dataclass
class DecodingUse:
    """A decoding as one step uses it, its ${…} filled in."""

    name: str
    body: Map
    models: dict[str, list[ModelUse]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)


@dataclass
class Node:
    """One step of the expanded recipe with everything that it refers to, keyed by the path of the key."""

    instance: Instance
    verb: str
    kind: str
    rows: dict[str, list[Rows]] = field(default_factory=dict)
    models: dict[str, list[ModelUse]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    decodings: dict[str, DecodingUse] = field(default_factory=dict)
    folder: str | None = None

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def body(self) -> Map:
        return self.instance.body

    @property
    def fragment(self) -> dict[str, Any]:
        return schema.fragment(self.verb, self.kind)

    @property
    def where(self) -> str:
        return f"steps.{self.instance.written}"

    def needs(self) -> Iterator[Node]:
        """The steps whose results this one uses."""
        for rows in self.rows.values():
            yield from (use.node for use in rows)
        for uses in [*self.models.values(), *(uses for decoding in self.decodings.values() for uses in decoding.models.values())]:
            yield from (use.node for use in uses if use.node)


class Names:
    """Everything that has a name in one expanded recipe."""

    def __init__(self, doc: Map, nodes: list[Node], declared: dict[str, list[Any]]) -> None:
        self.doc = doc
        self.declared = declared
        self.nodes = nodes
        self.exact = {node.name: node for node in nodes}
        self.written: dict[str, list[Node]] = {}
        for node in nodes:
            self.written.setdefault(node.instance.written, []).append(node)
        self.used: set[tuple[str, str]] = set()

    def section(self, name: str) -> Map:
        held = self.doc.get(name)
        return held if isinstance(held, Map) else Map(self.doc.mark)

    def steps(self, name: str, values: Values) -> list[Node]:
        """The steps that a name means to a step with these matrix values: siblings agree on every shared key."""
        if name in self.exact:
            return [self.exact[name]]
        siblings = self.written.get(name, [])
        return [node for node in siblings if all(values.get(key, held) == held for key, held in node.instance.matrix.items())]


def resolve(node: Node, known: Names, problems: Problems) -> None:
    """Fill in what a step's keys refer to."""
    values = node.instance.matrix
    for found in walk(node.body, node.fragment):
        ref = found.schema.get("x-ref")
        where = f"{node.where}.{found.path}"
        if ref == "rows":
            node.rows[found.path] = [rows for name, mark in names(found) for rows in _rows(name, mark, where, values, known, problems)]
        elif ref in ("model", "models"):
            node.models[found.path] = model_uses(found, where, values, known, problems)
            if not found.schema.get("x-endpoint"):
                _need_weights(node, found, node.models[found.path], problems)
        elif ref == "prompt":
            node.prompts[found.path] = prompt_name(found, where, known, problems)
        elif ref == "decoding":
            decoding = decoding_use(found, where, values, known, problems)
            if decoding:
                node.decodings[found.path] = decoding
        elif ref == "folder":
            node.folder = str(found.value)


def _need_weights(node: Node, found: Found, uses: list[ModelUse], problems: Problems) -> None:
    for use in uses:
        if use.entry is not None and "endpoint" in use.entry:
            message = f"{node.where}.{found.path}: '{use.name}' is an endpoint; {node.verb}: {node.kind} needs weights. Name a model with load:, or a train step."
            problems.add(found.mark, message)


def _rows(name: str, mark: Mark, where: str, values: Values, known: Names, problems: Problems) -> list[Rows]:
    step, _, part = name.partition(".")
    nodes = known.steps(step, values)
    if not nodes:
        what = f"'{step}' is a model, not rows." if step in known.section("models") else f"no step '{step}'."
        problems.add(mark, f"{where}: {what}{_suggest_step(step, known, ROW_VERBS)}")
        return []
    if part and part not in PARTS:
        problems.add(mark, f"{where}: '{part}' is no part.{suggest(part, PARTS)}")
        return []
    if nodes[0].verb not in ROW_VERBS or (nodes[0].verb == "evaluate" and "x-writes" not in nodes[0].fragment):
        made = {"train": "a model", "merge": "a model", "evaluate": "figures", "export": "files"}[nodes[0].verb]
        problems.add(mark, f"{where}: '{step}' makes {made}, not rows.{_suggest_step('', known, ROW_VERBS)}")
        return []
    return [Rows(node, part or None, {key: held for key, held in node.instance.matrix.items() if key not in values}, mark) for node in nodes]


def _suggest_step(name: str, known: Names, verbs: tuple[str, ...]) -> str:
    return suggest(name, {node.instance.written for node in known.nodes if node.verb in verbs}, "Steps with rows" if verbs == ROW_VERBS else "Known")


def model_uses(found: Found, where: str, values: Values, known: Names, problems: Problems) -> list[ModelUse]:
    made = [use for name, mark in names(found) for use in model(name, mark, where, values, known, problems)]
    if found.schema["x-ref"] == "model" and len(made) > 1:
        shown = ", ".join(use.name for use in made[:4])
        problems.add(found.mark, f"{where}: '{found.value}' means {len(made)} models here ({shown}). Name one, or run this step over the same matrix.")
    return made


def model(name: str, mark: Mark, where: str, values: Values, known: Names, problems: Problems) -> list[ModelUse]:
    """The models that a name means: an entry, or training and merging steps."""
    entries = known.section("models")
    if name in entries:
        known.used.add(("models", name))
        return [ModelUse(name, entries[name], None, mark)]
    nodes = known.steps(name, values)
    if not nodes:
        makers = {node.instance.written for node in known.nodes if node.verb in MODEL_VERBS}
        problems.add(mark, f"{where}: no model '{name}'.{suggest(name, {*entries, *makers}, 'Models')}")
    elif nodes[0].verb not in MODEL_VERBS:
        problems.add(mark, f"{where}: '{name}' makes rows, not a model. Name an entry under models: or a train step.")
        return []
    return [ModelUse(node.name, None, node, mark) for node in nodes]


def prompt_name(found: Found, where: str, known: Names, problems: Problems) -> str:
    name = str(found.value)
    if name not in known.section("prompts"):
        problems.add(found.mark, f"{where}: no prompt '{name}'.{suggest(name, known.section('prompts'), 'Prompts')}")
    known.used.add(("prompts", name))
    return name


def decoding_use(found: Found, where: str, values: Values, known: Names, problems: Problems) -> DecodingUse | None:
    name = str(found.value)
    entries = known.section("decoding")
    if name not in entries:
        problems.add(found.mark, f"{where}: no decoding '{name}'.{suggest(name, entries, 'Decodings')}")
        return None
    known.used.add(("decoding", name))
    body = fill(entries[name], values, known.declared, f"decoding.{name}", problems, None, entries.values_at[name])
    if not check_decoding(body, ("decoding", name), known.doc, problems, final=True):
        return None
    made = DecodingUse(name, body)
    for inner in walk(body, schema.mode(body["mode"])):
        place = f"decoding.{name}.{inner.path}"
        if inner.schema.get("x-ref") in ("model", "models"):
            made.models[inner.path] = model_uses(inner, place, values, known, problems)
        elif inner.schema.get("x-ref") == "prompt":
            made.prompts[inner.path] = prompt_name(inner, place, known, problems)
    return made


def in_order(nodes: list[Node], problems: Problems) -> list[Node]:
    """The steps so that each comes after those it needs, else in the order of the file. A cycle is a problem."""
    done: dict[int, Node] = {}
    for first in nodes:
        stack: list[tuple[Node, Iterator[Node]]] = [(first, first.needs())] if id(first) not in done else []
        open_nodes = {id(first)} if stack else set()
        while stack:
            node, needs = stack[-1]
            following = next((need for need in needs if id(need) not in done), None)
            if following is None:
                done[id(node)] = node
                open_nodes.discard(id(node))
                stack.pop()
            elif id(following) in open_nodes:
                loop = [entry.instance.written for entry, _ in stack]
                loop = loop[loop.index(following.instance.written) :] + [following.instance.written]
                problems.add(following.instance.mark, f"{following.where}: needs itself: {' → '.join(loop)}. Break the circle.")
                return []
            else:
                open_nodes.add(id(following))
                stack.append((following, following.needs()))
    return list(done.values())
