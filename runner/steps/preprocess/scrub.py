"""Rows without what could tell strangers who somebody is: addresses, numbers, tokens, and people's names by others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import Out, Step, listed
from runner.steps.preprocess._scrub_aliases import Aliases, key_of
from runner.steps.preprocess._scrub_patterns import patterns
from runner.steps.preprocess._scrub_people import COLUMNS, People
from runner.steps.preprocess._scrub_text import ORDER, Detect, DropError, ResidueError, Scrubber

UNTOUCHED = ("id", "source", "time", "role", "reply_to", "edited")
PLACE = re.compile(r"(:\d+|#.*)$")


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows with what was found replaced, everything else character by character as it was.

    Names are replaced in every column but id, source, time, role, reply_to and edited. Rows are read twice. Raises
    DataError where something still matches afterwards, StepError for an unknown region or speaker.
    """
    people = People()
    for part in step.parts() or (None,):
        for row in step.rows(part):
            people.learn(row)
    aliases = Aliases(key_of(step), avoid=people.words())
    scrubber = _scrubber(step, people, aliases)
    sources: Counter[str] = Counter()
    for part in step.parts() or (None,):
        with out.rows(part) as rows:
            for row in step.rows(part):
                try:
                    rows.write(_scrubbed(row, people, scrubber, aliases))
                except DropError as found:
                    out.reject(row, f"holds {found}")
                except ResidueError as found:
                    raise DataError(
                        f"{where(row)}: {found} still match after scrubbing. Correct the row by hand, or set {found}: drop."
                    ) from found
                sources[PLACE.sub("", str(row.get("source") or ""))] += 1
        if not rows.count:
            raise DataError(f"{step.name}{f'.{part}' if part else ''}: no row is left. Drop less.")
    return _facts(people, scrubber, sources)


def _scrubber(step: Step, people: People, aliases: Aliases) -> Scrubber:
    """Everything that finds and replaces, the people renamed. Phone numbers' library is loaded only where it is used."""
    actions = {category: step.params[category] for category in ORDER}
    detectors: list[Detect] = [patterns]
    if actions["phones"] != "keep":
        from runner.steps.preprocess import _scrub_phones

        regions = _scrub_phones.known_regions(step.name, listed(step.params.get("region")))
        detectors.append(lambda text: _scrub_phones.phones(text, regions))
    scrubber = Scrubber(detectors, actions, aliases.instead)
    people.give_aliases(aliases, _kept(step, people, scrubber))
    detectors.append(people.find)
    return scrubber


def _kept(step: Step, people: People, scrubber: Scrubber) -> set[str]:
    """Who keeps their names: those of `keep_speakers:`, or all that are no number or address, with `speakers: keep`."""
    kept = set()
    for wanted in step.params.get("keep_speakers", []):
        found = {identity for identity, person in people.people.items() if wanted in (identity, *person.names)}
        if not found:
            raise StepError(
                f"{step.name}.keep_speakers: nobody is called '{wanted}'. Use a name or an id as the rows have it."
            )
        kept |= found
    if step.params["speakers"] == "keep":
        kept |= {who for who, person in people.people.items() if not any(map(scrubber.holds, person.spoken()))}
    return kept


def _scrubbed(row: Row, people: People, scrubber: Scrubber, aliases: Aliases) -> Row:
    made = {}
    for column, value in row.items():
        if column in UNTOUCHED:
            made[column] = value
        elif column in COLUMNS:
            made[column] = _named(column, value, row, people)
        elif column == "conversation" and isinstance(value, str):
            made[column] = f"conversation-{aliases.code(column, value)}" if scrubber.holds(value) else value
        else:
            made[column] = _deep(value, scrubber)
    return made


def _named(column: str, value: Any, row: Row, people: People) -> Any:
    if isinstance(value, list):
        return [people.alias(column, row, str(name)) for name in value]
    return people.alias(column, row, str(value)) if value else value


def _deep(value: Any, scrubber: Scrubber) -> Any:
    """Every text inside a value scrubbed, but for the roles of messages."""
    if isinstance(value, str):
        return scrubber.clean(value)
    if isinstance(value, list):
        return [_deep(item, scrubber) for item in value]
    if isinstance(value, dict):
        return {key: item if key == "role" else _deep(item, scrubber) for key, item in value.items()}
    return value


def _facts(people: People, scrubber: Scrubber, sources: Counter[str]) -> dict[str, Any]:
    counts = scrubber.counts
    rows = [[category, action, counts[category, action]] for category, action in sorted(counts, key=_order)]
    named = sum(scrubber.holds(source) for source in sources)
    notes = (
        [f"source names {named} files by what was scrubbed from the rows; it is left as it is. Rename these files."]
        if named
        else []
    )
    renamed = sum(1 for person in people.people.values() if person.alias)
    return {
        "metrics": {"found": {category: sum(_of(counts, category)) for category in ORDER}, "people_renamed": renamed},
        "tables": [{"title": "Found in texts", "columns": ["what", "action", "times"], "rows": rows}],
        "notes": notes,
    }


def _order(entry: tuple[str, str]) -> tuple[int, str]:
    return ORDER.index(entry[0]), entry[1]


def _of(counts: Counter[tuple[str, str]], category: str) -> Iterator[int]:
    return (count for (found, _), count in counts.items() if found == category)
