"""Rows into train, validation and test: exact counts, groups that stay together, and the same parts every time."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, canonical, where
from runner.step import PARTS, Out, Step
from runner.steps.preprocess._expressions import need


@dataclass(slots=True)
class _Group:
    """Rows that stay together. `place` sorts the groups of a stratum: the last ones go to test."""

    stratum: str
    place: Any
    rows: int = 0
    part: str = PARTS[0]


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows as they are, in their order, in one file a part; a part that is not asked for is not there.

    The rows are read twice, and memory holds a few numbers a row, never the rows. Raises DataError where a
    part would be empty or a row lacks a column that decides.
    """
    groups, members = _groups(step)
    wanted = _wanted(step, len(groups), len(members))
    _assign(groups, wanted)
    parts = [part for part in PARTS if part == PARTS[0] or part in wanted]
    with ExitStack() as files, out.progress("splitting", len(members)) as advance:
        writers = {part: files.enter_context(out.rows(part)) for part in parts}
        for row, member in zip(step.rows(), members, strict=True):
            writers[groups[member].part].write(row)
            advance(1)
    return {"tables": _tables(step, groups, parts), "notes": _notes(step, groups, wanted)}


def _groups(step: Step) -> tuple[list[_Group], array[int]]:
    """The groups in the order in which they first appear, and for each row the number of its group."""
    by, order = step.params.get("by"), step.params["order"]
    strata = step.params.get("stratify") or []
    strata = [strata] if isinstance(strata, str) else strata
    numbers: dict[str, int] = {}
    groups: list[_Group] = []
    members = array("Q")
    kinds: set[bool] = set()
    for index, row in enumerate(step.rows()):
        key = canonical(need(row, by, "by")) if by else f"#{index}"
        number = numbers.setdefault(key, len(groups)) if by else index
        if number == len(groups):
            stratum = sys.intern(canonical([need(row, column, "stratify") for column in strata]))
            own = index if row.get("id") is None else row["id"]
            groups.append(_Group(stratum, _mixed(step, key if by else own) if order == "random" else number))
        group = groups[number]
        if order == "time":
            moment = _time(row, kinds)
            group.place = moment if group.rows == 0 else max(group.place, moment)
        group.rows += 1
        members.append(number)
    return groups, members


def _mixed(step: Step, key: Any) -> int:
    """A place that depends on the seed and the key alone, so that a row added moves few of the others."""
    return int.from_bytes(hashlib.sha256(f"{step.params['seed']}:{canonical(key)}".encode()).digest()[:8])


def _time(row: Row, kinds: set[bool]) -> datetime:
    try:
        moment = datetime.fromisoformat(need(row, "time", "order: time"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where(row)}: time {row.get('time')!r} is not an ISO 8601 time such as 2024-01-31T15:07:00."
        ) from error
    kinds.add(moment.tzinfo is not None)
    if len(kinds) > 1:
        raise DataError(
            f"{where(row)}: time {row['time']} and others differ in having an offset, so that they have no order. "
            "Give all of them one where they are read, with zone:, or split by order: file."
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _wanted(step: Step, groups: int, rows: int) -> dict[str, int]:
    """How many groups validation and test get: exact numbers, what is left of shares by largest remainder."""
    asked = {part: step.params[part] for part in PARTS[1:] if step.params[part]}
    if not asked:
        raise StepError(
            f"{step.name}: neither validation nor test is asked for. Give one a share such as 0.1, or a number of rows."
        )
    exact: dict[str, Fraction] = {}
    for part, size in asked.items():
        if size >= 1 and size != int(size):
            raise StepError(f"{step.name}.{part}: {size} is neither a share below 1 nor a whole number.")
        exact[part] = Fraction(int(size)) if size >= 1 else Fraction(str(size)) * groups
    exact[PARTS[0]] = groups - sum(exact.values(), Fraction(0))
    counts = {} if exact[PARTS[0]] < 0 else _apportion(groups, [(part, exact[part]) for part in PARTS if part in exact])
    empty = [part for part in exact if not counts.get(part)] if counts else [PARTS[0]]
    if empty:
        shares = " and ".join(f"{part}: {size}" for part, size in asked.items())
        have = f"{rows} rows in {groups} groups" if "by" in step.params else f"{rows} rows"
        raise DataError(
            f"{step.name}: {have} are too few for {shares}: {', '.join(empty)} would be empty. "
            "Ask for less, or bring more rows."
        )
    return {part: counts[part] for part in asked}


def _apportion(total: int, exact: list[tuple[str, Fraction]]) -> dict[str, int]:
    """Whole numbers that add up to `total`: rounded down, the rest to the largest remainders, held-out parts first."""
    counts = {name: int(size) for name, size in exact}
    order = sorted(exact, key=lambda entry: (-(entry[1] - int(entry[1])), entry[0] == PARTS[0]))
    for name, _ in order[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _assign(groups: list[_Group], wanted: dict[str, int]) -> None:
    """Give every stratum its share of test, then of validation; inside a stratum the last places are held out."""
    strata: dict[str, list[_Group]] = {}
    for group in groups:
        strata.setdefault(group.stratum, []).append(group)
    left = {name: sorted(strata[name], key=lambda group: group.place) for name in sorted(strata)}
    for part in ("test", "validation"):
        total = sum(map(len, left.values()))
        count = wanted.get(part, 0)
        shares = _apportion(count, [(name, Fraction(count * len(members), total)) for name, members in left.items()])
        for name, members in left.items():
            cut = len(members) - shares[name]
            for group in members[cut:]:
                group.part = part
            left[name] = members[:cut]


def _tables(step: Step, groups: list[_Group], parts: list[str]) -> list[dict[str, Any]]:
    rows, sets = Counter[str](), Counter(group.part for group in groups)
    for group in groups:
        rows[group.part] += group.rows
    grouped = "by" in step.params
    sizes = {
        "title": "Parts",
        "columns": ["part", "rows", *(["groups"] if grouped else [])],
        "rows": [[part, rows[part], *([sets[part]] if grouped else [])] for part in parts],
    }
    names = sorted({group.stratum for group in groups})
    if "stratify" not in step.params or len(names) > 40:
        return [sizes]
    counts = Counter((group.stratum, group.part) for group in groups)
    table = [[name.strip("[]"), *(counts[name, part] for part in parts)] for name in names]
    return [
        sizes,
        {"title": "Groups by stratum" if grouped else "Rows by stratum", "columns": ["stratum", *parts], "rows": table},
    ]


def _notes(step: Step, groups: list[_Group], wanted: dict[str, int]) -> list[str]:
    if "stratify" not in step.params:
        return []
    every = {group.stratum for group in groups}
    held = {part: len(every - {group.stratum for group in groups if group.part == part}) for part in wanted}
    return [f"{part} has nothing of {count} of {len(every)} strata." for part, count in held.items() if count]
