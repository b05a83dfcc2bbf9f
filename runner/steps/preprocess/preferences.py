"""Pairs of a chosen and a rejected answer: of one scenario at two levels, or of a row and the nearest row of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from runner import prompts
from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import Out, Step, listed
from runner.steps.preprocess._expressions import need, variables
from runner.steps.preprocess._pairs import Answers, alike_scenario, nearest_other
from runner.steps.preprocess._same import name, shared
from runner.steps.preprocess._shelf import Shelf

Part = str | None
ALONE = "no other level in its scenario"
FAR = "no answer of another that qualifies"
EQUAL = "both answers are the same"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows with id (of both rows), source, prompt (messages), chosen and rejected (one message each), and `keep:`.

    A row's answer is chosen once for each other level. Raises StepError where the keys or the prompt make no pairs,
    DataError where a row lacks a column, only one level is left, or no pair is.
    """
    _check(step)
    counts: Counter[tuple[str, str]] = Counter()
    notes: list[str] = []
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with Shelf(out.folder) as shelf, out.rows(part) as rows:
            answers = _read(step, part, shelf)
            pairs = _pairs(step, out, answers, shelf, notes)
            for made, levels in _written(step, out, shelf, pairs, answers):
                counts[levels] += 1
                rows.write(made)
        if not rows.count:
            raise DataError(f"{_place(step, part)}: no pair is left of {len(shelf)} rows. {_remedy(step)}")
    table = [[chosen, rejected, count] for (chosen, rejected), count in sorted(counts.items())]
    return {
        "metrics": {"pairs": counts.total()},
        "tables": [{"title": "Pairs", "columns": ["chosen", "rejected", "pairs"], "rows": table[:40]}],
        "notes": notes,
    }


def _check(step: Step) -> None:
    params, prompt = step.params, step.prompts.get("prompt")
    if "same" not in params and "nearest" not in params:
        raise StepError(
            f"{step.name}: say which rows belong together: same: [columns], or nearest: column with model:."
        )
    if "nearest" in params and "model" not in params:
        raise StepError(f"{step.name}.nearest: needs an encoder to compare by. Name one: model: minilm.")
    for key in ("model", "below", "skip"):
        if params.get(key) and "nearest" not in params:
            raise StepError(f"{step.name}.{key}: belongs to nearest: and does nothing with same: alone. Take it out.")
    if prompt and "assistant" not in prompt.turns[-1]:
        raise StepError(
            f"{step.name}.prompt: '{prompt.name}' has no assistant text, so that no answer could be preferred. Add it."
        )


def _read(step: Step, part: Part, shelf: Shelf) -> Answers:
    """Put every row on the shelf as what is asked and answered; what pairs are made by stays in memory."""
    same, other = listed(step.params.get("same")), listed(step.params["other"])
    answers = Answers()
    for row in step.rows(part):
        asked, answer = _said(step, row)
        if not answer:
            out_of_place = (
                "the prompt's assistant text is empty" if "prompt" in step.prompts else "no answer at the end"
            )
            raise DataError(f"{where(row)}: {out_of_place}. Fill it, or drop such rows before.")
        levels = ", ".join(str(need(row, column, "other")) for column in other)
        query = str(need(row, step.params["nearest"], "nearest")) if "nearest" in step.params else None
        answers.add(shared(row, same, "same"), shared(row, other, "other"), levels, query)
        shelf.add({"row": row, "asked": asked, "answer": answer})
    if len(set(answers.levels)) < 2:
        _refuse_one_level(step, part, answers)
    return answers


def _said(step: Step, row: Row) -> tuple[list[prompts.Message], str]:
    """What is asked, and the answer to it: by the prompt, else the last of the row's messages."""
    prompt = step.prompts.get("prompt")
    if prompt is None:
        talk = need(row, "messages", "preferences")
        return talk[:-1], talk[-1]["content"] if talk and talk[-1]["role"] == "assistant" else ""
    held, talk = variables(step, row), []
    for number, turn in enumerate(prompt.turns):
        said = prompts.messages(prompt, held, step.texts, number)
        begun = prompts.render(turn["prefill"], held, prompt.includes) if turn.get("prefill") else ""
        if said and said[-1]["role"] == "assistant":
            said[-1] = {"role": "assistant", "content": begun + said[-1]["content"]}
        talk += said
    return (talk[:-1], talk[-1]["content"]) if talk and talk[-1]["role"] == "assistant" else (talk, "")


def _pairs(
    step: Step, out: Out, answers: Answers, shelf: Shelf, notes: list[str]
) -> Iterable[tuple[int, Sequence[int]]]:
    """Each row's number with the numbers of those whose answers are rejected for its own."""
    if "nearest" not in step.params:
        return alike_scenario(answers)
    from runner import embeddings

    encoder = embeddings.load(step.models["model"][0], step.artifacts, out.log)
    texts = [shelf[number]["answer"] for number in range(len(shelf))]
    with out.progress("embedding", 2 * len(texts)) as advance:
        asked, said = (embeddings.embed(encoder, column, advance) for column in (answers.queries, texts))
    notes += encoder.notes()
    return nearest_other(answers, texts, asked, said, step.params["skip"], step.params.get("below"))


def _written(
    step: Step, out: Out, shelf: Shelf, pairs: Iterable[tuple[int, Sequence[int]]], answers: Answers
) -> Iterator[tuple[Row, tuple[str, str]]]:
    for number, others in pairs:
        own = shelf[number]
        if not others:
            out.reject(own["row"], FAR if "nearest" in step.params else ALONE)
        for other in others:
            theirs = shelf[other]
            if theirs["answer"] == own["answer"]:
                out.reject(own["row"], EQUAL)
                continue
            yield _row(step, own, theirs), (answers.names[number], answers.names[other])


def _row(step: Step, own: Row, theirs: Row) -> Row:
    row = own["row"]
    return {
        "id": f"{name(row)}>{name(theirs['row'])}",
        "source": row.get("source"),
        "prompt": own["asked"],
        "chosen": [{"role": "assistant", "content": own["answer"]}],
        "rejected": [{"role": "assistant", "content": theirs["answer"]}],
        **{column: row.get(column) for column in step.params.get("keep", [])},
    }


def _refuse_one_level(step: Step, part: Part, answers: Answers) -> None:
    column = " and ".join(listed(step.params["other"]))
    has = f"every row has {column} = {answers.names[0]!r}" if answers.names else "no rows came in"
    raise DataError(
        f"{_place(step, part)}: {has}, so that no answer could be preferred to another. "
        "Bring rows of at least two, or name another column: other: …."
    )


def _place(step: Step, part: Part) -> str:
    return f"{step.name}.{part}" if part else step.name


def _remedy(step: Step) -> str:
    if "nearest" in step.params:
        return "Lower skip, or raise below."
    columns = ", ".join(listed(step.params["same"]))
    return f"No two rows with equal {columns} differ in {', '.join(listed(step.params['other']))} and in the answer. Check same and other."
