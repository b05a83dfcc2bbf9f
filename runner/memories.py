"""Which memory a speaker draws on next: a model is asked, a trained one scores them, or chance decides. Dialogues, chats
and the page share it.

A memory is a text under a name, its aspect: {"hobby": "You play chess."}. What was used often of late, by either
speaker, rests. What must be asked is a script (runner/asking.py); `alone` runs one without a driver.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from runner import prompts
from runner.asking import Answer, Ask, Script
from runner.errors import DataError, StepError
from runner.files import Row, dumps
from runner.step import pick

T = TypeVar("T")
LINE = "{{ speaker }}: {{ utterance }} "  # a turn, as `preprocess: examples` tells it to what learns to choose
NO_MEMORY = "none"
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
Question = Callable[[str], Ask]  # from the open aspects, as one text, to what is asked
Scores = Callable[[Sequence[str]], Sequence[float]]  # a score for each of these memories


@dataclass(frozen=True)
class Choice:
    """The aspect that was chosen and its text, both '' for none.

    how: first (as the recipe says), chosen, otherwise, nothing (none fits), unclear (the answer named no single one)
    """

    aspect: str = ""
    text: str = ""
    how: str = "nothing"


@dataclass(frozen=True)
class Rules:
    """What a recipe's `memory:` says for one role.

    rest:            (uses, among how many of the last), (0, 0) for never
    history, opener: how the talk is told to what scores memories, and whether with its fixed opening
    """

    of: str
    leave_out: frozenset[str] = frozenset()
    first: str | None = None
    otherwise: str | None = None
    chance: float = 1.0
    rest: tuple[int, int] = (0, 0)
    at_least: float | None = None
    score: str | None = None
    history: str = LINE
    opener: bool = True


def rules(params: Mapping[str, Any], role: str | None = None) -> Rules:
    """The rules of a `memory:` mapping with its defaults filled in; keys may be one value, or a mapping by role."""
    rest, otherwise = params.get("rest") or {}, params.get("otherwise") or {}
    return Rules(
        of=for_role(params["of"], role),
        leave_out=frozenset(for_role(params.get("leave_out"), role) or ()),
        first=for_role(params.get("first"), role),
        otherwise=otherwise.get("use"),
        chance=otherwise.get("chance", 1.0),
        rest=(rest["after"], rest["in_last"]) if rest else (0, 0),
        at_least=params.get("at_least"),
        score=params.get("score"),
        history=params.get("history", LINE),
        opener=params.get("opener", True),
    )


def for_role(value: Any, role: str | None) -> Any:
    """One value for all roles, or that of a role; None where the mapping does not have it."""
    return value.get(role) if isinstance(value, dict) else value


def of_person(person: Row, path: str, where: str) -> dict[str, str]:
    """A person's memories by aspect, blank ones left out. Raises DataError where the column holds no object."""
    try:
        held = pick(person, path)
    except (KeyError, TypeError):
        held = None
    if not isinstance(held, dict):
        found = "is missing" if held is None else f"is a {type(held).__name__}"
        raise DataError(f"{where}: '{path}' {found}; memories are an object with a text for each aspect. Check of:.")
    texts = {str(name): value if isinstance(value, str) else dumps(value) for name, value in held.items() if value}
    return {name: text for name, text in texts.items() if text.strip()}


def resting(used: Sequence[str], rest: tuple[int, int]) -> set[str]:
    """The aspects that may not be used now: used `after` times or more among the last `in_last` uses of both speakers."""
    after, in_last = rest
    counts = Counter(used[-in_last:] if in_last else ())
    return {aspect for aspect, count in counts.items() if after and count >= after}


def choices(memories: Mapping[str, str], rule: Rules, used: Sequence[str]) -> list[str]:
    """The aspects that can be chosen now, in the order of the memories."""
    tired = resting(used, rule.rest)
    return [aspect for aspect in memories if aspect not in rule.leave_out and aspect not in tired]


