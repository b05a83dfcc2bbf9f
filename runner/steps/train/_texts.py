"""The rows of a classifier step as token ids with what is learned of each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from datasets import Dataset

from runner import encoding, heads
from runner.errors import StepError
from runner.heads import About
from runner.step import Out, Step
from runner.steps._targets import windows
from runner.steps.train import _classify, _labels, _lessons
from runner.steps.train._labels import Target


def about(step: Step, target: Target) -> About:
    first = next((row for row in step.rows(_lessons.parts(step)["train"])), {})
    keys, pairs = step.params, first.get("text_pair") is not None
    towers = bool(keys.get("towers"))
    if towers and not pairs:
        raise StepError(
            f"{step.name}.towers: compares text with text_pair, and there is no text_pair. Map it in columns:."
        )
    return About(target.predict, target.labels, keys["max_length"], keys["keep"], pairs, towers)


def examples(
    step: Step, tokenizer: Any, about: About, target: Target, part: str | None, out: Out | None
) -> Iterator[Any]:
    def reject(row: Any, reason: str) -> None:
        if out:
            out.reject(row, reason)

    cut = 0
    for rows, texts, pairs in windows(step.rows(part), bool(about.pairs), reject):
        encoded, longer = about.encode(tokenizer, texts, pairs)
        cut += longer
        for row, made in zip(rows, encoded, strict=True):
            try:
                yield {**made, "labels": target.of(row)}
            except ValueError as reason:
                reject(row, str(reason))
    if cut and out:
        kept = {"start": "beginnings", "end": "ends"}[about.keep]
        target.notes.append(
            f"{cut} texts of {part or 'the rows'} are longer than {about.length} tokens: their {kept} are read."
        )
        out.log(target.notes[-1])


def stored(step: Step, out: Out, tokenizer: Any, about: About, target: Target, role: str) -> Dataset:
    part = _lessons.parts(step)[role]
    path = out.folder / "encoded" / f"{role}.arrow"
    columns = ["input_ids", "pair_ids"] if about.towers else encoding.columns(tokenizer)
    made = _classify.store(examples(step, tokenizer, about, target, part, out), path, columns, target.predict)
    if not len(made):
        raise StepError(f"{step.name}.from: no row of the {role} part has a text and a label. See rejected.jsonl.")
    if role == "validation":  # its order is of no matter, and rows of like length need less padding
        order = _classify.sizes(made)
        made = made.select(sorted(range(len(order)), key=lambda at: -order[at]))
    return made


def show(step: Step, limit: int) -> dict[str, Any]:
    """The first texts with what is learned of them, and the lengths of all in tokens. Loads the tokenizer and no weights."""
    tokenizer = heads.load_tokenizer(step.models["model"][0], step.artifacts)
    roles = _lessons.parts(step)
    target = _labels.learn(step, roles)
    read, part = about(step, target), roles["train"]
    samples = []
    for row in islice(step.rows(part), limit):
        pair = f"\n{row['text_pair']}" if read.pairs and row.get("text_pair") else ""
        samples.append([(f"{row.get('text')}{pair}\n→ ", False), (str(row.get("label")), True)])
    lengths = [len(one["input_ids"]) for one in examples(step, tokenizer, read, target, part, None)]
    said = (
        f"{len(lengths)} examples, {sum(lengths)} tokens; learned: {target.predict} ({', '.join(target.labels[:20])})."
    )
    return {"samples": samples, "lengths": lengths, "trained_tokens": 0, "tokens": sum(lengths), "said": said}
