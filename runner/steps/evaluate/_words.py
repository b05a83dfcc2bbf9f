"""A questionnaire answered in words: each item in a conversation of its own, by the decoding that is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner import asking, chat, decoding, models
from runner.asking import Ask, Refused, Script, Unanswered
from runner.chat import Message
from runner.errors import ServiceError
from runner.inventories import Asked
from runner.step import Model, Out, Step
from runner.steps.evaluate._sheets import parse

Answer = tuple[str | None, dict[str, Any]]


def ask(step: Step, model: Model, questions: list[tuple[Asked, list[Message]]], out: Out) -> list[Answer]:
    """(tag or None, {said}) for each question. The tag is the option's own, wherever it stood."""
    talks = [messages for _, messages in questions]
    if "endpoint" in model.entry:
        said = _there(step, model, talks, out)
    else:
        told = [{**step.matrix, "item": asked.text, "statement": asked.item.text} for asked, _ in questions]
        said = _here(step, model, talks, [{**one, "texts": step.texts} for one in told], out)
    found = [parse(text, asked) for text, (asked, _) in zip(said, questions, strict=True)]
    return [(option.tag if option else None, {"said": text}) for option, text in zip(found, said, strict=True)]


def _here(step: Step, model: Model, talks: list[list[Message]], told: list[dict[str, Any]], out: Out) -> list[str]:
    """What weights that are loaded here say."""
    how = step.decodings["decoding"]
    loaded = models.load([model], step.artifacts, out.log, how.models)[0]
    room = loaded.context - how.params["max_new_tokens"]
    fitting = [chat.fit(loaded.tokenizer, messages, room) for messages in talks]
    with out.progress(f"{model.name} answers", len(talks)) as advance:
        return decoding.answers(loaded, fitting, how, step.params["seed"], told, advance)


def _there(step: Step, model: Model, talks: list[list[Message]], out: Out) -> list[str]:
    """What an endpoint says; '' where it refuses a question. Raises ServiceError where one stays without an answer."""
    said = [""] * len(talks)
    named = {"model": (model, step.decodings["decoding"])}
    with asking.speakers(step, out, named) as held, out.progress(f"{model.name} answers", len(talks)) as advance:
        for at, made in asking.drive(_scripts(talks), held, held.at_once):
            if isinstance(made, Unanswered) and not isinstance(made, Refused):
                raise ServiceError(f"{model.name}: {made}. What was answered is kept: run again to go on.")
            said[at] = "" if isinstance(made, Unanswered) else made
            advance(1)
    return said


def _scripts(talks: list[list[Message]]) -> Iterator[tuple[int, Script[str]]]:
    """A question each; the same one again is another sample of it."""
    seen: Counter[str] = Counter()
    for at, messages in enumerate(talks):
        seen[str(messages)] += 1
        yield at, _script(messages, seen[str(messages)] - 1)


def _script(messages: list[Message], sample: int) -> Script[str]:
    answer = yield Ask("model", messages, sample)
    return str(answer.text)
