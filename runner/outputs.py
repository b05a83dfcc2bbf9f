"""`output:` of a generating step: one column name for plain text, or short types that say the shape of an answer.

text, number, 1..5 (a whole number between, both ends included), [a, b] (one of these), list (of texts), and a mapping
of such for an object. A mapping with `type: object` and `properties:` is a JSON Schema as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from runner.problems import Mark, Problems
from runner.strict_yaml import Map, Seq

RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")
_JSON_TYPES = {"string": "text", "integer": "number", "number": "number", "array": "list", "object": "object"}


def is_schema(value: Any) -> bool:
    """Whether an output is a whole JSON Schema and not short types."""
    return isinstance(value, dict) and value.get("type") == "object" and isinstance(value.get("properties"), dict)


class Column(NamedTuple):
    """A column that an output writes: the values it can have, where few, and what is in an object, by dotted path."""

    name: str
    kind: str
    values: list[Any]
    inside: dict[str, str]


def columns(value: Any) -> Iterator[Column]:
    """The columns that an output writes."""
    if isinstance(value, str):
        yield Column(value, "text", [], {})
        return
    whole = is_schema(value)
    for name, held in (value["properties"] if whole else value).items():
        inner = list(columns(held)) if isinstance(held, dict) and (is_schema(held) or not whole) else []
        inside = {one.name: one.kind for one in inner}
        inside |= {f"{one.name}.{path}": kind for one in inner for path, kind in one.inside.items()}
        if whole and isinstance(held, dict):
            yield Column(name, _JSON_TYPES.get(str(held.get("type")), "any"), list(held.get("enum", ())), inside)
        else:
            yield Column(name, _kind(held), list(held) if isinstance(held, list) else [], inside)


def _kind(held: Any) -> str:
    if isinstance(held, dict):
        return "object"
    if isinstance(held, list):
        return "text" if all(isinstance(choice, str) for choice in held) else "any"
    return {"text": "text", "list": "list", "number": "number"}.get(held, "number")


def check(value: Any, where: str, problems: Problems) -> bool:
    """Whether every short type of an output is one; a whole JSON Schema is taken as it stands."""
    if not isinstance(value, Map) or is_schema(value):
        return True
    before = problems.count
    for name, held in value.items():
        mark, here = value.values_at[name], f"{where}.{name}"
        if isinstance(held, Map):
            check(held, here, problems)
            if not held:
                problems.add(mark, f"{here}: empty. Name what it holds: {{{name}: text}}.")
        elif isinstance(held, Seq):
            _check_choices(held, mark, here, problems)
        elif not (held in ("text", "number", "list") or _is_range(held)):
            shown = "nothing" if held is None else f"'{held}'"
            advice = "Write text, number, list, 1..5, [a, b] or a mapping of these."
            problems.add(mark, f"{here}: {shown} is no type of answer. {advice}")
    return problems.count == before


def _is_range(held: Any) -> bool:
    found = RANGE.fullmatch(held) if isinstance(held, str) else None
    return found is not None and int(found[1]) < int(found[2])


def _check_choices(held: Seq, mark: Mark, where: str, problems: Problems) -> None:
    words = [one for one in held if isinstance(one, str | int | float) and not isinstance(one, bool)]
    if len(held) < 2 or len(words) < len(held) or len(set(map(str, held))) < len(held):
        problems.add(mark, f"{where}: a choice is a list of two or more different words or numbers.")
