"""What a dialogue's step says, role by role: who is told what, and which keys cannot go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from runner import memories
from runner.errors import StepError
from runner.memories import Rules, for_role
from runner.step import Prompt, Step
from runner.steps.generate._dialogue_stop import Stop, stop_of

T = TypeVar("T")
TOLD = ("system", "user", "prefill")  # assistant is what training learns
JUDGE, CHOOSER = "stop.ask", "memory.ask"  # who is asked, beside the roles
Scored = Callable[[str], memories.Scores]  # from a talk, as one text, to the scores of memories


@dataclass(frozen=True)
class Side:
    """One of the two speakers. `memory` None: has no memories; `choose` the prompt that asks which one."""

    role: str
    other: str
    prompt: Prompt
    reminder: Prompt | None
    goodbye: Prompt | None
    opener: str | Sequence[str] | None
    memory: Rules | None
    choose: Prompt | None


@dataclass(frozen=True)
class Setting:
    """All that the dialogues of one step have in common. `scored` is filled in by role where a trained model chooses."""

    step: Step
    sides: Mapping[str, Side]
    stop: Stop
    judge: Prompt | None
    scored: Mapping[str, Scored]

    @property
    def first(self) -> Side:
        """Who speaks first: who opens it, else the first of `between:`."""
        opening = [side for side in self.sides.values() if side.opener is not None]
        return (opening or list(self.sides.values()))[0]


def setting(step: Step) -> Setting:
    """The keys of the step, role by role. Raises StepError, all that is wrong together, where they don't make a dialogue."""
    roles, stop = step.params["between"], step.params["stop"]
    problems = [line for line in _problems(step) if line]
    if problems:
        raise StepError(*(f"{step.name}.{line}" for line in problems))
    sides = {role: _side(step, role, other) for role, other in zip(roles, reversed(roles), strict=True)}
    return Setting(
        step=step,
        sides=sides,
        stop=stop_of(stop),
        judge=_told(step.prompts.get("stop.ask")),
        scored={},
    )


def _side(step: Step, role: str, other: str) -> Side:
    prompt, held = _told(at(step.prompts, "prompt", role)), step.params.get("memory")
    rule = memories.rules(held, role) if held and for_role(held["of"], role) else None
    assert prompt, "the schema asks for a prompt, the check for one of either role"
    opener = step.params.get("opener")
    return Side(
        role=role,
        other=other,
        prompt=prompt,
        reminder=_told(at(step.prompts, "reminder", role)),
        goodbye=_told(at(step.prompts, "goodbye", role)),
        opener=opener.get(role) if isinstance(opener, dict) else opener if role == step.params["between"][0] else None,
        memory=rule,
        choose=_told(at(step.prompts, "memory.ask", role)) if rule else None,
    )


def at(held: Mapping[str, T], path: str, role: str) -> T | None:
    """What a key names: for both roles, or by role."""
    return held.get(path, held.get(f"{path}.{role}"))


def _told(prompt: Prompt | None) -> Prompt | None:
    """A prompt as it is told, without what only training uses."""
    turns = tuple(
        {name: text for name, text in turn.items() if name in TOLD} for turn in (prompt.turns if prompt else ())
    )
    return replace(prompt, turns=turns) if prompt else None


def _problems(step: Step) -> list[str]:
    low, _, high = step.params["stop"]["scale"].partition("..")
    chains = [
        f"{path}: '{prompt.name}' is a chain, and a dialogue has turns of its own. Use a single one."
        for path, prompt in step.prompts.items()
        if len(prompt.turns) > 1
    ]
    blank = [
        f"{path}: '{prompt.name}' has no user text, so nothing would be asked. Add one."
        for path, prompt in step.prompts.items()
        if not path.startswith("prompt") and "user" not in prompt.turns[0]
    ]
    return [
        *chains,
        *blank,
        "stop.scale: its first number must be below its second." if int(low) >= int(high) else "",
    ]
