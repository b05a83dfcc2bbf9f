"""What a training step learns from: its rows as token ids and labels, and how they look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from runner import chat, models
from runner.chat import IGNORED, Example
from runner.errors import StepError
from runner.step import Out, Step


def parts(step: Step) -> dict[str, str | None]:
    """Role → part: a whole split gives train and validation (never test), plain rows are all for training."""
    found = step.parts()
    if not found:
        return {"train": None}
    if "train" not in found:
        raise StepError(f"{step.name}.from: there are no training rows in it (it has: {', '.join(found)}).")
    return {part: part for part in ("train", "validation") if part in found}


def examples(step: Step, tokenizer: Any, part: str | None, out: Out | None = None) -> Iterator[Example]:
    """What training sees of a part, each example at most `max_length` long; what is left out goes to out.reject."""
    for row in step.rows(part):
        length, too_long = step.params["max_length"], step.params["too_long"]
        made, lost = chat.shorten(tokenizer, chat.conversation(row), length, too_long)
        for messages in made:
            example = chat.encode(tokenizer, messages)
            if any(label != IGNORED for label in example["labels"]):
                yield example
            else:
                lost.append("no answer to learn")
        if out:
            for reason in lost:
                out.reject(row, reason)


def show(step: Step, limit: int) -> dict[str, Any]:
    """The first examples as (text, learned) pieces, the lengths of all, and the tokens learned and in all.

    Loads the tokenizer and no weights. Raises StepError where no token would be learned.
    """
    tokenizer = models.load_tokenizer(step.models["model"][0], step.artifacts)
    part = parts(step)["train"]
    samples = [chat.pieces(tokenizer, example) for example in islice(examples(step, tokenizer, part), limit)]
    lengths, learned = [], 0
    for example in examples(step, tokenizer, part):
        lengths.append(len(example["input_ids"]))
        learned += sum(label != IGNORED for label in example["labels"])
    if not learned:
        raise StepError(f"{step.name}: no token would be learned. Its rows need turns of the assistant.")
    return {"samples": samples, "lengths": lengths, "trained_tokens": learned, "tokens": sum(lengths)}
