"""What a speaker, a judge and a chooser of memories are told: the prompts' variables, and the talk as messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runner import prompts
from runner.asking import Message
from runner.errors import StepError
from runner.files import Row
from runner.step import Prompt
from runner.steps.generate._dialogue_sides import Setting, Side


def variables(setting: Setting, row: Row, turns: Sequence[Row], side: Side) -> dict[str, Any]:
    """What prompts may use: the columns, the matrix values, and the talk so far as this side sees it."""
    own: dict[str, Any] = {
        "role": side.role,
        "me": row[side.role],
        "other": row[side.other],
        "heard": last(turns, side.other),
        "said": last(turns, side.role),
        "memory": "",
        "choices": "",
        "transcript": transcript(turns),
        "turn": len(turns),
    }
    return {**row, **setting.step.matrix, **own}


def last(turns: Sequence[Row], role: str) -> str:
    """What a role said last, '' for nothing yet."""
    return next((turn["utterance"] for turn in reversed(turns) if turn["speaker"] == role), "")


def transcript(turns: Sequence[Row]) -> str:
    """The talk, a line for each turn."""
    return "\n".join(f"{turn['speaker']}: {turn['utterance']}" for turn in turns)


def names(row: Row, setting: Setting) -> Iterator[str]:
    """What the two are called, in their rows or in an object there, such as a profile."""
    for person in (row[role] for role in setting.sides):
        for held in (person, *person.values()) if isinstance(person, dict) else ():
            if isinstance(held, dict) and isinstance(held.get("name"), str):
                yield held["name"]


def messages(
    setting: Setting, side: Side, wrap: Prompt | None, held: dict[str, Any], turns: Sequence[Row]
) -> list[Message]:
    """The talk as this side lives it. What was last heard is replaced, for this turn only, by the wrap's user text.

    Raises StepError where nothing is said to who begins.
    """
    told = _rendered(setting, side.prompt, held)
    told |= _rendered(setting, wrap, held) if wrap else {}
    talk = [
        {"role": "assistant" if turn["speaker"] == side.role else "user", "content": turn["utterance"]}
        for turn in turns
    ]
    if "user" in told:
        talk = [*talk[:-1], {"role": "user", "content": told["user"]}]
    if not talk:
        advice = "Give opener:, or a reminder: that says how to begin."
        raise StepError(f"{setting.step.name}: nothing is said to '{side.role}', who begins. {advice}")
    return [*_system(told), *talk, *_begun(told)]


def question(setting: Setting, prompt: Prompt, held: dict[str, Any]) -> list[Message]:
    """A question beside the talk."""
    told = _rendered(setting, prompt, held)
    return [*_system(told), {"role": "user", "content": told.get("user", "")}, *_begun(told)]


def _rendered(setting: Setting, prompt: Prompt, held: dict[str, Any]) -> dict[str, str]:
    """A prompt's texts by role; blank ones are left out."""
    texts = setting.step.texts
    made = {turn["role"]: turn["content"] for turn in prompts.messages(prompt, held, texts)}
    prefill = prompt.turns[0].get("prefill")
    return {**made, "prefill": prompts.render(prefill, {**held, "texts": texts}, prompt.includes)} if prefill else made


def _system(told: dict[str, str]) -> list[Message]:
    return [{"role": "system", "content": told["system"]}] if "system" in told else []


def _begun(told: dict[str, str]) -> list[Message]:
    return [{"role": "assistant", "content": told["prefill"]}] if told.get("prefill") else []
