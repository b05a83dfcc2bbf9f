"""`generate: rows`: a model asked about each row, and its answer put into columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner import asking, making
from runner import forecast as forecasts
from runner.answer_shapes import Shape
from runner.errors import StepError
from runner.forecast import Forecast
from runner.making import Numbered
from runner.step import Out, Step
from runner.steps.generate._asked_rows import Asked, Rounds, total
from runner.steps.generate._row_script import Rows


def run(step: Step, out: Out) -> dict[str, Any]:
    """Every row of `from:` with what was answered in its columns, in order; those without a usable answer rejected.

    Raises ServiceError where questions stay without an answer or a budget is used up, StepError where `accept:` rows
    do not come together.
    """
    accept = _accept(step)
    rows, rounds = scripts(step)
    count = total(step)
    facts = making.make(step, out, rows, lambda: asking.speakers(step, out), count, accept, lambda: forecast(step))
    if accept is not None and not step.joins and rounds.passed < accept:
        said = f"{step.name}.accept: {rounds.passed} of {accept} rows pass after {rounds.rounds} rounds"
        raise StepError(f"{said}, and no more come. Look at what is rejected: {out.folder / 'rejected.jsonl'}.")
    return facts


def forecast(step: Step) -> Forecast:
    """What it is going to ask, by the cache and the prompts."""
    prompt, model, decoding = step.prompts.get("prompt"), step.models["model"][0], step.decodings["decoding"]
    rows, _ = scripts(step)
    count = _accept(step) or total(step)
    return forecasts.forecast(step, {"model": (model, decoding)}, rows, count, len(prompt.turns) if prompt else 1)


def scripts(step: Step) -> tuple[Any, Rounds]:
    """What makes the scripts of the step's rows, in order, and the count of those that passed."""
    output, decoding = step.params["output"], step.decodings["decoding"]
    shape = Shape(output, step.params["any_case"]) if isinstance(output, dict) else None
    if shape:
        _ = shape.schema  # says now what is wrong with it
    if "prompt" not in step.prompts and not step.inputs.get("from"):
        raise StepError(f"{step.name}: nothing to ask. Give prompt:, or from: with messages.")
    if step.params.get("accept") and decoding.mode == "greedy":
        advice = "Use mode: sample, or leave accept: out."
        raise StepError(f"{step.name}.accept: '{decoding.name}' answers the same in every round. {advice}")
    rounds, kind = Rounds(step), Rows(step, decoding, shape)

    def counted(asked: Asked) -> Any:
        made = yield from kind.script(asked)
        rounds.tell(sum(one.reason is None for one in made))
        return made

    def all_of_them() -> Iterator[Numbered]:
        numbered = ((asked.number, asked) for asked in rounds)
        return ((number, counted(asked)) for number, asked in making.share(numbered, step.shard))

    return all_of_them, rounds


def _accept(step: Step) -> int | None:
    """How many rows this process's share of `accept:` is."""
    accept = step.params.get("accept")
    if accept is None or step.shard is None:
        return accept
    first, last = step.shard
    return accept * first // last - accept * (first - 1) // last
