"""Rows chosen and reshaped: columns added, renamed and dropped; rows kept by an expression, a sample or a limit."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, canonical, where
from runner.refusals import is_refusal
from runner.step import Out, Step
from runner.steps.preprocess._expressions import evaluate, need, value, variables

OF_A_GROUP = "another row of its group was dropped"
Part = str | None


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows that are left, in their order. Keys work in this order: rename, add, where, refusals, together, sample,
    limit, keep, drop.

    Raises DataError where an expression fails or a part has no row left.
    """
    bad = _bad_groups(step)
    left_over: Counter[str] = Counter()
    notes: list[str] = []
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        drawn = _drawn(step, part, bad, notes)
        dropped: Counter[str] = Counter()
        with out.rows(part) as rows:
            survivors = 0
            for row, made, reason in _judged(step, part, bad):
                if reason:
                    dropped[reason] += 1
                    out.reject(row, reason)
                    continue
                survivors += 1
                if drawn is not None and not drawn[survivors - 1]:
                    left_over["not_drawn"] += 1
                elif rows.count >= step.params.get("limit", math.inf):
                    left_over["beyond_the_limit"] += 1
                else:
                    rows.write(_columns(step, made))
        if not rows.count:
            raise DataError(_nothing_left(step, part, dropped))
    return {"metrics": dict(left_over), "notes": notes}


def _judged(step: Step, part: Part, bad: set[str]) -> Iterator[tuple[Row, Row, str | None]]:
    """Each row as it came and as it becomes, with the reason why it is dropped or None."""
    for row in step.rows(part):
        made = _made(step, row)
        reason = _reason(step, made)
        if reason is None and bad and _group(step, made) in bad:
            reason = OF_A_GROUP
        yield row, made, reason


def _made(step: Step, row: Row) -> Row:
    """The row with columns renamed and added; what is added sees what was added before it."""
    rename = step.params.get("rename", {})
    missing = [old for old in rename.values() if old not in row]
    if missing:
        raise DataError(f"{where(row)}: no column '{missing[0]}', which rename: needs. It has: {', '.join(row)}.")
    names = {old: new for new, old in rename.items()}
    if len(names) < len(rename):
        raise StepError(f"{step.name}.rename: one column gets two names. Copy it with add: instead.")
    made = {names.get(column, column): held for column, held in row.items() if column in names or column not in rename}
    for column, template in step.params.get("add", {}).items():
        made[column] = _told(step, f"add.{column}", value, template, made)
    return made


def _told(step: Step, key: str, work: Callable[[Any, dict[str, Any]], Any], text: Any, made: Row) -> Any:
    """What a template or an expression gives for a row; its error names the row and the key."""
    try:
        return work(text, variables(step, made))
    except DataError as error:
        raise DataError(f"{where(made)}: {step.name}.{key}: {error}") from error


def _reason(step: Step, made: Row) -> str | None:
    condition = step.params.get("where")
    if condition is not None and not _told(step, "where", evaluate, condition, made):
        return "where is not met"
    if step.params["refusals"] == "drop" and is_refusal(_text(made)):
        return "a refusal"
    return None


def _text(made: Row) -> str:
    text = need(made, "text", "refusals")
    if not isinstance(text, str):
        raise DataError(
            f"{where(made)}: text is a {type(text).__name__}; refusals: needs words. Map it: columns: {{text: …}}."
        )
    return text


def _columns(step: Step, made: Row) -> Row:
    keep, drop = step.params.get("keep"), step.params.get("drop", [])
    missing = [column for column in [*(keep or []), *drop] if column not in made]
    if missing:
        raise DataError(
            f"{where(made)}: no column '{missing[0]}', which keep: or drop: names. It has: {', '.join(made)}."
        )
    names = made if keep is None else keep
    return {column: made[column] for column in names if column not in drop}


# Groups and samples


def _group(step: Step, made: Row) -> str:
    return canonical(need(made, step.params["together"], "together"))


def _bad_groups(step: Step) -> set[str]:
    """The groups of which a row is dropped, in whatever part."""
    if "together" not in step.params:
        return set()
    parts: tuple[Part, ...] = step.parts() or (None,)
    return {_group(step, made) for part in parts for _, made, reason in _judged(step, part, set()) if reason}


def _drawn(step: Step, part: Part, bad: set[str], notes: list[str]) -> bytearray | None:
    """For each row that is left whether the sample takes it: the rows, or groups, with the smallest places."""
    size = step.params.get("sample")
    if size is None:
        return None
    grouped = "together" in step.params
    places: array[int] = array("Q")
    for row, made, reason in _judged(step, part, bad):
        if not reason:
            places.append(_place(step, _group(step, made) if grouped else row))
    available = len(set(places)) if grouped else len(places)
    wanted = _wanted(step, size, available)
    if wanted > available:
        notes.append(f"{part or step.name}: {wanted} asked for, {available} there; all of them are taken.")
    taken = bytearray(len(places))
    if grouped:
        chosen = set(sorted(set(places))[:wanted])
        return bytearray(place in chosen for place in places)
    for number in sorted(range(len(places)), key=places.__getitem__)[:wanted]:
        taken[number] = 1
    return taken


def _place(step: Step, what: Any) -> int:
    """A place that depends on the seed and the row alone, so that a row added moves at most one other."""
    return int.from_bytes(hashlib.sha256(f"{step.params['seed']}:{canonical(what)}".encode()).digest()[:8])


def _wanted(step: Step, size: float, available: int) -> int:
    if size < 1:
        return max(1, round(Fraction(str(size)) * available))
    if size != int(size):
        raise StepError(f"{step.name}.sample: {size} is neither a share below 1 nor a whole number.")
    return int(size)


def _nothing_left(step: Step, part: Part, dropped: Counter[str]) -> str:
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "no rows came in"
    return f"{step.name}{'.' + part if part else ''}: no row is left ({why}). Loosen where:, or bring more rows."
