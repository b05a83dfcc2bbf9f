"""One recipe, proved: strict YAML, then its shape by schema, then its meaning. Every command reads recipes here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from jinja2 import TemplateError

from runner import columns, graph, matrix, prompts, schema, secrets, shape, strict_yaml, templates, variants
from runner.chats import Chat, check_chats
from runner.errors import RecipeError
from runner.flow import Flow
from runner.folders import check_folder
from runner.problems import ALL, Invalid, Lost, Mark, Problem, Problems, suggest
from runner.references import Names, Node
from runner.resolve import check_models, resolve
from runner.strict_yaml import Map, Seq

FOLDER = Path("recipes")
KEPT = {
    "cache",
    "chats",
    "keys",
    "models",
    "plans",
    "reports",
    "store",
    "tracking",
}  # in artifacts/, beside the recipes'
MOST_STEPS = 5000


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
    flows: dict[str, Flow]
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
        hint = suggest(path.stem, known, "Recipes") or " Write one, or run this where recipes/ is."
        raise RecipeError(f"{path}: no such recipe.{hint}")
    return path


def every() -> list[Path]:
    """All recipes of the folder, by name."""
    return sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("."))


def load(path: Path, variant: Sequence[str] = (), settings: Sequence[str] = ()) -> Recipe:
    """Read and prove a recipe with the variants and settings named. Raises Invalid with every problem found."""
    problems = Problems()
    doc, lost = _document(path, problems)
    recipe = _expanded(doc, lost, path, variant, settings, problems)
    problems.raise_errors()
    assert recipe is not None
    recipe.warnings = problems.warnings
    return recipe


def check(path: Path) -> list[Problem]:
    """Every problem of a recipe, alone and with each of its variants; warnings too."""
    problems = Problems()
    try:
        doc, lost = _document(path, problems)
    except Invalid as invalid:
        return invalid.problems
    _expanded(doc, lost, path, (), (), problems)
    problems.include(_of_variants(doc, lost, path, set(problems)))
    return list(problems)


def _of_variants(doc: Map, lost: Lost, path: Path, known: set[Problem]) -> Iterator[Problem]:
    """What is wrong with a variant and not without it; the message names those of which it is true."""
    found: dict[Problem, list[str]] = {}
    for name in doc.get("variants") or {}:
        problems = Problems()
        _expanded(doc, lost, path, (name,), (), problems)
        for problem in problems.errors:
            if problem not in known:
                found.setdefault(problem, []).append(name)
    for problem, names in found.items():
        said = any(f"variants.{name}" in problem.message for name in names)
        with_it = "" if said else f" Only with {', '.join(f'V={name}' for name in names)}."
        yield replace(problem, message=problem.message + with_it)


def _document(path: Path, problems: Problems) -> tuple[Map, Lost]:
    """The file as a mapping of the right shape, without what of it is not. Raises Invalid where nothing is left to check."""
    doc = strict_yaml.read(path, _shown(path))
    mark = Mark(_shown(path), 1, 1)
    secrets.check(doc, problems)
    problems.raise_errors()  # before anything else is said: that might show a secret
    if isinstance(doc, Map) and "recipe" in doc and doc["recipe"] != 1:
        message = "recipe: this runner reads version 1 of the language. Write `recipe: 1`."
        raise Invalid([Problem(doc.values_at["recipe"], message)])
    if not isinstance(doc, Map):
        raise Invalid([Problem(mark, "not a recipe. Begin with `recipe: 1` and `steps:`.")])
    lost = shape.check_document(doc, problems)
    _check_name(path, mark, problems)
    if not isinstance(doc.get("steps"), Map):
        problems.raise_errors()
    return variants.written_out(shape.without(doc, lost)), lost


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
    elif path.stem.lower() in KEPT:
        problems.add(
            mark, f"'{path.stem}' is the name of a folder that the runner keeps in artifacts/. Rename the file."
        )
    elif not shape.is_name(path.stem):
        problems.add(mark, f"'{path.stem}' is not a name. Use letters, digits, - and _, a letter first.")


def _expanded(
    doc: Map, lost: Lost, path: Path, variant: Sequence[str], settings: Sequence[str], problems: Problems
) -> Recipe:
    """The recipe with its patches, expanded and resolved, as far as it is right."""
    lost = set(lost)
    patched = _patched(doc, lost, variant, settings, problems)
    nodes = _nodes(patched, lost, problems)
    known = Names(patched, nodes, matrix.lists(patched), lost)
    for node in nodes:
        resolve(node, known, problems)
        check_folder(node, problems)
    for node in nodes:
        check_models(node, known, problems)
    includes = _includes(patched, path, problems)
    chats, entries = check_chats(known, problems)
    ordered = graph.in_order(nodes, problems)
    flows = columns.follow(ordered, known, problems)
    for chat in chats.values() if len(flows) == len(nodes) else ():
        chat.check(known, flows, problems)
    if not problems.count:
        graph.check_lengths([*ordered, *entries], problems)
        graph.check_unused(known, entries, problems)
    title = str(patched.get("title") or path.stem)
    held = (path.stem, path, tuple(variant), tuple(settings), title, patched, ordered, known, flows, chats, includes)
    return Recipe(*held)


def _patched(doc: Map, lost: Lost, variant: Sequence[str], settings: Sequence[str], problems: Problems) -> Map:
    """The recipe with variants and settings merged in, its shape checked again; `lost` grows by what of it is wrong."""
    patched = doc
    for name in variant:
        patched = variants.with_variant(patched, name, problems, lost)
    for setting in settings:
        try:
            patch, _ = variants.set_patch(setting)
        except Invalid as invalid:
            problems.include(invalid.problems)
            continue
        secrets.check(patch, problems)
        patched = variants.patched(patched, patch, "", problems, lost)
    if patched is not doc:
        lost |= shape.check_document(patched, problems, doc, lost)
        patched = shape.without(patched, lost)
    return patched


def _nodes(doc: Map, lost: Lost, problems: Problems) -> list[Node]:
    """Every step, `like:` and `matrix:` written out; those that cannot be are added to `lost`."""
    declared = matrix.lists(doc)
    matrix.check_lists(doc, problems)
    written = doc.get("steps") or Map(doc.mark)
    steps = variants.with_likes(written, problems, lost)
    lost |= {("steps", name) for name in written if name not in steps}
    instances: list[matrix.Instance] = []
    for name, step in steps.items():
        if "like" in written[name] and not shape.check_step(step, name, doc, problems):
            lost.add(("steps", name))
            continue
        made = (
            [] if _runs_over_lost(step, lost) else _instances(name, step, steps.keys_at[name], declared, doc, problems)
        )
        lost |= set() if made else {("steps", name)}
        instances += made
        if len(instances) > MOST_STEPS:
            message = f"steps.{name}: with this, more than {MOST_STEPS:,} steps. Run over fewer lists."
            problems.add(steps.keys_at[name], message)
            break
    _check_names(doc, instances, problems)
    held = [(one, schema.verb_of(one.body)) for one in instances]
    return [Node(one, verb, one.body[verb], schema.fragment(verb, one.body[verb])) for one, verb in held if verb]


def _runs_over_lost(step: Map, lost: Lost) -> bool:
    """Whether a step runs over a list that is wrong, of which enough is said."""
    over = step.get("matrix")
    return isinstance(over, Seq) and any({("matrix", str(name)), ("matrix", ALL)} & lost for name in over)


def _instances(
    name: str, step: Map, mark: Mark, declared: matrix.Lists, doc: Map, problems: Problems
) -> list[matrix.Instance]:
    """A step's instances; the values that ${…} left open are checked now."""
    before = problems.count
    made = matrix.expand(name, step, mark, declared, problems)
    for one in made if problems.count == before else ():
        shape.check_filled(one.body, step, name, doc, problems)
    return made if problems.count == before else []


