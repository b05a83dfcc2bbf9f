"""One recipe, proved: strict YAML, then its shape by schema, then its meaning. Every command reads recipes through here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from runner import columns, matrix, prompts, schema, shape, strict_yaml, variants
from runner.chats import Chat, check_chats
from runner.errors import RecipeError
from runner.problems import Invalid, Mark, Problem, Problems, suggest
from runner.references import Names, Node, in_order, resolve
from runner.strict_yaml import Map, Seq

FOLDER = Path("recipes")
_KEY = re.compile(r"\b(sk-[A-Za-z0-9_-]{12,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,})")


@dataclass
class Recipe:
    """A recipe that has been proved, with its variant and settings merged in and its matrix expanded."""

    name: str
    path: Path
    variant: tuple[str, ...]
    settings: tuple[str, ...]
    title: str
    doc: Map
    nodes: list[Node]
    names: Names
    flows: dict[str, columns.Flow]
    chats: dict[str, Chat]
    includes: dict[str, str]
    warnings: list[Problem] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its name, and what makes it differ from the file as written: quickstart@smoke."""
        changes = [*self.variant, *(re.sub(r"[^A-Za-z0-9]+", "-", setting).strip("-") for setting in self.settings)]
        return "@".join([self.name, *changes])[:120]


def find(name: str) -> Path:
    """The file of a recipe, by its name or its path. Raises RecipeError where there is none."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = [found.stem for found in every()]
        raise RecipeError(f"{path}: no such recipe.{suggest(path.stem, known, 'Recipes') or ' Write one, or run this where recipes/ is.'}")
    return path


def every() -> list[Path]:
    """All recipes of the folder, by name."""
    return sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("."))


def load(path: Path, variant: Sequence[str] = (), settings: Sequence[str] = ()) -> Recipe:
    """Read and prove a recipe with the variants and settings named. Raises Invalid with every problem found."""
    problems = Problems()
    doc = _document(path, problems)
    recipe = _expanded(doc, path, variant, settings, problems)
    problems.raise_errors()
    assert recipe is not None
    recipe.warnings = problems.warnings
    return recipe


def check(path: Path) -> list[Problem]:
    """Every problem of a recipe, alone and with each of its variants; warnings too."""
    problems = Problems()
    try:
        doc = _document(path, problems)
    except Invalid as invalid:
        return invalid.problems
    _expanded(doc, path, (), (), problems)
    alone = Problems()
    alone.include(problems)
    for name in doc.get("variants") or {}:
        with_it = Problems()
        try:
            _expanded(doc, path, (name,), (), with_it)
        except Invalid as invalid:
            with_it.include(invalid.problems)
        problems.include(problem for problem in with_it if not problem.warning)
    return list(problems)


def _document(path: Path, problems: Problems) -> Map:
    """The file as a mapping of the right shape. Raises Invalid where nothing more can be said of it."""
    doc = strict_yaml.read(path, _shown(path))
    mark = Mark(_shown(path), 1, 1)
    secrets = list(_secrets(doc, "")) if isinstance(doc, Map) else []
    for place, where in secrets:
        hint = f"{where.split('.')[1].upper().replace('-', '_')}_API_KEY" if where.startswith("models.") else "NAME_OF_VARIABLE"
        problems.add(place, f"{where}: this looks like a key. Put it in the environment and name the variable: api_key_env: {hint}.")
    if secrets:
        problems.raise_errors()
    if isinstance(doc, Map) and "recipe" in doc and doc["recipe"] != 1:
        raise Invalid([Problem(doc.values_at["recipe"], "recipe: this runner reads version 1 of the language. Write `recipe: 1`.")])
    shape.check_document(doc, mark, problems)
    _check_name(path, mark, problems)
    problems.raise_errors()
    assert isinstance(doc, Map)
    return variants.written_out(doc)


def _shown(path: Path) -> str:
    """A path as messages show it: relative to the working folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@cache
def targets() -> frozenset[str]:
    """The names that Make's targets take, from schemas/targets.json."""
    return frozenset(json.loads((schema.FOLDER / "targets.json").read_text(encoding="utf-8")))


