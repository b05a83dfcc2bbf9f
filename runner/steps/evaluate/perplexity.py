"""`evaluate: perplexity`: the loss of the assistant's tokens, for each model and part, base beside adapter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from runner import chat, models
from runner.chat import Example
from runner.errors import StepError
from runner.files import Row
from runner.models import Loaded
from runner.step import Advance, Out, Step
from runner.steps._losses import Totals, pad, totals

WINDOW = 256  # conversations sorted by length together
TOKENS = 2048  # padded tokens that go through the network together


@dataclass
class Measured:
    """Sums for one model on one part: over learned tokens, and the letters that they stand for."""

    totals: Totals = field(default_factory=Totals)
    letters: int = 0
    left_out: int = 0

    def metrics(self) -> dict[str, Any]:
        loss = self.totals.loss
        bits = self.totals.nll / math.log(2) / max(1, self.letters)
        return {
            "perplexity": round(math.exp(min(loss, 700)), 4),
            "loss": round(loss, 6),
            "accuracy": round(self.totals.accuracy, 6),
            "bits_per_letter": round(bits, 6),
            "tokens": self.totals.tokens,
        }


def _one_part(step: Step) -> str:
    """The part that all rows come from, where it is one; else 'rows'."""
    named = {one.part for one in step.inputs.get("from", ())}
    return (named.pop() if len(named) == 1 else None) or "rows"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Facts with a table of model by part. Raises StepError where a part has no answer to measure."""
    models.prepare(0)
    parts: tuple[str | None, ...] = step.parts() or (None,)
    loaded = models.load(step.models["model"], step.artifacts, out.log)
    made: dict[str, dict[str, Any]] = {one.name: {} for one in loaded}
    notes = []
    for part in parts:
        label = part or _one_part(step)
        total = sum(1 for _ in step.rows(part))
        for one in loaded:
            with out.progress(f"{one.name} on {label}", total) as advance:
                measured = _measure(step, one, part, advance)
            if not measured.totals.tokens:
                raise StepError(f"{step.name}.from: {label}: there is no answer of the assistant to measure.")
            made[one.name][label] = measured.metrics()
            if measured.left_out:
                notes.append(f"{one.name} on {label}: {measured.left_out} exchanges beyond max_length left out.")
    return {"metrics": made, "tables": [_table(made)], "hardware": _hardware(loaded[0]), "notes": notes}


def _measure(step: Step, loaded: Loaded, part: str | None, advance: Advance) -> Measured:
    made, length = Measured(), step.params["max_length"]
    rows = step.rows(part)
    while window := list(islice(rows, WINDOW)):
        examples = list(_examples(loaded, window, length, made))
        with loaded.active() as network:
            for batch in _batches(examples):
                inputs = pad(batch, loaded.tokenizer.pad_token_id, models.device())
                made.totals.add(totals(network, [inputs]))
        advance(len(window))
    return made


def _examples(loaded: Loaded, rows: list[Row], length: int, made: Measured) -> Iterator[Example]:
    for row in rows:
        talk = chat.conversation(row)
        kept, lost = chat.shorten(loaded.tokenizer, talk, length, "split")
        made.left_out += len(lost)
        for messages in kept:
            begun = (row.get("prefill") or "") if messages[-1] is talk[-1] else ""  # given, not said
            said = sum(len(one["content"]) for one in messages if one["role"] == "assistant")
            made.letters += said - len(begun)
            yield chat.encode(loaded.tokenizer, messages, prefill=begun)


def _batches(examples: list[Example]) -> Iterator[list[Example]]:
    """Examples of like length, as many at a time as fit."""
    held: list[Example] = []
    for example in sorted(examples, key=lambda one: len(one["input_ids"])):
        if held and len(example["input_ids"]) * (len(held) + 1) > TOKENS:
            yield held
            held = []
        held.append(example)
    if held:
        yield held


def _table(made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    columns = ["model", "part", "perplexity", "bits a letter", "likeliest token right", "tokens"]
    rows = [
        [
            name,
            part,
            f"{one['perplexity']:.2f}",
            f"{one['bits_per_letter']:.3f}",
            f"{one['accuracy']:.1%}",
            one["tokens"],
        ]
        for name, parts in made.items()
        for part, one in parts.items()
    ]
    return {"title": "Perplexity of the assistant's turns", "columns": columns, "rows": rows}


def _hardware(loaded: Loaded) -> dict[str, Any]:
    return {"device": models.device(), "dtype": str(loaded.weights.network.dtype).removeprefix("torch.")}
