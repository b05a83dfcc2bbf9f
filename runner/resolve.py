"""What the keys of a step or a chat refer to, filled in and checked.

What a schema may say of a key (for a mapping with free keys, of each of its values):

x-ref        what the key names: rows (a step or a part, or several), model, models (several), prompt, decoding,
             folder (a dataset folder) or, in chat:, chat (another entry). The Node gets it by the key's path
x-endpoint   true where the model may be an endpoint, or the key that must be given for that; without it, weights are
             needed
x-takes      of a model: whole (no adapter) or adapter
x-sorts      of a model: the sorts that will do (causal, encoder, classifier), where the sort is known
x-predicts   of a model: what a classifier must predict (class, number, numbers), where that is known
x-merges     true where an adapter is merged into its base first, which weights in 4 or 8 bits do not allow
x-bits       a key of the step: weights in 4 or 8 bits will do only where it is given
x-adapter    true on a key of a training step that makes an adapter of what it trains, where it is given
x-tokens     true on a key of a training step: tokens that the model learns, in its tokenizer too

x-file       true: it names a file, which is there (runner/folders.py)

And of a whole kind or decoding mode:

x-model      the sort of model that a training step makes; without it, the sort of its base
x-weights    true on a decoding mode, or one of its keys, that cannot go through an endpoint
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner import schema, tokens
from runner.fields import Found, walk, words
from runner.matrix import Filler
from runner.problems import Mark, Problems, suggest
from runner.references import MODEL_VERBS, ROW_VERBS, DecodingUse, ModelUse, Names, Node, Rows
from runner.shape import check_decoding
from runner.step import PARTS
from runner.strict_yaml import Map


@dataclass
class _Asker:
    """Who refers, for what and from where: what every look-up below needs."""

    node: Node
    known: Names
    problems: Problems

    def resolve(self, found: Found, where: str) -> None:
        ref, node = found.schema["x-ref"], self.node
        if ref == "rows":
            named = [self.rows(name, mark, where) for name, mark in words(found)]
            node.rows[found.path] = [one for rows in named for one in rows]
            node.partial |= {found.path} if not all(named) else set()
        elif ref in ("model", "models"):
            node.models[found.path] = self.models(found, where)
        elif ref == "prompt":
            node.prompts[found.path] = self.prompt(found, where)
        elif ref == "decoding":
            decoding = self.decoding(found, where)
            if decoding:
                node.decodings[found.path] = decoding
        elif ref == "folder":
            node.folder = str(found.value)
        elif ref == "chat":
            self.chats(found, where)

    def rows(self, name: str, mark: Mark, where: str) -> list[Rows]:
        step, _, part = name.partition(".")
        nodes = self.known.steps(step, self.node.instance)
        makers = self.known.written_by(ROW_VERBS) | {name for section, name in self.known.lost if section == "steps"}
        if not nodes and self.known.is_lost(step, "steps", "models"):
            return []
        if not nodes and step in self.known.written:
            self.problems.add(mark, f"{where}: '{step}' runs over other values than this step: none of it is meant.")
        elif not nodes:
            said = f"'{step}' is a model, not rows." if step in self.known.section("models") else f"no step '{step}'."
            self.problems.add(mark, f"{where}: {said}{suggest(step, makers, 'Steps with rows')}")
        elif part and part not in PARTS:
            self.problems.add(mark, f"{where}: '{part}' is no part.{suggest(part, PARTS)}")
        elif nodes[0].verb not in ROW_VERBS or (nodes[0].verb == "evaluate" and "x-writes" not in nodes[0].fragment):
            made = {"evaluate": "figures", "export": "files"}.get(nodes[0].verb, "a model")
            self.problems.add(
                mark, f"{where}: '{step}' makes {made}, not rows.{suggest('', makers, 'Steps with rows')}"
            )
        else:
            mine = self.node.instance.matrix
            fans = [{key: held for key, held in node.instance.matrix.items() if key not in mine} for node in nodes]
            return [Rows(node, part or None, fan, mark, name) for node, fan in zip(nodes, fans, strict=True)]
        return []

    def models(self, found: Found, where: str) -> list[ModelUse]:
        made = [use for name, mark in words(found) for use in self.model(name, mark, where)]
        if found.schema["x-ref"] == "model" and len(made) > 1:
            shown = ", ".join(use.name for use in made[:4]) + (", …" if len(made) > 4 else "")
            advice = "Name one, or run over the same matrix."
            message = f"{where}: '{found.value}' means {len(made)} models here ({shown}). {advice}"
            self.problems.add(found.mark, message)
        return made

    def model(self, name: str, mark: Mark, where: str) -> list[ModelUse]:
        """The models that a name means: an entry, or training and merging steps."""
        entries = self.known.section("models")
        if name in entries:
            self.known.used.add(("models", name))
            return [ModelUse(name, entries[name], None, mark)]
        nodes = self.known.steps(name, self.node.instance)
        if not nodes and self.known.is_lost(name, "steps", "models"):
            return []
        if nodes and nodes[0].verb in MODEL_VERBS:
            return [ModelUse(node.name, None, node, mark) for node in nodes]
        if nodes:
            advice = "Name an entry under models: or a train step."
            self.problems.add(mark, f"{where}: '{name}' makes rows, not a model. {advice}")
        elif name in self.known.written:
            self.problems.add(mark, f"{where}: '{name}' runs over other values than this step: none of it is meant.")
        else:
            known = {*entries, *self.known.written_by(MODEL_VERBS)}
            self.problems.add(mark, f"{where}: no model '{name}'.{suggest(name, known, 'Models')}")
        return []

    def check_model(self, use: ModelUse, wants: schema.Schema, where: str) -> None:
        """Whether a model will do for the key that names it."""
        who = "chat" if self.node.verb == "chat" else f"{self.node.verb}: {self.node.kind}"
        said = f"{where}: '{use.name}' is"
        allowed = wants.get("x-endpoint")
        if use.is_endpoint and not (allowed in self.node.body if isinstance(allowed, str) else allowed):
            advice = "Name a model with load:, or a train step."
            without = f" without {allowed}:" if allowed else ""
            self.problems.add(use.mark, f"{said} an endpoint; {who}{without} needs weights. {advice}")
        if wants.get("x-takes") == "whole" and use.is_adapter:
            advice = f"Merge it first: {{merge: lora, model: {use.name}}}."
            self.problems.add(use.mark, f"{said} an adapter; {who} takes whole models. {advice}")
        if wants.get("x-takes") == "adapter" and not use.is_adapter and not use.may_be_any:
            advice = "Name a train step with lora:, or an entry whose folder holds an adapter."
            self.problems.add(use.mark, f"{said} no adapter, and {who} takes one. {advice}")
        if wants.get("x-bits", "") not in self.node.body and "x-bits" in wants and use.bits:
            advice = f"Add {wants['x-bits']}:, or drop bits:."
            self.problems.add(use.mark, f"{said} in {use.bits} bits; such weights are trained by an adapter. {advice}")
        if wants.get("x-merges") and use.is_adapter and use.bits:
            advice = f"Merge it in a step of its own, {{merge: lora, model: {use.name}}}, and name that."
            self.problems.add(use.mark, f"{said} an adapter over weights in {use.bits} bits. {advice}")
        predicts = use.predicts
        if predicts and predicts not in wants.get("x-predicts", [predicts]):
            other = "regression" if predicts.startswith("number") else "classification"
            self.problems.add(use.mark, f"{where}: '{use.name}' predicts {predicts}. Use evaluate: {other} for it.")
        sorts = wants.get("x-sorts")
        if sorts and use.sort and use.sort not in sorts:
            article = "an" if use.sort[0] in "aeiou" else "a"
            message = f"{said} {article} {use.sort} model; {who} takes a {' or '.join(sorts)} model. Name another."
            self.problems.add(use.mark, message)

    def prompt(self, found: Found, where: str) -> str:
        name, prompts = str(found.value), self.known.section("prompts")
        if name not in prompts and not self.known.is_lost(name, "prompts"):
            advice = suggest(name, prompts, "Prompts") or " Write it under prompts:."
            self.problems.add(found.mark, f"{where}: no prompt '{name}'.{advice}")
        self.known.used.add(("prompts", name))
        return name

    def chats(self, found: Found, where: str) -> None:
        entries = self.known.section("chat")
        for name, mark in words(found):
            if name not in entries and not self.known.is_lost(name, "chat"):
                self.problems.add(mark, f"{where}: no chat '{name}'.{suggest(name, entries, 'Chats')}")

    def decoding(self, found: Found, where: str) -> DecodingUse | None:
        name, entries = str(found.value), self.known.section("decoding")
        if self.known.is_lost(name, "decoding"):
            return None
        if name not in entries:
            advice = suggest(name, entries, "Decodings") or " Write it under decoding:."
            self.problems.add(found.mark, f"{where}: no decoding '{name}'.{advice}")
            return None
        self.known.used.add(("decoding", name))
        instance = self.node.instance
        filler = Filler(instance.matrix, self.known.declared, instance.used, self.problems)
        body = filler.fill(entries[name], f"decoding.{name}", entries.values_at[name])
        filled = body is not entries[name]
        if filled and not check_decoding(body, ("decoding", name), self.known.doc, self.problems, final=True):
            return None
        made = DecodingUse(name, body)
        for inner in _named(body, schema.mode(body["mode"])):
            place = f"decoding.{name}.{inner.path}"
            if inner.schema["x-ref"] in ("model", "models"):
                made.models[inner.path] = self.models(inner, place)
            elif inner.schema["x-ref"] == "prompt":
                made.prompts[inner.path] = self.prompt(inner, place)
        return made


def _named(body: Map, fragment: schema.Schema) -> Iterator[Found]:
    """The keys that name something; a mapping names by its values."""
    return (found for found in walk(body, fragment) if "x-ref" in found.schema and not isinstance(found.value, Map))


def resolve(node: Node, known: Names, problems: Problems) -> None:
    """Fill in what the keys of a step or of a chat refer to."""
    asker = _Asker(node, known, problems)
    for found in _named(node.body, node.fragment):
        asker.resolve(found, f"{node.where}.{found.path}")
    for path, decoding in node.decodings.items():
        _check_steering(node, path, decoding, problems)


def check_models(node: Node, known: Names, problems: Problems) -> None:
    """Whether the models that a step or a chat names will do. After all steps are resolved: it looks through them."""
    asker = _Asker(node, known, problems)
    held = [(found, f"{node.where}.{found.path}", node.models) for found in _named(node.body, node.fragment)]
    for decoding in node.decodings.values():
        keys = _named(decoding.body, schema.mode(decoding.body["mode"]))
        held += [(found, f"decoding.{decoding.name}.{found.path}", decoding.models) for found in keys]
    for found, where, models in held:
        for use in models.get(found.path, ()) if found.schema["x-ref"] in ("model", "models") else ():
            asker.check_model(use, found.schema, where)
    tokens.check(node, problems)


def _check_steering(node: Node, path: str, decoding: DecodingUse, problems: Problems) -> None:
    """What reads the model's own numbers, a whole mode or one of its keys, cannot be asked of an endpoint."""
    mode, held = decoding.body["mode"], schema.mode(decoding.body["mode"])
    keys = [key for key in decoding.body if held["properties"].get(key, {}).get("x-weights")]
    needs = f"mode {mode}" if held.get("x-weights") else next(iter(keys), None)
    for use in node.answering(path) if needs else ():
        if use.is_endpoint:
            message = f"{node.where}.{path}: {needs} needs the weights, and '{use.name}' is an endpoint."
            problems.add(
                node.mark(path.split(".", maxsplit=1)[0]), f"{message} Use a mode such as sample, or load a model."
            )
