"""From a proved recipe to steps in order, each with the key of everything that goes into it; what is stale, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import prompts, schema
from runner.digests import Digests
from runner.errors import DataError, RunnerError
from runner.fields import walk
from runner.files import digest, write_json, write_text
from runner.folders import data_files, dataset_folder
from runner.keys import KEY_LENGTH, Spec, material
from runner.recipe import Recipe
from runner.references import DecodingUse, ModelUse, Node
from runner.why import differences


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
    with writable(root):
        digests.save()
    return Plan(recipe, root, steps, specs)


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Raises RunnerError, in one line, where something cannot be written below the artifacts folder."""
    try:
        yield
    except OSError as error:
        advice = "artifacts/ must be writable; set ARTIFACTS= to put it elsewhere."
        raise RunnerError(f"{error.filename or root}: {error.strerror}. {advice}") from error


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
            "named": rows.named,
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
            "checkpoint": "model" if use.node.verb == "merge" else checkpoint,
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
            return "was begun, not finished" if part.is_dir() else "not made yet"
        held = {step.key: step.name for step in self.planned.values()}
        return "; ".join(differences(last["spec"], made.spec, held)) or "not made yet"


def _plain(value: Any) -> Any:
    """Maps and Seqs as plain dicts and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


# What Make and the executor read.


def write(plan: Plan) -> Path:
    """Write the plan for Make (.mk) and for the executor (.json), only where it differs, and point the links at what is made."""
    base = plan.root / "plans" / plan.recipe.label
    held = {step.key: step.spec for step in plan.steps}
    write_json(
        base.with_name(base.name + ".json"),
        {
            "recipe": plan.recipe.name,
            "label": plan.recipe.label,
            "root": str(Path.cwd()),
            "steps": held,
            "needs": {step.key: step.needs for step in plan.steps},
            "goals": goals(plan),
        },
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


def goals(plan: Plan) -> dict[str, list[str]]:
    """The keys of each target that Make can be given: all, a verb, step/NAME."""
    made: dict[str, list[str]] = {"all": [], **{verb: [] for verb in schema.VERBS}}
    for step in plan.steps:
        for target in ("all", step.node.verb, f"step/{step.node.instance.written}", f"step/{step.name}"):
            held = made.setdefault(target, [])
            if step.key not in held:
                held.append(step.key)
    return made


def makefile(plan: Plan) -> str:
    """The plan in the part of Make's language that 3.81 understands: explicit rules, order-only prerequisites, no user's path."""
    stamps = {target: [f"store/{key}/step.json" for key in keys] for target, keys in goals(plan).items()}
    # A finished step is never half-written, so Make must not delete one when it is interrupted.
    lines = [f".PHONY: {' '.join(stamps)}", f".PRECIOUS: {' '.join(stamps['all'])}"]
    for target, held in stamps.items():
        lines += [f"{target}: {' '.join(held)}".rstrip(), "\t@:"]
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
