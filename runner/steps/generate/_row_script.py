"""One row's questions as a script: a turn after the other, and the shape of the answer seen to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner import chat, cleaning, prompts, questions
from runner.answer_shapes import Misshapen, Shape
from runner.asking import Answer, Ask, Message, Refused, Script
from runner.errors import DataError
from runner.files import Row, digest
from runner.making import Made
from runner.refusals import is_refusal
from runner.step import Decoding, Prompt, Step
from runner.steps.generate._asked_rows import Asked

UNFIT, FILTERED, TURNED_DOWN = "not of the shape asked for", "content filter", "the model does not take the question"
REFUSAL, CUT_OFF, NOTHING, UNWANTED = "refusal", "cut off", "nothing left of the answer", "where: does not hold"


TOLD = ("system", "user", "prefill")  # assistant is what training learns


class Unfit(Exception):
    """An answer that makes no row; the text is the reason."""


class Turn(NamedTuple):
    """What is asked at once: the messages that are added, what the answer is begun with, and its shape."""

    messages: list[Message]
    begun: str
    schema: dict[str, Any] | None = None


@dataclass
class Told:
    """The questions and answers of one row so far."""

    talk: list[Message] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, holds: bool = True) -> None:
        if holds:
            self.counts[name] = self.counts.get(name, 0) + 1


@dataclass(frozen=True)
class Rows:
    """A step's way of asking: the same for all of its rows."""

    step: Step
    decoding: Decoding
    shape: Shape | None

    def script(self, asked: Asked) -> Script[list[Made]]:
        """Ask about a row; what comes of it is one row, rejected where the answer is of no use."""
        row = asked.row
        variables = {**row, **self.step.matrix}
        when = self.step.params.get("when")
        if when and not prompts.evaluate(when, {**variables, "texts": self.step.texts}):
            return [Made(self._unasked(row), asked.part, counts={"not_asked": 1})]
        told = Told()
        try:
            made = yield from self._row(asked, variables, told)
        except Unfit as error:
            return [self._made(asked, row, told, str(error))]
        except Refused as error:
            return [self._made(asked, row, told, TURNED_DOWN, str(error))]
        return [self._made(asked, made, told)]

    def _unasked(self, row: Row) -> Row:
        """The row as it is; a column that others get is there all the same."""
        output = self.step.params["output"]
        names = [output] if self.shape is None else list(self.shape.schema.get("properties", {}))
        return {**row, **{name: None for name in names if name.split(".")[0] not in row}}

    # Asking

    def _row(self, asked: Asked, variables: Row, told: Told) -> Script[Row]:
        """The row with what is answered in it. Raises Unfit."""
        for turn in self._turns(asked.row, variables):
            told.talk += turn.messages
            answer = yield from self._ask(asked, variables, told, turn)
        held: Any = answer.text
        if self.shape:
            held = yield from self._shaped(asked, variables, told, turn, answer)
        return self._wanted(asked.row, self._cleaned(held, told), answer)

    def _shaped(self, asked: Asked, variables: Row, told: Told, turn: Turn, answer: Answer) -> Script[dict[str, Any]]:
        """The value in the answer; the model is told what is wrong with it, and asked again."""
        assert self.shape
        for attempt in range(self.step.params["repair"] + 1):
            try:
                value = self.shape.read(told.talk[-1]["content"])
                told.count("repaired", attempt > 0)
                return value
            except Misshapen as error:
                if attempt == self.step.params["repair"]:
                    break
                said = f"That is not what was asked for: {error}. {self.shape.told}"
            told.talk.append({"role": "user", "content": said})
            answer = yield from self._ask(asked, variables, told, Turn([], "", turn.schema))
        refused = any(is_refusal(one.text) for one in told.answers)
        told.count("refusals", refused)
        raise Unfit(REFUSAL if refused else CUT_OFF if answer.finish == "length" else UNFIT)

    def _turns(self, row: Row, variables: Row) -> list[Turn]:
        prompt = self.step.prompts.get("prompt")
        made = [self._turn(prompt, turn, variables) for turn in prompt.turns] if prompt else [_own(row)]
        if self.shape:
            made[-1] = Turn(_with(made[-1].messages, self.shape.told), made[-1].begun, self.shape.schema)
        return made

    def _turn(self, prompt: Prompt, turn: dict[str, str], variables: Row) -> Turn:
        held = {**variables, "texts": self.step.texts}
        texts = {role: prompts.render(turn[role], held, prompt.includes).strip() for role in TOLD if turn.get(role)}
        asks = [{"role": role, "content": texts[role]} for role in ("system", "user") if texts.get(role)]
        return Turn(asks, texts.get("prefill", ""))

    def _ask(self, asked: Asked, variables: Row, told: Told, turn: Turn) -> Script[Answer]:
        given = [{"role": "assistant", "content": turn.begun}] if turn.begun else []
        ask = Ask("model", [*told.talk, *given], asked.sample, turn.schema, variables)
        answer: Answer = yield ask
        told.asks.append(ask)
        told.answers.append(answer)
        told.count("cut_off", answer.finish == "length")
        told.count("content_filter", answer.finish == "content_filter")
        if answer.finish == "content_filter":
            raise Unfit(FILTERED)
        between = " " if turn.begun and turn.begun[-1].isalnum() and answer.text[:1].isalnum() else ""
        told.talk.append({"role": "assistant", "content": turn.begun + between + answer.text})
        return answer

    # Taking the answer in

    def _cleaned(self, value: Any, told: Told) -> Any:
        """A text, or all texts in an object, by the rules of `clean:`. Raises Unfit where nothing is left."""
        if isinstance(value, dict):
            return {name: self._cleaned(held, told) for name, held in value.items()}
        if isinstance(value, list):
            return [self._cleaned(held, told) for held in value]
        if not isinstance(value, str):
            return value
        heard = next((one["content"] for one in reversed(told.talk) if one["role"] == "user"), "")
        text = cleaning.clean(self.step.params.get("clean") or (), value, heard=heard)
        refused = is_refusal(value)
        told.count("refusals", refused)
        if not text:
            raise Unfit(NOTHING)
        if refused and self.step.params["refusals"] == "drop":
            raise Unfit(REFUSAL)
        return text

    def _wanted(self, row: Row, value: Any, answer: Answer) -> Row:
        """The row with its new columns. Raises Unfit where the recipe does not want it."""
        if answer.finish == "length" and self.step.params["cut_off"] == "drop":
            raise Unfit(CUT_OFF)
        made = {**row, **value} if self.shape else _put(row, self.step.params["output"].split("."), value)
        where = self.step.params.get("where")
        if where and not prompts.evaluate(where, {**made, **self.step.matrix, "texts": self.step.texts}):
            raise Unfit(UNWANTED)
        return made

    def _made(self, asked: Asked, row: Row, told: Told, reason: str | None = None, why: str = "") -> Made:
        """What becomes of the row, and how its answers came about."""
        name = asked.row["id"]
        side = [{"id": name, "request": one.request} for one in told.answers if one.request]
        side += [{"id": name, "why": why}] if why else []
        return Made(row, asked.part, reason, [self._provenance(asked, told)], side, told.counts)

    def _provenance(self, asked: Asked, told: Told) -> Row:
        """Who was asked what and how, as digests where it is long; the same in every run."""
        model, seed = self.step.models["model"][0], self.step.params["seed"]
        sampled = self.decoding.mode != "greedy"
        return {
            "id": asked.row["id"],
            "model": model.entry.get("model") or model.entry.get("load") or questions.identity(model)[0],
            "decoding": {"mode": self.decoding.mode, **self.decoding.params},
            "sample": asked.sample,
            "answers": [
                {
                    "asked": digest([list(ask.messages), ask.schema])[:20],
                    "finish": answer.finish,
                    **({"seed": questions.seed_of(seed, ask)} if sampled else {}),
                }
                for ask, answer in zip(told.asks, told.answers, strict=True)
            ],
        }


def _own(row: Row) -> Turn:
    """A row's own conversation, without the answer that it ends with."""
    messages = chat.conversation(row)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise DataError(f"{row.get('source') or row['id']}: its messages hold no question. Drop such rows before.")
    return Turn(messages, "")


def _with(messages: list[Message], shape: str) -> list[Message]:
    """The messages with the shape of the answer told at the end of what the user says."""
    if messages and messages[-1]["role"] == "user":
        return [*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n\n{shape}"}]
    return [*messages, {"role": "user", "content": shape}]


def _put(row: Row, path: list[str], value: Any) -> Row:
    """The row with a value at a path, what is on the way copied. Raises DataError where something else stands there."""
    if len(path) == 1:
        return {**row, path[0]: value}
    inner = row.get(path[0], {})
    if not isinstance(inner, dict):
        raise DataError(
            f"{row.get('source') or row.get('id')}: column '{path[0]}' is no object to put '{path[1]}' into."
        )
    return {**row, path[0]: _put(inner, path[1:], value)}