def _check_names(doc: Map, instances: list[matrix.Instance], problems: Problems) -> None:
    models = doc.get("models") or {}
    written = {one.written: one for one in instances}
    taken: dict[str, str] = {}
    for one in instances:
        for name in {one.name, one.written} & set(models):
            message = f"steps.{name}: a model has this name too. Rename one: models and steps share their names."
            problems.add(one.mark, message)
        other = taken.setdefault(one.name, one.written)
        if other == one.written and one.name in written:
            other = one.name
        if other != one.written:
            message = f"a combination is named '{one.name}', as is one of '{other}'. Rename a step."
            problems.add(one.mark, f"steps.{one.written}: {message}")


def _includes(doc: Map, path: Path, problems: Problems) -> dict[str, str]:
    """The files that prompts include, by name: only from the folder prompts/ beside the recipe."""
    folder = path.parent / "prompts"
    found: dict[str, str] = {}
    held = doc.get("prompts") or Map(doc.mark)
    waiting = [text for name in held for text in templates.of_prompt(held[name], f"prompts.{name}")]
    while waiting:
        text = waiting.pop()
        try:
            names = prompts.uses(text.text)[1]
        except TemplateError:
            continue  # said where the prompt is used
        for name in sorted(names - set(found)):
            file = folder / name
            if ".." in Path(name).parts or not file.is_file() or folder.resolve() not in file.resolve().parents:
                hint = suggest(name, [one.name for one in folder.glob("*") if one.is_file()], "It has")
                message = f"{text.where}: includes '{name}', which is no file of {_shown(folder)}/."
                problems.add(text.mark, f"{message}{hint or ' Put it there.'}")
                continue
            try:
                found[name] = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                problems.add(
                    text.mark,
                    f"{text.where}: includes '{name}', which is not UTF-8 (byte {error.start + 1}). Save it so.",
                )
                continue
            waiting.append(text._replace(text=found[name]))
    return found