def _check_name(path: Path, mark: Mark, problems: Problems) -> None:
    if path.stem in targets():
        problems.add(mark, f"'{path.stem}' is the name of a make target. Rename the file.")
    elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", path.stem):
        problems.add(mark, f"'{path.stem}' is not a name. Use letters, digits, - and _, a letter first.")


def _secrets(value: Any, where: str) -> Iterator[tuple[Mark, str]]:
    pairs: list[tuple[str, Any, Mark]] = []
    if isinstance(value, Map):
        pairs = [(key, item, value.values_at[key]) for key, item in value.items()]
    elif isinstance(value, Seq):
        pairs = [(str(place), item, value.items_at[place]) for place, item in enumerate(value)]
    for key, item, mark in pairs:
        here = f"{where}.{key}" if where else key
        if isinstance(item, str) and (_KEY.search(item) or (key.lower() in ("api_key", "apikey", "token", "api_token") and item)):
            yield mark, here
        else:
            yield from _secrets(item, here)


def _expanded(doc: Map, path: Path, variant: Sequence[str], settings: Sequence[str], problems: Problems) -> Recipe | None:
    """The recipe with its patches, expanded and resolved; None where its shape stops that."""
    patched, fine = _patched(doc, variant, settings, problems)
    if not fine:
        return None
    declared = matrix.lists(patched)
    before = len(problems.errors)
    steps = variants.with_likes(patched["steps"], problems)
    instances = [one for name, step in steps.items() for one in _instances(name, step, steps.keys_at[name], declared, patched, problems)]
    _check_names(patched, instances, problems)
    nodes = [Node(one, verb, one.body[verb]) for one in instances if (verb := schema.verb_of(one.body))]
    if len(problems.errors) > before:
        return None
    known = Names(patched, nodes, declared)
    for node in nodes:
        resolve(node, known, problems)
        _check_folder(node, problems)
    includes = _includes(patched, path, problems)
    chats = check_chats(patched, known, problems)
    ordered = in_order(nodes, problems) if len(problems.errors) == before else []
    flows = columns.follow(ordered, known, problems)
    for chat in chats.values():
        chat.check(known, flows, problems)
    if len(problems.errors) == before:
        _check_lengths(ordered, problems)
        _check_unused(patched, known, problems)
    return Recipe(path.stem, path, tuple(variant), tuple(settings), str(patched.get("title") or path.stem), patched, ordered, known, flows, chats, includes)


def _patched(doc: Map, variant: Sequence[str], settings: Sequence[str], problems: Problems) -> tuple[Map, bool]:
    before = len(problems.errors)
    patched = doc
    for name in variant:
        patched = variants.with_variant(patched, name, problems)
    for setting in settings:
        patch, _ = variants.set_patch(setting)
        patched = variants.patched(patched, patch, "", problems)
    if patched is not doc and len(problems.errors) == before:
        shape.check_document(patched, patched.mark, problems)
    return patched, len(problems.errors) == before


def _instances(name: str, step: Map, mark: Mark, declared: dict[str, list[Any]], doc: Map, problems: Problems) -> list[matrix.Instance]:
    """A step's instances, each checked once more where `like:` or ${…} left something to be known."""
    before = len(problems.errors)
    made = matrix.expand(name, step, mark, declared, problems)
    if len(problems.errors) == before:
        for one in made:
            shape.check_step(one.body, name, doc, problems, final=True)
    return made if len(problems.errors) == before else []


def _check_names(doc: Map, instances: list[matrix.Instance], problems: Problems) -> None:
    models = doc.get("models") or {}
    for one in instances:
        for name in {one.name, one.written} & set(models):
            problems.add(one.mark, f"steps.{name}: a model has this name too. Rename one: models and steps share their names.")
    taken: dict[str, str] = {}
    for one in instances:
        other = taken.setdefault(one.name, one.written)
        if other != one.written:
            problems.add(one.mark, f"steps.{one.written}: a combination is named '{one.name}', as is one of '{other}'. Rename a step.")