def read(reply: str, names: Sequence[str]) -> str | None:
    """The one aspect that a reply, or else its first line, names; '' for NONE, None where neither names just one.

    Case, quotes and the signs between words do not matter; a name inside a longer one that is named too does not count.
    """
    first = next((line for line in reply.splitlines() if line.strip()), "")
    found = _named(reply, names)
    return _named(first, names) if found is None else found


def _named(text: str, names: Sequence[str]) -> str | None:
    said = f" {_words(text)} "
    found = set()
    for name in sorted({*names, NO_MEMORY}, key=lambda name: (-len(_words(name)), name)):
        plain = _words(name)
        if plain and f" {plain} " in said:
            found.add(name)
            said = said.replace(f" {plain} ", " | ")
    if len(found) != 1:
        return None
    only = found.pop()
    return only if only in names else ""


def _words(text: str) -> str:
    """The words of a text; in writing without spaces between them, each character is one."""
    return " ".join(_WORD.findall(text.casefold()))


def best(scores: Sequence[float], names: Sequence[str], at_least: float | None) -> str:
    """The name with the highest score, the first of equals; '' where it is below at_least."""
    score, name = max(zip(scores, names, strict=True), key=lambda pair: pair[0])
    return "" if at_least is not None and score < at_least else name


def history(turns: Sequence[Mapping[str, Any]], template: str = LINE) -> str:
    """A talk as one text, a template for each turn, as `preprocess: examples` writes it."""
    return "".join(prompts.render(template, dict(turn)) for turn in turns)


def scores_of(scorer: Any, talk: str, score: str | None = None) -> Scores:
    """Scores of memories against a talk by a trained classifier or regressor (runner/scorers.py).

    score: which of its labels or numbers counts, where there are several. Raises StepError where that is not plain.
    """

    def made(texts: Sequence[str]) -> list[float]:
        found = scorer.scores([talk] * len(texts), list(texts))
        return [held[_which(held, score)] for held in found]

    return made


def _which(held: Mapping[str, float], score: str | None) -> str:
    if score is None and len(held) == 1:
        return next(iter(held))
    wanted = "1" if score is None else score  # what `examples` labels a memory that was chosen
    if wanted not in held:
        advice = "Say which counts: score: …."
        raise StepError(f"memory.best_by: its model gives {', '.join(held)}, and no '{wanted}'. {advice}")
    return wanted


def choose(
    rule: Rules,
    memories: Mapping[str, str],
    used: Sequence[str],
    chance: Random,
    ask: Question | None = None,
    scores: Scores | None = None,
    first: bool = False,
) -> Script[Choice]:
    """The memory for a turn. `used` are the aspects used so far by both speakers; with neither ask nor scores, one of
    those that are open is drawn. `first`: this is the speaker's first turn.
    """
    if first and rule.first:
        return Choice(rule.first, memories[rule.first], "first")
    names = choices(memories, rule, used)
    found: str | None = ""
    if names and ask:
        answer: Answer = yield ask(", ".join(names))
        found = read(answer.text, names)
    elif names and scores:
        found = best(scores([memories[name] for name in names]), names, rule.at_least)
    elif names:
        found = chance.choice(names)
    if found:
        return Choice(found, memories[found], "chosen")
    return _otherwise(rule, memories, used, chance) or Choice(how="unclear" if found is None else "nothing")


def _otherwise(rule: Rules, memories: Mapping[str, str], used: Sequence[str], chance: Random) -> Choice | None:
    """What is used where nothing was chosen: by chance, if the person has it and it does not rest."""
    drawn, aspect = chance.random() < rule.chance, rule.otherwise
    if aspect is None or not drawn or aspect not in memories or aspect in resting(used, rule.rest):
        return None
    return Choice(aspect, memories[aspect], "otherwise")


def alone(script: Script[T], answer: Callable[[Ask], Answer]) -> T:
    """Run a script by itself, each question answered at once."""
    try:
        asked = next(script)
        while True:
            asked = script.send([answer(one) for one in asked] if isinstance(asked, list) else answer(asked))
    except StopIteration as ended:
        result: T = ended.value
        return result
