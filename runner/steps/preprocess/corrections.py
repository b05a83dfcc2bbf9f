"""A person's corrections, applied to the rows that they name."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from runner.errors import DataError
from runner.files import Row, loads, where
from runner.problems import suggest
from runner.step import Out, Step
from runner.steps.preprocess._corrections import DROP, FORMS, Edit, edits
from runner.steps.preprocess._reading import sources

BY_HAND = "dropped by hand"
MOST_TOLD = 20


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows, the corrected ones with their new values; dropped ones are rejected.

    Raises DataError where a correction names no row, several rows, or a column that its row lacks.
    """
    held = edits(sources(step, f"corrections ({', '.join(FORMS)})"))
    counts: Counter[str] = Counter()
    seen: dict[str, str] = {}
    for part in step.parts() or (None,):
        with out.rows(part) as rows:
            for row in step.rows(part):
                edit = held.get(str(row.get("id")))
                if edit is None:
                    rows.write(row)
                    continue
                _refuse_namesake(row, seen, edit)
                if edit.drop:
                    counts[DROP] += 1
                    out.reject(row, BY_HAND)
                    continue
                changed = {**row, **_new(row, edit)}
                counts["changed" if changed != row else "same"] += 1
                rows.write(changed)
        if not rows.count:
            raise DataError(f"{step.name}{f'.{part}' if part else ''}: no row is left after the corrections.")
    _refuse_unknown(step, held, seen)
    figures = {"corrected": counts["changed"], "dropped": counts[DROP], "already_so": counts["same"]}
    return {"metrics": {"corrections": len(held), **figures}}


def _new(row: Row, edit: Edit) -> Row:
    """The new values; those from a table's cells become what the column held: a number, a list, a text."""
    made = {}
    for name, value in edit.values.items():
        if name not in row:
            raise DataError(
                f"{edit.places[0]}: row '{row['id']}' has no column '{name}'.{suggest(name, row, 'It has')}"
            )
        made[name] = value
        if edit.typed and not isinstance(row[name], str | None):
            try:
                made[name] = loads(value)
            except ValueError as error:
                raise DataError(
                    f"{edit.places[0]}: {name} is {value!r}, where row '{row['id']}' has {row[name]!r:.40}."
                ) from error
    return made


def _refuse_namesake(row: Row, seen: dict[str, str], edit: Edit) -> None:
    identity = str(row["id"])
    if identity in seen:
        raise DataError(
            f"{edit.places[0]}: id '{identity}' names two rows, {seen[identity]} and {where(row)}. Make ids unique first."
        )
    seen[identity] = where(row)


def _refuse_unknown(step: Step, held: dict[str, Edit], seen: dict[str, str]) -> None:
    unknown = [identity for identity in held if identity not in seen]
    if not unknown:
        return
    known = {str(row.get("id")) for part in step.parts() or (None,) for row in step.rows(part)}
    lines = []
    for identity in islice(unknown, MOST_TOLD):
        near = suggest(identity, known if len(known) < 100_000 else ())
        lines.append(
            f"{held[identity].places[0]}: no row has the id '{identity}'.{near if near.startswith(' Did') else ' Look it up with make show.'}"
        )
    if len(unknown) > MOST_TOLD:
        lines.append(f"{step.name}: {len(unknown) - MOST_TOLD} more corrections name no row.")
    raise DataError(*lines)
