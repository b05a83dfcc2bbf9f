"""What a generating step is going to ask, and what that costs, before anything is asked: from its own scripts and the cache.

Each script is run for as long as the cache answers it. Where it does not, the question is counted with the turns after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from runner import questions
from runner.asking import CACHE, Answer, Ask, Script
from runner.replies import Replies
from runner.service import answer_of
from runner.spending import dollars
from runner.step import Decoding, Model, Step

MOST = 2000  # scripts that are looked at; the others are taken to be like them
USUAL = 0.5  # of max_new_tokens, where no answer is there to tell


@dataclass(frozen=True)
class Forecast:
    """Rows, questions still to be asked and answers in the cache; tokens; US dollars, 0 where nothing has a price.

    `most` is with every answer as long as it may be; exact is False where not all rows were looked at.
    """

    rows: int
    questions: int
    known: int
    input: int
    output: int
    most: int
    cost: float
    most_cost: float
    exact: bool = True

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        if not self.questions:
            return f"{self.rows} rows, {about}{self.known} answers in the cache, nothing to ask"
        tokens = f"{_short(self.input)} tokens in, {_short(self.output)} out (at most {_short(self.most)})"
        price = f", about {dollars(self.cost)} (at most {dollars(self.most_cost)})" if self.cost else ""
        held = f", {about}{self.known} answers in the cache" if self.known else ""
        return f"{self.rows} rows: {about}{self.questions} questions, about {tokens}{price}{held}"


def _short(count: int) -> str:
    """12,300 as 12 k."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:,.0f} k" if count < 10_000_000 else f"{count / 1e6:,.0f} M"


class _Peek:
    """A model with a decoding: what the cache holds of its answers, and what is still to be asked of it."""

    def __init__(self, model: Model, decoding: Decoding, seed: int, replies: Replies) -> None:
        self.model, self.decoding, self.seed, self.replies = model, decoding, seed, replies
        self.known = self.known_output = 0
        self.unknown = self.input = 0.0
        self.most = int(decoding.params["max_new_tokens"])
        self.price = model.entry.get("price") or {"input": 0, "output": 0}
        self._how = questions.parameters(decoding) if "endpoint" in model.entry else {}

    def look(self, ask: Ask) -> Answer | None:
        """The answer to a question where the cache holds it."""
        reply = self.replies.get(*self._keys(ask))
        if reply is None:
            return None
        self.known += 1
        self.known_output += reply["output"]
        return answer_of(reply)

    def _keys(self, ask: Ask) -> list[str]:
        if "endpoint" not in self.model.entry:
            return [questions.local_key(self.model, self.decoding, ask, self.seed)]
        body = questions.body(self.model, self._how, ask, None if self.decoding.mode == "greedy" else self.seed)
        return questions.keys(self.model, body, ask)

    def count(self, ask: Ask, turns: float) -> None:
        """A question without an answer, and the turns from it on, each of which is told what was said before it."""
        self.unknown += turns
        self.input += questions.size(ask.messages) * turns + self.usual() * turns * (turns - 1) / 2

    def usual(self) -> float:
        """Tokens of an answer."""
        return self.known_output / self.known if self.known else self.most * USUAL


def _walk(script: Script[object], peeks: Mapping[str, _Peek], turns: float) -> None:
    """Run a script for as long as the cache answers it, and count what is asked then."""
    answered, seen = None, 0
    try:
        while True:
            asked = next(script) if answered is None else script.send(answered)
            asks = asked if isinstance(asked, list) else [asked]
            found = [(ask, peeks[ask.to].look(ask)) for ask in asks]
            missing = [ask for ask, answer in found if answer is None]
            for ask in missing:
                peeks[ask.to].count(ask, max(1.0, turns - seen) if ask is missing[0] else 1.0)
            if missing:
                script.close()
                return
            seen += len(asks)
            answered = [answer for _, answer in found] if isinstance(asked, list) else found[0][1]
    except StopIteration:
        return


def forecast(
    step: Step,
    named: Mapping[str, tuple[Model, Decoding]],
    scripts: Callable[[], Iterable[tuple[int, Script[object]]]],
    total: int,
    turns: float = 1.0,
) -> Forecast:
    """Look ahead at a step. total: its scripts; turns: the questions that follow in a script which has one unanswered."""
    replies = Replies(step.artifacts / CACHE)
    seed, looked = step.params.get("seed", 0), 0
    peeks = {name: _Peek(model, decoding, seed, replies) for name, (model, decoding) in named.items()}
    try:
        for _, script in islice(scripts(), min(total, MOST)):
            _walk(script, peeks, turns)
            looked += 1
    finally:
        replies.close()
    scale = total / looked if looked else 0.0
    output = sum(peek.unknown * peek.usual() for peek in peeks.values())
    most = sum(peek.unknown * peek.most for peek in peeks.values())
    sent = sum(peek.input * peek.price["input"] for peek in peeks.values())
    usual = sum(peek.unknown * peek.usual() * peek.price["output"] for peek in peeks.values())
    longest = sum(peek.unknown * peek.most * peek.price["output"] for peek in peeks.values())
    return Forecast(
        rows=total,
        questions=round(sum(peek.unknown for peek in peeks.values()) * scale),
        known=round(sum(peek.known for peek in peeks.values()) * scale),
        input=round(sum(peek.input for peek in peeks.values()) * scale),
        output=round(output * scale),
        most=round(most * scale),
        cost=(sent + usual) * scale / 1e6,
        most_cost=(sent + longest) * scale / 1e6,
        exact=looked >= total,
    )
