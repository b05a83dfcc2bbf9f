from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from runner import chat, models
from runner.errors import StepError
from runner.step import Model, Out
from runner.steps.evaluate import perplexity
from runner.steps.train import sft
from tests.conftest import make_step, talks


def base(tiny_model: Path) -> Model:
    return Model("base", {"load": str(tiny_model)})


def measure(folder: Path, parts: Any, *held: Model, **keys: Any) -> dict[str, Any]:
    return perplexity.run(make_step("evaluate", "perplexity", folder, parts, models=held, **keys), Out(folder))


def by_hand(tiny_model: Path, rows: list[dict[str, Any]]) -> float:
    """One row at a time, from the full logits."""
    [loaded] = models.load([base(tiny_model)], tiny_model)
    total, count = 0.0, 0
    for row in rows:
        made = chat.encode(loaded.tokenizer, row["messages"])
        with torch.no_grad():
            scores = loaded.weights.network(torch.tensor([made["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(made["labels"][1:])
        total += cross_entropy(scores, labels, ignore_index=-100, reduction="sum").item()
        count += int((labels != -100).sum())
    return math.exp(total / count)


def test_perplexity_is_that_of_the_answers_row_by_row(tiny_model: Path, tmp_path: Path) -> None:
    rows = talks(12)
    facts = measure(tmp_path, {"rows": rows}, base(tiny_model))
    assert facts["metrics"]["base"]["rows"]["perplexity"] == pytest.approx(by_hand(tiny_model, rows), rel=1e-4)


def test_a_whole_split_gives_a_line_a_model_and_part(tiny_model: Path, tmp_path: Path) -> None:
    learned = {"train": talks(16), "validation": talks(4)}
    step = make_step(
        "train", "sft", tmp_path / "sft", learned, models=[base(tiny_model)], epochs=4, batch=4, learning_rate=0.01
    )
    step.params["lora"] = {"rank": 4, "dropout": 0.0, "targets": "all"}
    (tmp_path / "made").mkdir()
    validation = sft.run(step, Out(tmp_path / "made"))["metrics"]["validation_loss"]
    voice = Model("voice", {}, tmp_path / "made" / "best", base(tiny_model))
    facts = measure(tmp_path, learned | {"test": talks(3, "rain")}, base(tiny_model), voice)
    [table] = facts["tables"]
    names = [(row[0], row[1]) for row in table["rows"]]
    assert names == [(model, part) for model in ("base", "voice") for part in ("train", "validation", "test")]
    found = facts["metrics"]
    assert found["voice"]["test"]["perplexity"] < found["base"]["test"]["perplexity"]
    assert found["voice"]["validation"]["loss"] == pytest.approx(validation["best"], abs=1e-5)


def test_a_long_conversation_is_measured_in_pieces_and_what_is_left_out_is_said(
    tiny_model: Path, tmp_path: Path
) -> None:
    long = talks(1)[0]["messages"]
    turns = [
        *long,
        *(long[1:] * 9),
        {"role": "user", "content": "Why? " * 100},
        {"role": "assistant", "content": "So."},
    ]
    facts = measure(tmp_path, {"rows": [{"messages": turns}]}, base(tiny_model), max_length=120)
    assert facts["notes"] == ["base on rows: 1 exchanges beyond max_length left out."]
    short = measure(tmp_path / "2", {"rows": [{"messages": turns[:-2]}]}, base(tiny_model), max_length=120)
    assert short["metrics"] == facts["metrics"]


def test_a_part_without_answers_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    silent = [{"messages": talks(1)[0]["messages"][:2]}]
    with pytest.raises(StepError, match="validation: there is no answer of the assistant to measure"):
        measure(tmp_path, {"train": talks(2), "validation": silent}, base(tiny_model))


def test_what_an_answer_was_given_to_begin_with_is_not_measured(tiny_model: Path, tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Has the letter come?"}
    said = [{"messages": [asked, {"role": "assistant", "content": "[mud] Yes."}]}]
    whole = measure(tmp_path / "1", {"rows": said}, base(tiny_model))["metrics"]["base"]["rows"]
    part = measure(tmp_path / "2", {"rows": [{**said[0], "prefill": "[mud]"}]}, base(tiny_model))["metrics"]["base"][
        "rows"
    ]
    assert part["tokens"] < whole["tokens"] and part["bits_per_letter"] != whole["bits_per_letter"]
