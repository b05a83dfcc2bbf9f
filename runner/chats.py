"""`chat:`: who can be talked to. Each entry is proved as a step is, its prompt against what the model was trained with.

Beside what runner/resolve.py lists, the schema may say of a key of an entry: x-variables (names that it gives to the
prompt), x-adds-keys (so do its own keys), x-wraps (it names a variable that holds a row of the reference beside it),
x-lends (of x-ref: rows; what the step adds to its rows is given to the prompt) and x-kind (of which kind that step is).
Of a whole entry, x-either says for editors what runner/shape.py says in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import companions, schema
from runner.fields import walk
from runner.flow import Flow, incoming
from runner.matrix import Instance
from runner.problems import Problems
from runner.references import DecodingUse, ModelUse, Names, Node
from runner.resolve import check_models, resolve
from runner.strict_yaml import Map
from runner.templates import TOLD, Text, check, of_prompt


@dataclass
class Chat:
    """One entry of `chat:`; its references are in `node`. `typed` is the prompt variable that the user fills in."""

    name: str
    body: Map
    node: Node
    model: ModelUse
    decoding: DecodingUse
    prompt: str | None
    given: dict[str, Any]
    typed: str | None = None

    def check(self, known: Names, flows: dict[str, Flow], problems: Problems) -> None:
        """The prompt's variables against what is given; the prompt against the one that the model was trained with."""
        trained = self.model.node
        flow = flows.get(trained.name, Flow()) if trained else Flow()
        held = {name: _told(known.section("prompts").get(name)) for name in flow.prompts}
        mark = self.node.mark("prompt")
        if self.prompt and held and _told(known.section("prompts").get(self.prompt)) not in held.values():
            learned = " and ".join(f"'{name}'" for name in held)
            said = f"'{trained.instance.written if trained else ''}' was trained with the prompt {learned}"
            problems.add(mark, f"{self.node.where}.prompt: {said}, not '{self.prompt}'. Use the same in both.")
        prompt = self.prompt or flow.prompt
        companions.check(self.node, prompt, known, flows, problems)
        if prompt:
            self._check_variables(prompt, known, self._provided(flows), problems)

    def _provided(self, flows: dict[str, Flow]) -> Flow:
        """What the entry itself gives to the prompt, beside `with:`."""
        made = Flow()
        for found in walk(self.body, self.node.fragment):
            for name in found.schema.get("x-variables", ()):
                made.put(name, "any")
            if found.schema.get("x-adds-keys") and isinstance(found.value, Map):
                for name in found.value:
                    made.put(name, "text")
            if "x-wraps" in found.schema:
                beside = f"{found.path.rpartition('.')[0]}.{found.schema['x-wraps']}".strip(".")
                made.put(str(found.value), "object", inside=incoming(self.node, beside, flows, Problems()).columns)
            if found.schema.get("x-lends"):
                for rows in self.node.rows.get(found.path, ()):
                    flow, read = flows[rows.node.name], incoming(rows.node, "from", flows, Problems())
                    for name in [name for name in flow.top() if name not in read.columns]:
                        made.take(name, flow, name)
        return made

    def _check_variables(self, prompt: str, known: Names, provided: Flow, problems: Problems) -> None:
        scope = provided.copy()
        scope.anything = True
        for name, value in self.given.items():
            scope.put(name, "any", [value])
        used: set[str] = set()
        mark = self.node.mark("prompt")
        texts = of_prompt(known.section("prompts").get(prompt), f"prompts.{prompt}", self.node.where)
        for text in (text for text in texts if text.role in TOLD):
            used |= check(text, scope, known, problems)
        for path, name in self.decoding.prompts.items():
            used |= self._check_decoding(path, name, known, scope, problems)
        asked = companions.check_question(self.node, known, scope, problems)
        left = sorted(used - set(self.given) - set(provided.columns))
        if len(left) > 1:
            shown = f"{len(left)} variables are left open ({', '.join(left)}), and the user types one"
            problems.add(mark, f"{self.node.where}.prompt: {shown}. Give the others under with:.")
        grouped = companions.grouped(self.node)
        for name in self.given:
            if name not in used | asked | grouped | self.node.instance.used:
                message = f"{self.node.where}.with: nothing here has a variable '{name}'. Remove it."
                problems.add(self.body["with"].keys_at[name], message)
        companions.check_used(self.node, provided, used, problems)
        self.typed = left[0] if len(left) == 1 else None

    def _check_decoding(self, path: str, name: str, known: Names, scope: Flow, problems: Problems) -> set[str]:
        """The prompts of its decoding may use what is given, and not what the user types."""
        by = f"{self.node.where}.decoding.{path}"
        texts: list[Text] = of_prompt(known.section("prompts").get(name), f"prompts.{name}", by)
        closed = scope.copy()
        closed.anything = False
        return {used for text in texts if text.role in TOLD for used in check(text, closed, known, problems)}


def _told(prompt: Any) -> Any:
    """A prompt without what only training uses."""
    if isinstance(prompt, list):
        return [_told(turn) for turn in prompt]
    return {role: text for role, text in prompt.items() if role in TOLD} if isinstance(prompt, dict) else prompt


def check_chats(known: Names, problems: Problems) -> tuple[dict[str, Chat], list[Node]]:
    """The entries of `chat:` with their references filled in, and a node for each: all that one without a model is."""
    made: dict[str, Chat] = {}
    nodes: list[Node] = []
    held = known.section("chat")
    entry = schema.document()["properties"]["chat"]["additionalProperties"]
    for name, body in held.items():
        before = problems.count
        given = dict(body.get("with") or {})
        at = held.keys_at[name]
        node = Node(Instance(name, name, given, body, at, at), "chat", "", entry)
        resolve(node, known, problems)
        check_models(node, known, problems)
        nodes.append(node)
        _check_pair(node, held, problems)
        model = next(iter(node.models.get("model", ())), None)
        if model and body.get("checkpoint") and (model.node is None or model.node.verb == "merge"):
            advice = f"'{model.name}' is {'merged' if model.node else 'not trained here'}, so it has none. Remove it."
            problems.add(node.mark("checkpoint"), f"{node.where}.checkpoint: {advice}")
        if problems.count == before and model and "decoding" in node.decodings:
            prompt = node.prompts.get("prompt")
            made[name] = Chat(name, body, node, model, node.decodings["decoding"], prompt, given)
    return made, nodes


def _check_pair(node: Node, entries: Map, problems: Problems) -> None:
    """The two that talk are no such pairs themselves."""
    names = node.body.get("between") or ()
    for name, mark in zip(names, names.items_at, strict=True) if names else ():
        other = entries.get(str(name))
        if isinstance(other, Map) and "between" in other:
            problems.add(mark, f"{node.where}.between: '{name}' is itself a pair. Name an entry with a model.")
