"""From a proved recipe to steps in order, each with the key of everything that goes into it; what is stale, and why."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import prompts, schema
from runner.digests import Digests
from runner.errors import DataError
from runner.fields import walk
from runner.files import digest, write_json, write_text
from runner.folders import data_files, dataset_folder
from runner.matrix import Values
from runner.recipe import Recipe
from runner.references import DecodingUse, ModelUse, Node

KEY_LENGTH = 20
Spec = dict[str, Any]


def artifacts() -> Path:
    """The folder of everything made: ARTIFACTS, else artifacts/ here."""
    return Path(os.environ.get("ARTIFACTS") or "artifacts").absolute()


@dataclass
class Planned:
    """One step of a plan: its spec (what the step will see) and its key; why it must run, '' where it is made."""

    node: Node
    spec: Spec
    key: str
    why: str
    needs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.node.name


@dataclass
class Plan:
    """All steps of a recipe in order."""

    recipe: Recipe
    root: Path
    steps: list[Planned]
    specs: Specs

    @property
    def stale(self) -> list[Planned]:
        return [step for step in self.steps if step.why]

    def pick(self, target: str) -> list[Planned]:
        """The steps of a target ('all', a verb, or a step's name) and all that they need, in order."""
        wanted = [
            step for step in self.steps if target in ("all", step.node.verb, step.name, step.node.instance.written)
        ]
        keys = {step.key for step in wanted}
        for step in reversed(self.steps):
            if step.key in keys:
                keys |= set(step.needs)
        return [step for step in self.steps if step.key in keys]


def make(recipe: Recipe) -> Plan:
    """Plan a recipe: digest its data, key its steps, compare with what is made. Raises DataError where data is missing."""
    root = artifacts()
    digests = Digests(root / "cache" / "files.json")
    specs = Specs(recipe, root, digests)
    steps = [specs.step(node) for node in recipe.nodes]
    digests.save()
    return Plan(recipe, root, steps, specs)


class Specs:
    """Specs: what a step, a model, a prompt or a decoding is to whoever runs it, as JSON."""

    def __init__(self, recipe: Recipe, root: Path, digests: Digests) -> None:
        self.recipe = recipe
        self.root = root
        self.digests = digests
        self.planned: dict[str, Planned] = {}

    def step(self, node: Node) -> Planned:
        spec = self._spec(node)
        key = digest(material(spec))[:KEY_LENGTH]
        needs = list(dict.fromkeys(self.planned[need.name].key for need in node.needs()))
        made = Planned(node, spec | {"key": key}, key, "", needs)
        if not (self.root / "store" / key / "step.json").is_file():
            made.why = self._why(made)
        self.planned[node.name] = made
        return made

    def _spec(self, node: Node) -> Spec:
        """Everything that the step will see, as JSON."""
        body = {key: _plain(value) for key, value in node.body.items() if key != node.verb}
        variables, texts = self._variables(node)
        learned = self.recipe.flows[node.name].prompt if node.verb != "preprocess" else None
        return {
            "name": node.name,
            "verb": node.verb,
            "kind": node.kind,
            "revision": node.fragment.get("x-revision", 1),
            "params": schema.defaults(node.fragment, body),
            "matrix": {key: value for key, value in node.instance.matrix.items() if key in variables},
            "texts": {key: _plain(value) for key, value in self.recipe.names.section("texts").items() if key in texts},
            "inputs": {path: [self._input(rows) for rows in held] for path, held in node.rows.items()},
            "models": {path: [self.model(use) for use in held] for path, held in node.models.items()},
            "prompts": {path: self.prompt(name) for path, name in node.prompts.items()},
            "decodings": {path: self.decoding(use) for path, use in node.decodings.items()},
            "learned": self.prompt(learned) if learned else None,
            "folder": str(dataset_folder(node.folder)) if node.folder else None,
            "files": self._files(node),
        }

    def _variables(self, node: Node) -> tuple[set[str], set[str]]:
        """The variables and the texts that a step's prompts and expressions use."""
        named = [*node.prompts.values(), *(name for use in node.decodings.values() for name in use.prompts.values())]
        held = [text for name in named for turn in self.prompt(name)["turns"] for text in turn.values()]
        held += list(self.recipe.includes.values()) if held else []
        paths = [path for text in held for path in prompts.uses(text)[0]]
        for item in walk(node.body, node.fragment):
            if "x-jinja" in item.schema and isinstance(item.value, str):
                paths += prompts.uses(item.value, item.schema["x-jinja"] == "expression")[0]
        return {path[0] for path in paths}, {path[1] for path in paths if path[0] == "texts" and len(path) > 1}

    def _input(self, rows: Any) -> Spec:
        return {
            "step": rows.node.name,
            "key": self.planned[rows.node.name].key,
            "part": rows.part,
            "columns": rows.columns,
        }

    def model(self, use: ModelUse, checkpoint: str = "best") -> Spec:
        """A model as a step or a chat sees it: the entry, or the step that makes it with the model under it."""
        if use.node is None:
            entry = _plain(use.entry)
            kind = "endpoint" if "endpoint" in entry else "load"
            return {
                "name": use.name,
                "entry": schema.defaults(schema.entry(kind), entry),
                "files": self._weights(entry),
            }
        below = use.node.models.get("model", [])
        base = self.model(below[0]) if below else None
        return {
            "name": use.name,
            "entry": {},
            "key": self.planned[use.node.name].key,
            "checkpoint": checkpoint,
            "base": base,
        }

    def _weights(self, entry: Spec) -> Spec:
        """The digests of a model folder's files; a name or a Hub id has none."""
        folder = Path(str(entry.get("load", "")))
        is_folder = "load" in entry and folder.is_dir() and entry["load"] not in schema.bundled()
        return (
            {str(path.relative_to(folder)): self.digests.of(path) for path in data_files(folder)} if is_folder else {}
        )

    def prompt(self, name: str) -> Spec:
        """A prompt as a step or a chat sees it, with the files that it includes."""
        held = _plain(self.recipe.names.section("prompts")[name])
        turns = held if isinstance(held, list) else [held]
        used: dict[str, str] = {}
        waiting = [text for turn in turns for text in turn.values()]
        while waiting:
            for include in prompts.uses(waiting.pop())[1] - set(used):
                used[include] = self.recipe.includes[include]
                waiting.append(used[include])
        return {"name": name, "turns": turns, "includes": used}

    def decoding(self, use: DecodingUse) -> Spec:
        """A decoding as a step or a chat sees it."""
        body = {key: value for key, value in _plain(use.body).items() if key != "mode"}
        return {
            "name": use.name,
            "mode": use.body["mode"],
            "params": schema.defaults(schema.mode(use.body["mode"]), body),
            "models": {path: [self.model(one) for one in held] for path, held in use.models.items()},
            "prompts": {path: self.prompt(name) for path, name in use.prompts.items()},
        }

    def _files(self, node: Node) -> dict[str, str]:
        if node.folder is None:
            return {}
        folder = dataset_folder(node.folder)
        files = data_files(folder)
        if not files:
            raise DataError(f"{folder}: holds no data yet. See {folder / 'README.md'} for where to get it.")
        return {str(path.relative_to(folder)): self.digests.of(path) for path in files}

    def _why(self, made: Planned) -> str:
        """Why a step must run, from what was last made under its name."""
        part = self.root / "store" / f"{made.key}.part"
        if part.is_dir() and made.node.fragment.get("x-resumes"):
            return "was interrupted: goes on from there"
        try:
            last = json.loads((self.root / self.recipe.label / made.name / "step.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "was interrupted" if part.is_dir() else "not made yet"
        held = {step.key: step.name for step in self.planned.values()}
        return "; ".join(differences(last["spec"], made.spec, held)) or "not made yet"


def material(spec: Spec) -> Any:
    """What a key is made of: no names, no paths, nothing that is default or does not change the output."""
    fragment = schema.fragment(spec["verb"], spec["kind"])
    params = copy.deepcopy(schema.without_defaults(fragment, spec["params"]))
    for path in _named(spec):
        _drop(params, path)
    return {
        **{key: spec[key] for key in ("verb", "kind", "revision", "matrix", "texts", "files")},
        "params": params,
        "inputs": {
            path: [{key: one[key] for key in ("key", "part", "columns")} for one in held]
            for path, held in spec["inputs"].items()
        },
        "models": {path: [model_material(one) for one in held] for path, held in spec["models"].items()},
        "prompts": {path: _unnamed(one) for path, one in spec["prompts"].items()},
        "decodings": {path: _decoding_material(one) for path, one in spec["decodings"].items()},
        "learned": _unnamed(spec["learned"]) if spec["learned"] else None,
    }


def model_material(model: Spec) -> Spec:
    """The part of a model's spec that decides what it is."""
    if model["entry"]:
        kind = "endpoint" if "endpoint" in model["entry"] else "load"
        return {"entry": schema.without_defaults(schema.entry(kind), model["entry"]), "files": model["files"]}
    return {"key": model["key"], "checkpoint": model["checkpoint"]}


def _decoding_material(decoding: Spec) -> Spec:
    params = copy.deepcopy(schema.without_defaults(schema.mode(decoding["mode"]), decoding["params"]))
    for path in _named(decoding):
        _drop(params, path)
    models = {path: [model_material(one) for one in held] for path, held in decoding["models"].items()}
    return {
        "mode": decoding["mode"],
        "params": params,
        "models": models,
        "prompts": {path: _unnamed(one) for path, one in decoding["prompts"].items()},
    }


def _unnamed(prompt: Spec) -> Spec:
    return {key: value for key, value in prompt.items() if key != "name"}


def _named(spec: Spec) -> Iterator[str]:
    """The keys of a step or a decoding that hold names of others. Several models keep theirs: their rows carry them."""
    for section in ("inputs", "prompts", "decodings"):
        yield from spec.get(section, {})
    yield from (path for path, models in spec["models"].items() if not isinstance(_at(spec["params"], path), list))
    yield "folder"


def _at(params: Any, path: str) -> Any:
    for key in path.split("."):
        params = params.get(key) if isinstance(params, dict) else None
    return params


def _drop(params: dict[str, Any], path: str) -> None:
    above, _, last = path.rpartition(".")
    held = _at(params, above) if above else params
    if isinstance(held, dict):
        held.pop(last, None)


def _plain(value: Any) -> Any:
    """Maps and Seqs as plain dicts and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def differences(old: Any, new: Any, steps: Values) -> Iterator[str]:
    """What changed between two specs of a step, in words: 'learning_rate 0.0002 → 0.0001'."""
    for key in ("params", "matrix", "texts", "prompts", "decodings", "learned"):
        yield from _changes(old.get(key), new.get(key), "" if key == "params" else key)
    if old.get("revision") != new.get("revision"):
        yield "the step itself changed"
    folder = new.get("folder") or ""
    for name in sorted({*old.get("files", {}), *new.get("files", {})}):
        before, after = old.get("files", {}).get(name), new.get("files", {}).get(name)
        if before != after:
            yield f"{folder}/{name} {'added' if before is None else 'removed' if after is None else 'changed'}"
    before_keys, after_keys = set(_keys(old)), set(_keys(new))
    for key in sorted(after_keys - before_keys):
        yield f"'{steps.get(key, '?')}' changed"
    if not after_keys - before_keys and before_keys - after_keys:
        yield "fewer inputs"


def _keys(spec: Any) -> Iterator[str]:
    """Every step key that a spec mentions, its own apart."""
    for name in ("inputs", "models", "decodings"):
        waiting = [spec.get(name)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if isinstance(value.get("key"), str):
                    yield value["key"]
                waiting += list(value.values())
            elif isinstance(value, list):
                waiting += value


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if key not in ("key", "models"):
                yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        shown = [json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value for value in (old, new)]
        yield f"{path} {_short(shown[0])} → {_short(shown[1])}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


# What Make and the executor read.


def write(plan: Plan) -> Path:
    """Write the plan for Make (.mk) and for the executor (.json), only where it differs, and point the links at what is made."""
    base = plan.root / "plans" / plan.recipe.label
    held = {step.key: step.spec for step in plan.steps}
    write_json(
        base.with_name(base.name + ".json"),
        {"recipe": plan.recipe.name, "label": plan.recipe.label, "root": str(Path.cwd()), "steps": held},
    )
    write_text(base.with_name(base.name + ".mk"), makefile(plan))
    for step in plan.steps:
        if not step.why:
            link(plan.root, plan.recipe.label, step.name, step.key)
    return base.with_name(base.name + ".mk")


def link(root: Path, label: str, name: str, key: str) -> None:
    """Point artifacts/<recipe>/<step> at what was made."""
    place, target = root / label / name, os.path.join("..", "store", key)
    if place.is_symlink() and os.readlink(place) == target:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    os.replace(fresh, place)


def makefile(plan: Plan) -> str:
    """The plan in the part of Make's language that 3.81 understands: explicit rules, order-only prerequisites, no user's path."""
    groups: dict[str, list[str]] = {"all": [], **{verb: [] for verb in schema.VERBS}}
    for step in plan.steps:
        stamp = f"store/{step.key}/step.json"
        for target in ("all", step.node.verb, f"step/{step.node.instance.written}", f"step/{step.name}"):
            held = groups.setdefault(target, [])
            if stamp not in held:
                held.append(stamp)
    # A finished step is never half-written, so Make must not delete one when it is interrupted.
    lines = [f".PHONY: {' '.join(groups)}", f".PRECIOUS: {' '.join(groups['all'])}"]
    for target, stamps in groups.items():
        lines += [f"{target}: {' '.join(stamps)}".rstrip(), "\t@:"]
    done: set[str] = set()
    for step in plan.steps:
        if step.key not in done:
            done.add(step.key)
            needs = " ".join(f"store/{key}/step.json" for key in step.needs)
            lines.append(f"store/{step.key}/step.json: |{' ' + needs if needs else ''}")
            lines.append(
                f'\t@cd "$$PERSONA_ROOT" && $$LAUNCH "$$PERSONA_PYTHON" -m runner execute "$$PERSONA_PLAN" {step.key}'
            )
    return "\n".join(lines) + "\n"
