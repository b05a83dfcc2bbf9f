"""`matrix:`: one step for each combination of values, and `${name}` filled in."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Any

from runner.problems import Mark, Problems, suggest
from runner.strict_yaml import Map, Seq

MOST_COMBINATIONS = 1000
_HOLE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_-]*)(\.\.\.)?\}")
Values = dict[str, Any]
Lists = dict[str, list[Any]]


@dataclass
class Instance:
    """One step of the expanded recipe.

    name:    its full name; `written` is the name in the file
    matrix:  the values that it stands for; `used` are the keys that change something in it
    body:    its keys, ${…} filled in, without `matrix:`
    """

    name: str
    written: str
    matrix: Values
    body: Map
    mark: Mark
    matrix_mark: Mark
    used: set[str] = field(default_factory=set)


def slug(value: Any) -> str:
    """A value as part of a name: openness, 0.5 → 0-5, -1 → minus-1, True → true."""
    if isinstance(value, int | float) and value < 0:
        return f"minus-{slug(-value)}"
    return re.sub(r"[^A-Za-z0-9_]+", "-", shown(value)).strip("-") or "x"


def shown(value: Any) -> str:
    """A value inside a longer text, as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def lists(doc: Map) -> Lists:
    """The top level's matrix lists."""
    return {name: list(values) for name, values in (doc.get("matrix") or {}).items()}


def check_lists(doc: Map, problems: Problems) -> None:
    """Every value of a list stands in it once: in those at the top, and in those of one step."""
    _check_once(doc.get("matrix"), "matrix", problems)
    for name, step in (doc.get("steps") or {}).items():
        _check_once(step.get("matrix"), f"steps.{name}.matrix", problems)


def _check_once(held: Any, where: str, problems: Problems) -> None:
    for name, values in held.items() if isinstance(held, Map) else ():
        for place, value in enumerate(values):
            if shown(value) in map(shown, values[:place]):
                problems.add(values.items_at[place], f"{where}.{name}: '{shown(value)}' stands here twice. Remove one.")


def expand(name: str, step: Map, mark: Mark, declared: Lists, problems: Problems) -> list[Instance]:
    """The instances of one step, in the order of its lists. A step without `matrix:` is one instance."""
    over = _over(name, step, declared, problems)
    if over is None:
        return []
    body = Map(step.mark)
    for key in step:
        if key != "matrix":
            body.take(key, step)
    matrix_mark = step.values_at.get("matrix", mark)
    made = []
    for combination in itertools.product(*over.values()):
        full = "-".join([name, *map(slug, combination)])
        instance = Instance(full, name, dict(zip(over, combination, strict=True)), body, mark, matrix_mark)
        filler = Filler(instance.matrix, declared | over, instance.used, problems)
        instance.body = filler.fill(body, f"steps.{name}", mark)
        made.append(instance)
    names = [instance.name for instance in made]
    if any(len(set(map(shown, values))) < len(values) for values in over.values()):
        return []  # check_lists says so
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        advice = "Make the values of its matrix differ in letters or digits."
        problems.add(matrix_mark, f"steps.{name}: two combinations are both named '{twice}'. {advice}")
        return []
    return made


def _over(name: str, step: Map, declared: Lists, problems: Problems) -> Lists | None:
    """The lists that a step runs over: names of the top level's, or a mapping of its own. None where that fails."""
    held = step.get("matrix")
    where = f"steps.{name}.matrix"
    if isinstance(held, Map):
        over: Lists = {key: list(values) for key, values in held.items()}
    elif isinstance(held, Seq):
        unknown = [(key, mark) for key, mark in zip(held, held.items_at, strict=True) if key not in declared]
        for key, mark in unknown:
            problems.add(
                mark, f"{where}: no list '{key}'.{suggest(key, declared) or ' Declare it under matrix: at the top.'}"
            )
        over = {key: declared.get(key, []) for key in held}
        if unknown:
            return None
    else:
        over = {}
    count = math.prod(map(len, over.values()))
    if count > MOST_COMBINATIONS:
        advice = f"At most {MOST_COMBINATIONS:,}: run over fewer lists."
        problems.add(step.values_at["matrix"], f"{where}: {count:,} combinations. {advice}")
        return None
    return over


@dataclass
class Filler:
    """Fills in ${name} from `values`, and ${name...} from `declared`; notes the names in `used`."""

    values: Values
    declared: Lists
    used: set[str]
    problems: Problems

    def fill(self, value: Any, where: str, at: Mark) -> Any:
        """The value with every ${…} filled in: itself where there is none, else a copy that keeps all places."""
        if isinstance(value, Map):
            items = {key: self.fill(item, f"{where}.{key}", value.values_at[key]) for key, item in value.items()}
            if all(items[key] is item for key, item in value.items()):
                return value
            made = Map(value.mark)
            for key, item in items.items():
                made.put(key, item, value.keys_at[key], value.values_at[key])
            return made
        if isinstance(value, Seq):
            filled = [self.fill(item, where, mark) for item, mark in zip(value, value.items_at, strict=True)]
            if all(one is item for one, item in zip(filled, value, strict=True)):
                return value
            return _listed(filled, value.items_at, value.mark)
        return self._text(value, where, at) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, where: str, at: Mark) -> Any:
        holes = list(_HOLE.finditer(text))
        if "${" in _HOLE.sub("", text):
            message = f"{where}: '{text[:60]}' holds a broken ${{…}}. Write ${{name}} with a name under matrix:."
            self.problems.add(at, message)
            return text
        unknown = [hole for hole in holes if not self._known(hole, where, at)]
        if unknown:
            return text
        if len(holes) == 1 and holes[0][0] == text:
            name, whole_list = holes[0].groups()
            return (
                _listed(self.declared[name], [at] * len(self.declared[name]), at) if whole_list else self.values[name]
            )
        return _HOLE.sub(self._inside, text)

    def _known(self, hole: re.Match[str], where: str, at: Mark) -> bool:
        name, whole_list = hole.groups()
        known = self.declared if whole_list else self.values
        if name in known:
            self.used.add(name)
            return True
        hint = suggest(name, known) or " There is no matrix: to take it from."
        if name in self.declared:
            hint = f" Add it to the step's matrix: [{', '.join([*self.values, name])}]."
        self.problems.add(at, f"{where}: {hole[0]} stands for nothing here.{hint}")
        return False

    def _inside(self, hole: re.Match[str]) -> str:
        name, whole_list = hole.groups()
        return ", ".join(map(shown, self.declared[name])) if whole_list else shown(self.values[name])


def _listed(items: list[Any], marks: list[Mark], at: Mark) -> Seq:
    made = Seq(at)
    for item, mark in zip(items, marks, strict=True):
        made.put(item, mark)
    return made
