"""From what two sides say to the messages of a row: roles that alternate, and ends that can be learned from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner import prompts
from runner.errors import StepError
from runner.step import Step

Message = dict[str, str]
Said = tuple[str, str]  # role and text

RUNS = "one side speaks twice in a row"
LATE_SYSTEM = "a system message after the first turn"
EMPTY = "an empty turn"
NO_ANSWER = "no answer to learn"


class Unusable(Exception):
    """A dialogue that no row can be made of; the text is the reason."""


def system_text(step: Step) -> str | None:
    """The system text of `prompt:`. Raises StepError where the prompt has none."""
    made = prompts.system(step.prompts.get("prompt"), step.matrix, step.texts)
    if "prompt" in step.prompts and made is None:
        name = step.prompts["prompt"].name
        raise StepError(f"{step.name}.prompt: '{name}' has no system text, and {step.kind} uses nothing else of it.")
    return made


def messages(
    said: list[Said], merge: bool, ends: str, counts: Counter[str], system: str | None = None
) -> list[Message]:
    """The messages of one dialogue; `system` begins it where it has no system message of its own.

    merge: join what one side says in a row with a line break; else such runs are refused
    ends:  cut to the part from the first user turn to the last answer, keep, or reject what would be cut
    Raises Unusable. `counts` learns how many turns were cut (before, after).
    """
    made = alternating(said, merge)
    head = [made.pop(0)] if made and made[0]["role"] == "system" else []
    if system is not None and not head:
        head = [{"role": "system", "content": system}]
    return [*head, *_ends(made, ends, counts)]


def alternating(said: list[Said], merge: bool) -> list[Message]:
    """Messages, a system message first at most, then sides that take turns. Raises Unusable."""
    made: list[Message] = []
    before = None
    for role, text in said:
        if not text or text.isspace():
            raise Unusable(EMPTY)
        if role == "system" and made:
            raise Unusable(LATE_SYSTEM)
        if role != before:
            made.append({"role": role, "content": text})
        elif merge:
            made[-1]["content"] += f"\n{text}"
        else:
            raise Unusable(RUNS)
        before = role
    return made


def _ends(made: list[Message], ends: str, counts: Counter[str]) -> list[Message]:
    first = int(bool(made) and made[0]["role"] == "assistant")
    last = len(made) - int(bool(made) and made[-1]["role"] == "user")
    if ends == "keep":
        first, last = 0, len(made)
    if not any(message["role"] == "assistant" for message in made[first:last]):
        raise Unusable(NO_ANSWER)
    if ends == "reject" and (first, last) != (0, len(made)):
        raise Unusable("begins with an answer" if first else "ends without an answer")
    counts["before"] += first
    counts["after"] += len(made) - last
    return made[first:last]


def cut_metrics(counts: Counter[str]) -> dict[str, Any]:
    return {"cut_before_a_user_turn": counts["before"], "cut_after_the_last_answer": counts["after"]}
