"""A step of `generate: dialogue` and people for it, as the executor hands them over; answers come from a function."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from runner import asking, schema
from runner.asking import Answer, Ask, Unanswered
from runner.step import Decoding, Input, Model, Prompt, Step
from runner.steps.generate._dialogue_sides import CHOOSER, JUDGE, setting
from runner.steps.generate._dialogue_talk import Talk

ASPECTS = {"hobby": "You row.", "family": "You have a twin.", "worry": "You fear exams.", "extra": "You sing."}
PROMPTS = {
    "prompt": {"system": "{{ me.statement }} ({{ role }})"},
    "reminder": {"user": "{{ heard }} [{{ role }}; {{ memory }}]"},
    "memory.ask": {"user": "Which? {{ heard }} Of: {{ choices }}"},
    "stop.ask": {"user": "Mood of: {{ said }}"},
    "goodbye": {"user": "{{ heard }} [bye]"},
}
MEMORY = {"of": "aspects", "leave_out": ["extra"], "ask": "remember"}
STOP = {"ask": "mood", "of": "seeker", "at_least": 4, "last": 2, "after": 5, "turns": 19}
BASE = {
    "from": "pairs",
    "between": ["seeker", "supporter"],
    "model": "m",
    "decoding": "d",
    "opener": {"seeker": "Hello"},
}


def pair(name: str = "1+2", **columns: Any) -> dict[str, Any]:
    people = {
        role: {"name": role.title(), "statement": f"You are {role}.", "aspects": ASPECTS} for role in BASE["between"]
    }
    return {"id": name, **people, **columns}


GREEDY = Decoding("d", "greedy", {"max_new_tokens": 9})


def step(
    prompts: dict[str, Any] | None = None,
    folder: Path = Path(),
    inputs: tuple[Input, ...] = (),
    models: dict[str, Model] | None = None,
    decodings: dict[str, Decoding] | None = None,
    shard: tuple[int, int] | None = None,
    joins: tuple[Path, ...] = (),
    **keys: Any,
) -> Step:
    """A step whose prompts are those of PROMPTS, less those whose key is not given; {path: turn} puts others there."""
    given = schema.defaults(
        schema.fragment("generate", "dialogue"), {**BASE, "goodbye": "bye", "reminder": "r", **keys}
    )
    texts = {**PROMPTS, **(prompts or {})}
    chosen = {path: text for path, text in texts.items() if text is not None and _is_given(path, given)}
    return Step(
        name="talks",
        verb="generate",
        kind="dialogue",
        params={key: value for key, value in given.items() if value is not None},
        artifacts=folder,
        inputs={"from": inputs} if inputs else {},
        models={path: (model,) for path, model in (models or {"model": Model("m", {"load": "m"})}).items()},
        prompts={
            path: Prompt(path, tuple(text) if isinstance(text, list) else (text,)) for path, text in chosen.items()
        },
        decodings=decodings or {"decoding": GREEDY},
        shard=shard,
        joins=joins,
    )


def _is_given(path: str, given: dict[str, Any]) -> bool:
    held: Any = {"prompt": "p", **given}
    for key in path.split("."):
        held = held.get(key) if isinstance(held, dict) else None
    return held is not None or (path.count(".") == 1 and path.split(".")[1] in BASE["between"])


Says = Callable[[Ask], str | Answer]


class Answers:
    """A speaker who answers at once, by a function; what that raises is the answer's failure."""

    at_once = 8

    def __init__(self, says: Says) -> None:
        self.says = says

    def submit(self, ask: Ask) -> Future[Answer]:
        future: Future[Answer] = Future()
        try:
            said = self.says(ask)
            future.set_result(said if isinstance(said, Answer) else Answer(said))
        except Unanswered as error:
            future.set_exception(error)
        return future

    def flush(self) -> None: ...

    def close(self, patience: float) -> None: ...


def talk(says: Says, row: dict[str, Any] | None = None, held: Step | None = None, **keys: Any) -> dict[str, Any]:
    """What one dialogue makes, `says` answering every question. Raises Unanswered where a question stays without one."""
    row = row or pair()
    one = Talk(setting(held or step(**keys)), row, str(row["id"]))
    asked = [*BASE["between"], JUDGE, *(f"{CHOOSER} {role}" for role in BASE["between"])]
    ((_, made),) = asking.drive([(0, one.script())], dict.fromkeys(asked, Answers(says)), 1)
    if isinstance(made, Unanswered):
        raise made
    return {**made, "counts": one.counts}


def plain(ask: Ask) -> str:
    """Speakers who say something, a chooser who wants nothing, a judge who is not impressed."""
    asked = ask.messages[-1]["content"]
    if ask.to.startswith("memory.ask"):
        return "NONE"
    return "2" if ask.to == "stop.ask" else f"{ask.to} hears {len(asked)} letters"


def utterances(made: dict[str, Any]) -> list[str]:
    return [turn["utterance"] for turn in made["turns"]]
