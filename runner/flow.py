"""What is known of rows before they exist: their columns, their parts, and which test rows are among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner.problems import Problems
from runner.references import Node, Rows


@dataclass
class Flow:
    """What is known of rows.

    columns:  name → type (text, number, list, object, any); what is known to be in an object has a dotted name
    anything: true where more columns may come that nobody can know
    parts:    of a whole split, else ()
    tests:    for each part ('' for plain rows) the test parts that rows come from, with the step that passed them on
    split:    the split that the rows went through
    values:   all the values that a column can have, where that is known
    words:    the most words in a column, where that is known
    prompts:  the prompts with which the rows became messages
    lost:     true where something wrong came before, so that nothing can be said of these rows
    """

    columns: dict[str, str] = field(default_factory=dict)
    anything: bool = False
    parts: tuple[str, ...] = ()
    tests: dict[str, dict[str, str]] = field(default_factory=dict)
    split: str | None = None
    values: dict[str, list[Any]] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    lost: bool = False

    @property
    def prompt(self) -> str | None:
        """The one prompt behind the rows' messages; None where there is none or several."""
        return self.prompts[0] if len(self.prompts) == 1 else None

    def copy(self) -> Flow:
        tests = {part: dict(held) for part, held in self.tests.items()}
        known = (dict(self.columns), self.anything, self.parts, tests, self.split)
        return Flow(*known, dict(self.values), dict(self.words), self.prompts, self.lost)

    def top(self) -> list[str]:
        """The names of the columns themselves."""
        return [name for name in self.columns if "." not in name]

    def inside(self, name: str) -> dict[str, str]:
        """What is known to be in an object column, by its path from there on; {} where nothing is."""
        return {held[len(name) + 1 :]: kind for held, kind in self.columns.items() if held.startswith(f"{name}.")}

    def has(self, name: str) -> bool:
        """Whether rows have a column, or a value in an object: 'profile.tone'."""
        if name in self.columns:
            return True
        above = name.rpartition(".")[0]
        if not above:
            return self.anything
        if not self.has(above):
            return False
        return not self.inside(above) and self.columns.get(above, "any") in ("any", "object")

    def put(self, name: str, kind: str, values: Iterable[Any] = (), inside: dict[str, str] | None = None) -> None:
        """Add a column, or replace it with all that was in it."""
        above = name.rpartition(".")[0]
        if above in self.columns and not self.inside(above):
            return  # what else is in that object is not known
        if above and above not in self.columns:
            self.put(above, "object")
        self.remove(name)
        self.columns[name] = kind
        self.columns |= {f"{name}.{path}": held for path, held in (inside or {}).items()}
        if values := list(values):
            self.values[name] = values

    def remove(self, name: str) -> None:
        for held in [held for held in self.columns if held == name or held.startswith(f"{name}.")]:
            del self.columns[held]
            self.values.pop(held, None)
            self.words.pop(held, None)

    def keep(self, names: Iterable[str]) -> None:
        """Remove all other columns."""
        for name in [name for name in self.top() if name not in names]:
            self.remove(name)
        self.anything = False

    def take(self, name: str, other: Flow, theirs: str) -> None:
        """Add a column that is another flow's."""
        self.put(name, other.columns.get(theirs, "any"), other.values.get(theirs, ()), other.inside(theirs))
        if theirs in other.words:
            self.words[name] = other.words[theirs]

    def reads_as(self, name: str, kinds: Iterable[str]) -> bool:
        """Whether a column is, or may be, of one of these types."""
        return self.columns.get(name, "any") in ("any", *kinds)


def type_of(value: Any) -> str:
    """The type of a column that holds a constant."""
    if isinstance(value, str | bool):
        return "text" if isinstance(value, str) else "any"
    return "number" if isinstance(value, int | float) else "any"


def incoming(node: Node, path: str, flows: dict[str, Flow], problems: Problems) -> Flow:
    """The rows that a step reads by one of its keys, joined."""
    references = [rows for rows in node.rows.get(path, []) if rows.node.name in flows]
    joined = [_one(node, path, rows, flows[rows.node.name], problems) for rows in references]
    if len({bool(flow.parts) for flow in joined if not flow.lost}) > 1:
        split = next(flow.split for flow in joined if flow.parts)
        advice = f"Name a part ({split}.train), or split later."
        problems.add(references[0].mark, f"{node.where}.{path}: joins a whole split with plain rows. {advice}")
    lost = path in node.partial or len(joined) < len(node.rows.get(path, [])) or any(flow.lost for flow in joined)
    made = joined[0] if len(joined) == 1 else _joined(joined) if joined else Flow()
    made.lost, made.anything = lost, made.anything or lost
    return made


def _one(node: Node, path: str, rows: Rows, flow: Flow, problems: Problems) -> Flow:
    made = flow.copy()
    if rows.part and rows.part not in flow.parts and not flow.lost:
        written = rows.node.instance.written
        has = f"it has: {', '.join(flow.parts)}" if flow.parts else "it is not split"
        advice = "Name another, or let the split make it."
        problems.add(rows.mark, f"{node.where}.{path}: '{written}' has no part '{rows.part}' ({has}). {advice}")
    if rows.part:
        made.parts = ()
        made.tests = {"": dict(flow.tests.get(rows.part, {}))}
    for key, value in rows.columns.items():
        made.put(key, type_of(value), [value])
    return made


def _joined(flows: list[Flow]) -> Flow:
    """Rows one after the other: only what all of them have can be counted on."""
    made = Flow(anything=all(flow.anything for flow in flows), parts=flows[0].parts)
    made.split = next((flow.split for flow in flows if flow.split), None)
    made.prompts = _all(flow.prompts for flow in flows)
    for name in _all(flow.columns for flow in flows):
        if all(flow.has(name) for flow in flows):
            kinds = {flow.columns.get(name, "any") for flow in flows}
            made.columns[name] = kinds.pop() if len(kinds) == 1 else "any"
            if all(name in flow.values for flow in flows):
                made.values[name] = list(_all(flow.values[name] for flow in flows))
            if name in made.columns and any(name in flow.words for flow in flows):
                made.words[name] = max(flow.words.get(name, 0) for flow in flows)
    for flow in flows:
        for part, tests in flow.tests.items():
            made.tests.setdefault(part, {}).update(tests)
    return made


def _all(many: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    """All different items in their order."""
    return tuple(dict.fromkeys(item for items in many for item in items))
