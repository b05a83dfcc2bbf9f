"""A dialogue's turns as examples: who is learned, from where the talk is told, and which memories were at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.errors import DataError
from runner.files import Row, dumps, where
from runner.prompts import render
from runner.step import Step, pick

BOTH = "both"
LINE = "{{ speaker }}: {{ utterance }} "  # how a turn is told where `history:` says nothing
FIELDS = {"speaker": "speaker", "utterance": "utterance", "memory": "memory"}


@dataclass(frozen=True)
class Turn:
    """One utterance; `memory` is what its speaker had in mind, '' for nothing."""

    number: int
    speaker: str
    utterance: str
    memory: str


@dataclass(frozen=True)
class Moment:
    """A turn to learn, with the turns before it."""

    row: Row
    turn: Turn
    before: list[Turn]


def moments(step: Step, row: Row) -> Iterator[Moment]:
    """The turns of the chosen speaker, each with the talk before it.

    Without the opener, the first turn is left out and the talk begins with the first turn that may be learned.
    """
    turns = _turns(step, row)
    speaker, opener = step.params["speaker"], step.params["opener"]
    spoken = [turn for turn in turns if speaker in (BOTH, turn.speaker) and (opener or turn.number > 0)]
    start = 0 if opener or not spoken else spoken[0].number
    for turn in spoken:
        if turn.number >= step.params["from_turn"]:
            yield Moment(row, turn, turns[start : turn.number])


def _turns(step: Step, row: Row) -> list[Turn]:
    held = row.get("turns")
    if not isinstance(held, list):
        raise DataError(
            f"{where(row)}: turns is no list of turns. Map the column that holds them: columns: {{turns: …}}."
        )
    fields = {**FIELDS, **step.params.get("turn", {})}
    return [_turn(row, number, one, fields) for number, one in enumerate(held)]


def _turn(row: Row, number: int, held: Any, fields: dict[str, str]) -> Turn:
    try:
        speaker, utterance = pick(held, fields["speaker"]), pick(held, fields["utterance"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where(row)}: turn {number} has no {error.args[0]!r}. Say where its fields are: turn: {{utterance: …}}."
        ) from error
    try:
        memory = pick(held, fields["memory"])
    except (KeyError, TypeError):
        memory = None
    if not isinstance(speaker, str) or not isinstance(utterance, str):
        raise DataError(f"{where(row)}: speaker and utterance of turn {number} must be texts.")
    return Turn(number, speaker, utterance, _text(memory))


def _text(held: Any) -> str:
    return held if isinstance(held, str) else "" if held is None else dumps(held)


def history(step: Step, before: list[Turn]) -> Any:
    """The talk before a turn: one text, or a list of objects where `history:` is a mapping."""
    shape = step.params.get("history", LINE)
    told = [
        {"speaker": turn.speaker, "utterance": turn.utterance, "memory": turn.memory, "turn": turn.number}
        for turn in before
    ]
    if isinstance(shape, str):
        return "".join(render(shape, one) for one in told)
    return [{name: render(text, one) for name, text in shape.items()} for one in told]


def memories(step: Step, moment: Moment) -> Iterator[tuple[str, str]]:
    """(aspect, text) of every other memory that the speaker could have had in mind, in the order of the column."""
    speaker = moment.turn.speaker
    path = f"{speaker}.{step.params['memories']}"
    try:
        held = pick(moment.row, path)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where(moment.row)}: no memories in '{path}'. Say which column of the speaker holds them: memories: …."
        ) from error
    if not isinstance(held, dict):
        raise DataError(
            f"{where(moment.row)}: '{path}' is a {type(held).__name__}; memories are an object, a text for each aspect."
        )
    out = step.params.get("leave_out", [])
    left_out = out.get(speaker, []) if isinstance(out, dict) else out
    for aspect, value in held.items():
        text = _text(value)
        if aspect not in left_out and text.strip() and text != moment.turn.memory:
            yield aspect, text


def variables(step: Step, moment: Moment) -> dict[str, Any]:
    """What the prompt of a turn sees beside the row's columns."""
    role, row = moment.turn.speaker, moment.row
    others = [turn.speaker for turn in moment.before[::-1] if turn.speaker != role]
    others = others or [turn.speaker for turn in _turns(step, row) if turn.speaker != role]
    people = {"me": role, "other": others[0] if others else ""}
    return {
        "role": role,
        "turn": moment.turn.number,
        "utterance": moment.turn.utterance,
        "memory": moment.turn.memory,
        "heard": _last(moment.before, role, mine=False),
        "said": _last(moment.before, role, mine=True),
        "history": history(step, moment.before),
        **{name: row[speaker] for name, speaker in people.items() if speaker in row},
    }


def _last(before: list[Turn], role: str, mine: bool) -> str:
    return next((turn.utterance for turn in before[::-1] if (turn.speaker == role) == mine), "")
