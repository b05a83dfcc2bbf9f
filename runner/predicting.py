"""What trained classifiers say of one text or of a file of texts: `make predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, loads
from runner.plan import Plan
from runner.problems import suggest
from runner.references import MODEL_VERBS, ModelUse
from runner.specs import model_of
from runner.step import Model

Answer = dict[str, Any]  # model, text, text_pair where there is one, predicted, scores


def predict(plan: Plan, name: str, rows: list[Row], checkpoint: str, say: Callable[[str], None]) -> list[Answer]:
    """One answer a row and model: `name` is a training step (with a matrix, all of its siblings) or an entry of models:.

    Raises StepError where it is no classifier or not made yet, DataError where a row has no text.
    """
    from runner import models, scorers

    chosen = [_ready(plan, use, checkpoint) for use in _uses(plan, name)]
    models.prepare(0)
    made = []
    for model in chosen:
        scorer = scorers.load(model, plan.root, say)
        pairs = [str(row["text_pair"]) for row in rows] if all("text_pair" in row for row in rows) else None
        found = scorer.scores([row["text"] for row in rows], pairs)
        for line in scorer.notes():
            say(line)
        made += [
            {"model": model.name, **row, "predicted": scorer.says(one), "scores": one}
            for row, one in zip(rows, found, strict=True)
        ]
    return made


def _uses(plan: Plan, name: str) -> list[ModelUse]:
    names = plan.recipe.names
    entries = names.section("models")
    if name in entries:
        return [ModelUse(name, entries[name], None, entries.values_at[name])]
    nodes = names.written.get(name) or ([names.exact[name]] if name in names.exact else [])
    known = {*entries, *names.written_by(MODEL_VERBS)}
    if not nodes or nodes[0].verb not in MODEL_VERBS:
        makes = f"'{name}' makes no model." if nodes else f"no model or step '{name}'."
        raise StepError(f"{plan.recipe.path}: {makes}{suggest(name, known, 'Models')}")
    return [ModelUse(node.name, None, node, node.instance.mark) for node in nodes]


def _ready(plan: Plan, use: ModelUse, checkpoint: str) -> Model:
    if use.is_endpoint:
        raise StepError(f"{plan.recipe.path}: '{use.name}' is an endpoint, not a classifier. Name a training step.")
    if use.node and use.node.fragment.get("x-model") != "classifier" and use.node.verb == "train":
        kind = f"{use.node.verb}: {use.node.kind}"
        raise StepError(
            f"{plan.recipe.path}: '{use.name}' is made by {kind}, which is no classifier. Name another step."
        )
    if use.node and any(step.name == use.name and step.why for step in plan.steps):
        raise StepError(f"{plan.recipe.path}: '{use.name}' is not made yet. Run make {plan.recipe.name}/{use.name}.")
    return model_of(plan.specs.model(use, checkpoint), plan.root)


def read(text: str | None, pair: str | None, file: str | None) -> list[Row]:
    """The rows to judge: one text, or a file of them (- is standard input): JSON Lines with text, or a text a line."""
    if (text is None) == (file is None):
        raise DataError("TEXT or FILE: give one of them, the text itself or a file of texts.")
    if file is None:
        rows = [{"text": text} | ({"text_pair": pair} if pair is not None else {})]
    else:
        path = Path("/dev/stdin") if file == "-" else Path(file)
        if file != "-" and not path.is_file():
            raise DataError(f"{file}: no such file. Name one with a text a line, or JSON Lines with the column text.")
        rows = list(_rows(path, pair))
    if not rows:
        raise DataError(f"{file}: no text in it.")
    return rows


def _rows(path: Path, pair: str | None) -> Iterator[Row]:
    beside = {"text_pair": pair} if pair is not None else {}
    lines = _lines(path)
    if path.suffix != ".jsonl":
        yield from ({"text": line, **beside} for line in lines if line.strip())
        return
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{at}: not a JSON object ({error}). Mend the line.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise DataError(f'{path}:{at}: no text. Each line needs a text: {{"text": …}}.')
        yield {"text": row["text"], **({"text_pair": str(row["text_pair"])} if "text_pair" in row else beside)}


def _lines(path: Path) -> list[str]:
    """Lines end where files end them: other breaks, such as U+2028, stand in texts."""
    try:
        held = sys.stdin.read() if path == Path("/dev/stdin") else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1}). Save it so.") from error
    return held.split("\n")


def table(answers: list[Answer]) -> tuple[list[str], list[list[Any]]]:
    """Columns and lines: for one text a line a label, the likeliest first; for several texts a line each."""
    several = len({one["model"] for one in answers}) > 1
    head = ["model"] if several else []
    if len({(one["text"], one.get("text_pair")) for one in answers}) == 1:
        lines = [
            [*([one["model"]] if several else []), label, f"{value:.4f}"]
            for one in answers
            for label, value in _ordered(one)
        ]
        return [*head, "label", "score"], lines
    lines = []
    for one in answers:
        scores = ", ".join(f"{label} {value:.3f}" for label, value in _ordered(one)[:5])
        lines.append([*([one["model"]] if several else []), _short(one["text"]), scores])
    return [*head, "text", "scores"], lines


def _ordered(one: Answer) -> list[tuple[str, float]]:
    """Classes by their probability, numbers in their order."""
    scores = list(one["scores"].items())
    return sorted(scores, key=lambda item: -item[1]) if isinstance(one["predicted"], str) else scores


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