def dataset_folder(folder: str) -> Path:
    """Where a `folder:` lies: below DATASETS where that is set and the path begins with datasets/, else as written."""
    root = os.environ.get("DATASETS")
    parts = Path(folder).parts
    return Path(root, *parts[1:]) if root and parts and parts[0] == "datasets" else Path(folder)


def data_files(folder: Path) -> list[Path]:
    """A dataset folder's data: every file but README* and hidden ones, sorted by path."""
    made = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        made += [Path(base, name) for name in files if not name.startswith(".") and not name.upper().startswith("README")]
    return sorted(made)


def _check_folder(node: Node, problems: Problems) -> None:
    if node.folder is None:
        return
    mark, folder = node.body.values_at.get("folder", node.instance.mark), dataset_folder(node.folder)
    where = f"{node.where}.folder"
    if not folder.is_dir():
        siblings = [f"{Path(node.folder).parent}/{path.name}" for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        problems.add(mark, f"{where}: no folder '{node.folder}'.{suggest(node.folder, siblings, 'Folders') or ' Make it and put the data in it.'}")
    elif not data_files(folder) and not _front_matter(folder):
        problems.add(mark, f"{where}: '{node.folder}' holds no data. Put the files there, or a README.md whose front matter says where to get them.")


def _front_matter(folder: Path) -> bool:
    readme = folder / "README.md"
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith("---\n")


def _includes(doc: Map, path: Path, problems: Problems) -> dict[str, str]:
    """The files that prompts include, by name: only from the folder prompts/ beside the recipe."""
    folder = path.parent / "prompts"
    found: dict[str, str] = {}
    held = doc.get("prompts") or Map(doc.mark)
    waiting = [item for name in held for item in columns.templates(held[name], f"prompts.{name}", held.values_at[name])]
    while waiting:
        text, mark, where = waiting.pop()
        try:
            _, names = prompts.uses(text)
        except TemplateError:
            continue  # said where the prompt is used, or below
        for name in sorted(names - set(found)):
            file = folder / name
            if ".." in Path(name).parts or not file.is_file() or folder.resolve() not in file.resolve().parents:
                problems.add(mark, f"{where}: includes '{name}', which is no file of {_shown(folder)}/.{suggest(name, [one.name for one in folder.glob('*')], 'It has')}")
                continue
            found[name] = file.read_text(encoding="utf-8")
            waiting.append((found[name], mark, where))
    return found


def _check_lengths(nodes: list[Node], problems: Problems) -> None:
    """Lengths beyond what a model that comes along can read."""
    for node in nodes:
        length = node.body.get("max_length")
        for use in node.models.get("model", []) if isinstance(length, int) else []:
            context = context_of(use)
            if context and length > context:
                mark = node.body.values_at["max_length"]
                problems.add(mark, f"{node.where}.max_length: {length} is more than the {context} tokens that '{use.name}' can read. Lower it.")


def context_of(use: Any) -> int | None:
    """The context of a model in tokens, where it is known without loading it."""
    while use.node is not None:
        below = use.node.models.get("model", [])
        if not below:
            return None
        use = below[0]
    return schema.bundled().get(str(use.entry.get("load")), {}).get("context")


def _check_unused(doc: Map, known: Names, problems: Problems) -> None:
    for section, what in (("models", "model"), ("prompts", "prompt"), ("decoding", "decoding"), ("texts", "text")):
        held = doc.get(section) or {}
        for name in held:
            if (section, name) not in known.used:
                problems.warn(held.keys_at[name], f"{section}.{name}: nothing uses this {what}.")
    read = {need.instance.written for node in known.nodes for need in node.needs()}
    for node in known.nodes:
        if node.verb == "preprocess" and node.instance.written not in read:
            problems.warn(node.instance.mark, f"{node.where}: nothing uses its rows.")
    lists = doc.get("matrix") or {}
    run_over = {key for node in known.nodes for key in node.instance.matrix} | {key for node in known.nodes for key in node.instance.used}
    for name in lists:
        if name not in run_over:
            problems.warn(lists.keys_at[name], f"matrix.{name}: no step runs over this list.")
