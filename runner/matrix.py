"""`matrix:`: one step for each combination of values, and `${name}` filled in."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from runner.problems import Mark, Problems, suggest
from runner.strict_yaml import Map, Seq

_HOLE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_-]*)(\.\.\.)?\}")
Values = dict[str, Any]


@dataclass
class Instance:
    """One step of the expanded recipe: `written` is its name in the file, `matrix` the values that it stands for."""

    name: str
    written: str
    matrix: Values
    body: Map
    mark: Mark
    used: set[str] = field(default_factory=set)


def slug(value: Any) -> str:
    """A value as part of a name: openness, 0.5 → 0-5, True → true."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "x"


def lists(doc: Map) -> dict[str, list[Any]]:
    """The top level's matrix lists."""
    return {name: list(values) for name, values in (doc.get("matrix") or {}).items()}


def expand(name: str, step: Map, mark: Mark, declared: dict[str, list[Any]], problems: Problems) -> list[Instance]:
    """The instances of one step, in the order of its lists. A step without `matrix:` is one instance."""
    body = Map(step.mark)
    for key in step:
        if key != "matrix":
            body.take(key, step)
    over = _over(name, step, declared, problems)
    if over is None:
        return []
    made = []
    for combination in itertools.product(*over.values()):
        values = dict(zip(over, combination, strict=True))
        full = "-".join([name, *map(slug, combination)])
        instance = Instance(full, name, values, body, mark)
        instance.body = fill(body, values, declared, f"steps.{name}", problems, instance.used)
        made.append(instance)
    names = [instance.name for instance in made]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        problems.add(mark, f"steps.{name}: two combinations are both named '{twice}'. Make the values of its matrix differ in letters or digits.")
        return []
    return made


def _over(name: str, step: Map, declared: dict[str, list[Any]], problems: Problems) -> dict[str, list[Any]] | None:
    """The lists that a step runs over: names of the top level's, or a mapping of its own."""
    held = step.get("matrix")
    if held is None:
        return {}
    if isinstance(held, Map):
        return {key: list(values) for key, values in held.items()}
    fine = True
    for place, key in enumerate(held):
        if key not in declared:
            problems.add(held.items_at[place], f"steps.{name}.matrix: no list '{key}'.{suggest(key, declared)}")
            fine = False
    return {key: declared[key] for key in held} if fine else None


def fill(value: Any, values: Values, declared: dict[str, list[Any]], where: str, problems: Problems, used: set[str] | None = None, at: Mark | None = None) -> Any:
    """A copy with every ${name} filled in. A whole-string "${name}" keeps its type; "${name...}" is the whole list."""
    used = set() if used is None else used
    if isinstance(value, Map):
        made = Map(value.mark)
        for key, item in value.items():
            filled = fill(item, values, declared, f"{where}.{key}", problems, used, value.values_at[key])
            made.put(key, filled, value.keys_at[key], value.values_at[key])
        return made
    if isinstance(value, Seq):
        items = Seq(value.mark)
        for item, mark in zip(value, value.items_at, strict=True):
            items.put(fill(item, values, declared, where, problems, used, mark), mark)
        return items
    return _fill_text(value, values, declared, where, problems, used, at) if isinstance(value, str) and "${" in value else value


def _fill_text(text: str, values: Values, declared: dict[str, list[Any]], where: str, problems: Problems, used: set[str], at: Mark | None) -> Any:
    at = at or Mark("")
    holes = list(_HOLE.finditer(text))
    if not holes or _HOLE.sub("", text).count("${"):
        problems.add(at, f"{where}: '{text}' holds a broken ${{…}}. Write ${{name}} with a name under matrix:.")
        return text
    for hole in holes:
        name, whole_list = hole[1], hole[2]
        known = declared if whole_list else values
        if name not in known:
            hint = f" Add it to the step's matrix: [{name}]." if name in declared else suggest(name, known)
            problems.add(at, f"{where}: ${{{name}}} stands for nothing here.{hint}")
            return text
        used.add(name)
    if len(holes) == 1 and holes[0][0] == text:
        name, whole_list = holes[0][1], holes[0][2]
        return _listed(declared[name], at) if whole_list else values[name]
    return _HOLE.sub(lambda hole: slug_free(values.get(hole[1], declared.get(hole[1]))), text)


def _listed(items: list[Any], at: Mark) -> Seq:
    made = Seq(at)
    for item in items:
        made.put(item, at)
    return made


def slug_free(value: Any) -> str:
    """A value inside a longer text, as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)
