"""What a recipe's names stand for: steps, parts, models, matrix siblings; runner/resolve.py fills it in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner import schema
from runner.fields import walk
from runner.matrix import Instance, Lists, Values
from runner.problems import ALL, Lost, Mark
from runner.strict_yaml import Map

ROW_VERBS = ("preprocess", "generate", "evaluate")
MODEL_VERBS = ("train", "merge")


@dataclass
class Rows:
    """A reference to a step's rows, to one part of them or to all; `columns` are the matrix keys that fan in.

    named: the reference as written, which may mean all siblings of a matrix
    """

    node: Node
    part: str | None
    columns: Values
    mark: Mark
    named: str


@dataclass
class ModelUse:
    """A reference to an entry under models:, or to a step that makes a model."""

    name: str
    entry: Map | None
    node: Node | None
    mark: Mark

    @property
    def is_endpoint(self) -> bool:
        return self.entry is not None and "endpoint" in self.entry

    @property
    def is_adapter(self) -> bool:
        """Whether it is a training step's adapter over its base."""
        found = walk(self.node.body, self.node.fragment) if self.node else ()
        return any(one.schema.get("x-adapter") for one in found)

    @property
    def may_be_any(self) -> bool:
        """Whether it is weights of which a recipe alone tells nothing, an adapter too."""
        return self.entry is not None and "load" in self.entry and not self.bundled()

    @property
    def bits(self) -> int | None:
        """4 or 8 where the weights are loaded so; what is trained whole or merged is not."""
        if self.node is None:
            return self.entry.get("bits") if self.entry is not None else None
        below = self.node.models.get("model", ())
        return below[0].bits if below and self.is_adapter else None

    def entry_below(self) -> Map | None:
        """The entry under models: that it comes from, through all training and merging."""
        use: ModelUse | None = self
        while use is not None and use.node is not None:
            use = next(iter(use.node.models.get("model", ())), None)
        return use.entry if use else None

    def bundled(self) -> dict[str, Any]:
        """What is known of the model that it comes from, {} unless that comes along."""
        entry = self.entry_below()
        known: dict[str, Any] = schema.bundled().get(str(entry.get("load")), {}) if entry else {}
        return known

    @property
    def sort(self) -> str | None:
        """causal, encoder or classifier, None where that cannot be known yet."""
        if self.node is not None and "x-model" in self.node.fragment:
            return str(self.node.fragment["x-model"])
        below = self.node.models.get("model", ()) if self.node else ()
        return below[0].sort if below else self.bundled().get("sort")

    @property
    def predicts(self) -> str | None:
        """What a classifier that is trained here predicts, None for any other model."""
        if self.node is None or self.node.fragment.get("x-model") != "classifier":
            return None
        default = self.node.fragment["properties"]["predict"]["default"]
        return str(self.node.body.get("predict", default))


@dataclass
class DecodingUse:
    """A decoding as one step uses it, its ${…} filled in."""

    name: str
    body: Map
    models: dict[str, list[ModelUse]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)


@dataclass
class Node:
    """A step of the expanded recipe, or an entry of chat:, with all that it refers to, by the path of the key."""

    instance: Instance
    verb: str
    kind: str
    fragment: schema.Schema
    rows: dict[str, list[Rows]] = field(default_factory=dict)
    models: dict[str, list[ModelUse]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    decodings: dict[str, DecodingUse] = field(default_factory=dict)
    folder: str | None = None
    partial: set[str] = field(default_factory=set)  # the keys of which something could not be found

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def body(self) -> Map:
        return self.instance.body

    @property
    def where(self) -> str:
        return f"{'chat' if self.verb == 'chat' else 'steps'}.{self.instance.written}"

    def mark(self, key: str) -> Mark:
        """Where the value of one of its keys stands, else where its name does."""
        return self.body.values_at.get(key, self.instance.mark)

    def answering(self, path: str) -> list[ModelUse]:
        """The models that answer as the decoding at this path says: decoding.seeker is how model.seeker does."""
        theirs = path.replace("decoding", "model", 1)
        own = [at for at in self.models if at == theirs or at.startswith(f"{theirs}.")]
        return [
            use for at in own or [at for at in self.models if at.split(".")[0] == "model"] for use in self.models[at]
        ]

    def model_uses(self) -> Iterator[tuple[str, ModelUse]]:
        """Its models by path, those of its decodings too."""
        for path, uses in self.models.items():
            yield from ((path, use) for use in uses)
        for path, decoding in self.decodings.items():
            yield from ((f"{path}.{inner}", use) for inner, uses in decoding.models.items() for use in uses)

    def needs(self) -> Iterator[Node]:
        """The steps whose results this one uses."""
        for rows in self.rows.values():
            yield from (use.node for use in rows)
        yield from (use.node for _, use in self.model_uses() if use.node)


class Names:
    """Everything that has a name in one expanded recipe."""

    def __init__(self, doc: Map, nodes: list[Node], declared: Lists, lost: Lost) -> None:
        self.doc = doc
        self.lost = lost
        self.declared = declared
        self.nodes = nodes
        self.exact = {node.name: node for node in nodes}
        self.written: dict[str, list[Node]] = {}
        for node in nodes:
            self.written.setdefault(node.instance.written, []).append(node)
        self.used: set[tuple[str, str]] = set()

    def is_lost(self, name: str, *sections: str) -> bool:
        """Whether a name is that of something wrong, of which enough is said."""
        return any({(section, name), (section, ALL)} & self.lost for section in sections)

    def section(self, name: str) -> Map:
        held = self.doc.get(name)
        return held if isinstance(held, Map) else Map(self.doc.mark)

    def steps(self, name: str, asker: Instance) -> list[Node]:
        """The steps that a name means to another: siblings agree with it on every shared matrix key."""
        siblings = self.written.get(name, [])
        if not siblings:
            return [self.exact[name]] if name in self.exact else []
        asker.used |= {key for node in siblings for key in node.instance.matrix if key in asker.matrix}
        return [
            node
            for node in siblings
            if all(asker.matrix.get(key, held) == held for key, held in node.instance.matrix.items())
        ]

    def written_by(self, verbs: tuple[str, ...]) -> set[str]:
        return {node.instance.written for node in self.nodes if node.verb in verbs}
