"""`chat:`: who can be talked to. Each entry is proved as a step is, its prompt against what the model was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import schema
from runner.columns import Flow, check_template, templates
from runner.problems import Problems
from runner.references import DecodingUse, ModelUse, Names, decoding_use, model_uses, prompt_name, walk
from runner.strict_yaml import Map


@dataclass
class Chat:
    """One entry of `chat:` with what it refers to. `typed` is the prompt variable that the user fills in, if there is one."""

    name: str
    body: Map
    model: ModelUse
    decoding: DecodingUse
    prompt: str | None
    given: dict[str, Any]
    typed: str | None = None

    def check(self, known: Names, flows: dict[str, Flow], problems: Problems) -> None:
        """The prompt's variables against `with:`, and the prompt against the one that the model was trained with."""
        where = f"chat.{self.name}"
        if self.prompt and self.prompt in known.section("prompts"):
            self._check_variables(where, known, problems)
        node = self.model.node
        learned = flows[node.name].prompt if node and node.name in flows else None
        prompts = known.section("prompts")
        if self.prompt and learned and prompts.get(self.prompt) != prompts.get(learned):
            message = f"{where}.prompt: '{node.instance.written if node else ''}' was trained with the prompt '{learned}', not '{self.prompt}'. Use the same in both."
            problems.add(self.body.values_at["prompt"], message)

    def _check_variables(self, where: str, known: Names, problems: Problems) -> None:
        open_names: set[str] = set()
        for text, mark, place in templates(known.section("prompts")[self.prompt or ""], f"prompts.{self.prompt}", self.body.values_at["prompt"]):
            if place.endswith((".assistant", ".prefill")):
                continue  # what the model says, not what it is told
            values = {key: [value] for key, value in self.given.items()}
            open_names |= check_template(text, mark, place, where, {}, values, True, known, problems)
        left = sorted(open_names - set(self.given))
        if len(left) > 1:
            mark = self.body.values_at["prompt"]
            problems.add(mark, f"{where}.prompt: {len(left)} variables are left open ({', '.join(left)}), and the user types one. Give the others under with:.")
        for name in self.given:
            if name not in open_names:
                problems.add(self.body["with"].keys_at[name], f"{where}.with: the prompt '{self.prompt}' has no variable '{name}'. Remove it.")
        self.typed = left[0] if len(left) == 1 else None


def check_chats(doc: Map, known: Names, problems: Problems) -> dict[str, Chat]:
    """The entries of `chat:`, their references filled in."""
    made: dict[str, Chat] = {}
    held = doc.get("chat") or Map(doc.mark)
    entry_schema = schema.document()["properties"]["chat"]["additionalProperties"]
    for name, body in held.items():
        found = {item.path: item for item in walk(body, entry_schema)}
        before = len(problems.errors)
        models = model_uses(found["model"], f"chat.{name}.model", {}, known, problems)
        decoding = decoding_use(found["decoding"], f"chat.{name}", {}, known, problems)
        prompt = prompt_name(found["prompt"], f"chat.{name}.prompt", known, problems) if "prompt" in found else None
        for use in models:
            if use.entry is not None and "endpoint" in use.entry:
                problems.add(found["model"].mark, f"chat.{name}.model: '{use.name}' is an endpoint; chat needs weights. Name a model with load:, or a train step.")
        if "checkpoint" in found and models and models[0].node is None:
            problems.add(found["checkpoint"].mark, f"chat.{name}.checkpoint: '{models[0].name}' is not trained here, so it has none. Remove it.")
        if len(problems.errors) == before and decoding:
            made[name] = Chat(name, body, models[0], decoding, prompt, dict(body.get("with") or {}))
    return made
