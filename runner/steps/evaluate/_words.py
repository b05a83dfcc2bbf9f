"""A questionnaire answered in words: each item in a conversation of its own, by the decoding that is given."""

from __future__ import annotations

from typing import Any

from runner import chat, decoding, models
from runner.chat import Message
from runner.inventories import Asked
from runner.step import Model, Out, Step
from runner.steps.evaluate._sheets import parse

Answer = tuple[str | None, dict[str, Any]]


def ask(step: Step, model: Model, questions: list[tuple[Asked, list[Message]]], out: Out) -> list[Answer]:
    """(tag or None, {said}) for each question. The tag is the option's own, wherever it stood."""
    how = step.decodings["decoding"]
    loaded = models.load([model], step.artifacts, out.log, how.models)[0]
    room = loaded.context - how.params["max_new_tokens"]
    talks = [chat.fit(loaded.tokenizer, messages, room) for _, messages in questions]
    told = [
        {**step.matrix, "item": asked.text, "statement": asked.item.text, "texts": step.texts} for asked, _ in questions
    ]
    with out.progress(f"{model.name} answers", len(talks)) as advance:
        said = decoding.answers(loaded, talks, how, step.params["seed"], told, advance)
    found = [parse(text, asked) for text, (asked, _) in zip(said, questions, strict=True)]
    return [(option.tag if option else None, {"said": text}) for option, text in zip(found, said, strict=True)]
