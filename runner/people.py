"""The person of a chat: a row chosen by hand, by chance or by a trained scorer; its memories; passages for a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from runner import memories, prompts
from runner.asking import Answer, Ask
from runner.chat import Message
from runner.errors import DataError, StepError
from runner.files import Row, dumps
from runner.memories import Choice, Rules
from runner.problems import suggest
from runner.step import Prompt, pick

Score = Callable[[str, Sequence[str]], Sequence[float]]  # of a text with each of these
MOST_SHOWN = 40  # letters of a person's name


@dataclass(frozen=True)
class People:
    """The rows to choose from.

    name: the prompt's variable; label: the column that they are called by
    column: what `score` reads of them; statement: what it learned to compare that with, such as seeker.statement.seeker
    """

    name: str
    rows: list[Row]
    which: str | int | None = None
    label: str | None = None
    column: str | None = None
    score: Score | None = None
    statement: str | None = None

    def called(self, at: int) -> str:
        """A row's name for the user: the column that the recipe says, its id, its number."""
        row = self.rows[at]
        try:
            value = pick(row, self.label or "id")
        except (KeyError, TypeError):
            value = None
        text = " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
        return (text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…") or str(at + 1)

    def at_first(self, seed: int) -> int:
        """Who it is before anything is said."""
        if self.which == "random":
            return Random(seed).randrange(len(self.rows))
        return 0 if self.which is None else self.find(str(self.which))

    def find(self, which: str) -> int:
        """The row of an id, a name or a number from 1, in this order. Raises StepError where there is none or several."""
        wanted = which.strip()
        ids = [str(row.get("id")) for row in self.rows]
        for held in (ids, [self.called(at) for at in range(len(self.rows))]):
            found = [at for at, one in enumerate(held) if one.casefold() == wanted.casefold()]
            if len(found) > 1:
                numbers = ", ".join(str(at + 1) for at in found[:10])
                raise StepError(f"{self.name}: {len(found)} people are called '{wanted}'. Say a number: {numbers}.")
            if found:
                return found[0]
        if wanted.isdecimal() and 1 <= int(wanted) <= len(self.rows):
            return int(wanted) - 1
        names = [self.called(at) for at in range(len(self.rows))]
        hint = suggest(wanted, names) or f" There are {len(self.rows)}: say a number from 1, an id or a name."
        raise StepError(f"{self.name}: nobody is called '{wanted}'.{hint}")

    def ranked(self, statement: str) -> list[tuple[int, float]]:
        """Everybody with the scorer's number for this statement, the best first. Raises StepError without a scorer."""
        if self.score is None or self.column is None:
            raise StepError(f"{self.name}: nothing scores who fits. Give person: a best_by: in the recipe.")
        texts = [_text(self.rows[at], self.column, self.called(at)) for at in range(len(self.rows))]
        scores = self.score(statement, texts)
        return sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))


def _text(row: Row, column: str, who: str) -> str:
    try:
        value = pick(row, column)
    except (KeyError, TypeError) as error:
        raise DataError(f"{row.get('source') or who}: has no value at '{column}', which best_by reads.") from error
    return value if isinstance(value, str) else dumps(value)


@dataclass(frozen=True)
class Memory:
    """How a memory is chosen for the next answer: by a prompt that the entry's own model is asked, by a scorer, by chance.

    bot, user: what the two are called in the history that the scorer reads
    """

    rule: Rules
    bot: str
    user: str = "user"
    question: Prompt | None = None
    score: Score | None = None
    opener: bool = True
    texts: dict[str, Any] = field(default_factory=dict)

    def choose(
        self,
        person: Row,
        talk: Sequence[Message],
        used: Sequence[str],
        chance: Random,
        values: dict[str, Any],
        answer: Callable[[list[Message]], str],
    ) -> Choice:
        """talk: what was said so far, the user's last words at the end; used: the aspects of the answers before."""
        held = memories.of_person(person, self.rule.of, "person")
        if self.rule.first and self.rule.first not in held:
            raise DataError(f"person: has no memory '{self.rule.first}', which memory.first names.")
        asked = self._question(person, talk, values) if self.question else None
        first = sum(one["role"] == "assistant" for one in talk[1:]) == 0
        scores = self._scores(talk) if self.score else None
        script = memories.choose(self.rule, held, used, chance, asked, scores, first)
        return memories.alone(script, lambda ask: Answer(answer(list(ask.messages))))

    def _turns(self, talk: Sequence[Message]) -> list[dict[str, str]]:
        names = {"assistant": self.bot, "user": self.user}
        return [{"speaker": names[one["role"]], "utterance": one["content"]} for one in talk]

    def _scores(self, talk: Sequence[Message]) -> memories.Scores:
        turns = self._turns(talk)
        opened = bool(turns) and turns[0]["speaker"] == self.bot and not self.opener
        told = memories.history(turns[1:] if opened else turns, self.rule.history)
        score = self.score
        assert score is not None
        return lambda texts: score(told, texts)

    def _question(self, person: Row, talk: Sequence[Message], values: dict[str, Any]) -> memories.Question:
        turns = self._turns(talk)
        said = next((one["utterance"] for one in reversed(turns) if one["speaker"] == self.bot), "")
        told = {
            **values,
            "role": self.bot,
            "me": person,
            "heard": turns[-1]["utterance"] if turns else "",
            "said": said,
            "memory": "",
            "transcript": "\n".join(f"{one['speaker']}: {one['utterance']}" for one in turns),
        }
        question = self.question
        assert question is not None
        return lambda choices: Ask("model", prompts.messages(question, {**told, "choices": choices}, self.texts))
