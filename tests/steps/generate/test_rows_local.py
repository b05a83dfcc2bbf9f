"""`generate: rows` on weights that are loaded here: held to a shape, the same whatever the batch, nothing made twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner import decoding, models
from runner.answer_shapes import Shape
from runner.decoding import _speaker
from runner.step import Decoding, Model, Prompt
from tests.asked import HELLO, Run, people, step

GREEDY = Decoding("exact", "greedy", {"max_new_tokens": 12, "no_repeat_ngram": 1})
SAMPLE = Decoding("talk", "sample", {"temperature": 1.0, "max_new_tokens": 12})
LONG = Decoding("long", "sample", {"temperature": 1.0, "max_new_tokens": 150})


def weights(folder: Path) -> Model:
    return Model("tiny", {"load": str(folder)})


@pytest.mark.parametrize("how", [GREEDY, SAMPLE], ids=["greedy", "sample"])
def test_an_answer_does_not_depend_on_its_batch(how: Decoding, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{**row, "text": row["text"] + " and more" * (row["age"] % 4)} for row in people(11)]
    together = Run(tmp_path / "a" / "out", step(tmp_path / "a", weights(tiny_model), rows, how))
    made = []
    for place, row in enumerate(rows):
        folder = tmp_path / str(place)
        made += Run(folder / "out", step(folder, weights(tiny_model), [row], how)).rows
    assert together.rows == made
    assert together.facts["tokens"]["output"] > 0 and len({row["answer"] for row in made}) > 1


def test_samples_differ_and_another_seed_gives_others(tiny_model: Path, tmp_path: Path) -> None:
    def answers(folder: Path, **keys: Any) -> list[str]:
        return [
            row["answer"] for row in Run(folder, step(tmp_path, weights(tiny_model), people(2), SAMPLE, **keys)).rows
        ]

    first, again, other = (answers(tmp_path / str(place), samples=4, seed=place // 2) for place in range(3))
    assert first == again != other and len(set(first)) == 8


def test_what_is_answered_is_not_made_again_and_the_model_not_even_loaded(tiny_model: Path, tmp_path: Path) -> None:
    made = Run(tmp_path / "a", step(tmp_path, weights(tiny_model), people(5), SAMPLE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda *held: pytest.fail("loaded for nothing"))
        again = Run(tmp_path / "b", step(tmp_path, weights(tiny_model), people(5), SAMPLE))
    assert again.rows == made.rows and again.facts["from_cache"] == 5
    changed = step(tmp_path, replace(weights(tiny_model), files={"config.json": "other"}), people(5), SAMPLE)
    assert Run(tmp_path / "c", changed).facts["from_cache"] == 0


SHAPES: list[dict[str, Any]] = [
    {"name": "text", "age": "12..40", "mood": ["good", "bad"], "score": "number", "hobbies": "list"},
    {"profile": {"name": "text", "more": {"where": "text", "stars": "1..5"}}},
    {"better": ["first", "second", "tie"]},
    {"rank": [1, 2, 3]},
    {
        "type": "object",
        "properties": {"who": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
        "required": ["who"],
    },
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: next(iter(shape)))
def test_even_a_model_of_random_weights_answers_in_the_shape_asked_for(
    shape: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    made = Run(tmp_path / "out", step(tmp_path, weights(tiny_model), people(9), LONG, output=shape, repair=0))
    whole = Shape(shape).schema["properties"]
    assert len(made.rows) == 9, made.rejected
    assert all(set(whole) <= set(row) for row in made.rows)


def test_free_and_shaped_answers_go_in_one_batch(tiny_model: Path, tmp_path: Path) -> None:
    loaded = models.load([weights(tiny_model)], tmp_path)[0]
    talks = [[{"role": "user", "content": text}] for text in ("one", "two", "three")]
    schema = Shape({"a": [1, 2]}).schema
    batch = replace(decoding.batch_of(loaded, talks, 0), schemas=[None, schema, None])
    from runner.decoding import sample

    texts = [decoding.text_of(loaded, ids, None) for ids in sample.generate(loaded, batch, SAMPLE)]
    free = [
        decoding.text_of(loaded, ids, None)
        for ids in sample.generate(loaded, decoding.batch_of(loaded, talks, 0), SAMPLE)
    ]
    assert json.loads(texts[1])["a"] in (1, 2) and texts[::2] == free[::2]


@pytest.mark.parametrize("tokens", [60, 150, 300])
def test_an_answer_ends_within_its_tokens_however_many_fields_it_has(
    tokens: int, tiny_model: Path, tmp_path: Path
) -> None:
    how = Decoding("long", "sample", {"temperature": 1.5, "max_new_tokens": tokens})
    names = ["name", "job", "hobby", "worry"][: 1 + tokens // 80]
    shape = {"who": dict.fromkeys(names, "text")}
    made = Run(tmp_path / "out", step(tmp_path, weights(tiny_model), people(12), how, output=shape, repair=0))
    assert len(made.rows) == 12, made.rejected


def test_a_prefill_begins_the_answer_and_is_not_part_of_it(tiny_model: Path, tmp_path: Path) -> None:
    prompt = Prompt("begun", ({"user": "Hello, {{ text }}", "prefill": "Observe the mud on"},))
    begun = Run(tmp_path / "a" / "out", step(tmp_path / "a", weights(tiny_model), people(2), GREEDY, prompt=prompt))
    free = Run(tmp_path / "b" / "out", step(tmp_path / "b", weights(tiny_model), people(2), GREEDY, prompt=HELLO))
    assert [row["answer"] for row in begun.rows] != [row["answer"] for row in free.rows]
    assert not any("Observe" in row["answer"] for row in begun.rows)


def test_a_question_too_long_for_the_model_is_rejected_and_the_others_are_answered(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [*people(3), {"id": "long", "text": "mud " * 2000}]
    made = Run(tmp_path / "out", step(tmp_path, weights(tiny_model), rows, GREEDY))
    assert len(made.rows) == 3 and made.rejected == [("long", "the model does not take the question")]
    assert any("too long for a context of 512" in row.get("why", "") for row in made.read("side"))


def test_batches_are_of_about_one_length(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    real = _speaker.Local._answer

    def watched(self: Any, loaded: Any, keys: list[str]) -> None:
        seen.append([len(self._waiting[key].ids) for key in keys])
        real(self, loaded, keys)

    monkeypatch.setattr(_speaker.Local, "_answer", watched)
    rows = [{"id": str(place), "text": "mud " * (1 + 20 * (place % 2))} for place in range(32)]
    rows = [{**row, "text": f"{row['id']} {row['text']}"} for row in rows]
    Run(tmp_path / "out", step(tmp_path, weights(tiny_model), rows, GREEDY))
    assert [len(batch) for batch in seen] == [16, 16]
    assert all(max(batch) - min(batch) <= 2 for batch in seen)
