from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner import decoding, models, places, schema
from runner.errors import StepError
from runner.files import read_rows
from runner.step import Decoding, Model, Out, Prompt
from runner.steps.evaluate import answers
from tests.conftest import make_step, talks

PERSONA = Prompt("persona", ({"system": "You are Holmes."},))
QUESTIONS = ["Who was it?", "Has the letter come?"]


@pytest.fixture
def pair(tiny_model: Path, tmp_path: Path) -> list[Model]:
    """The tiny model, and a copy that remembers a prompt."""
    import shutil

    shutil.copytree(tiny_model, tmp_path / "voice")
    places.remember(PERSONA, tmp_path / "voice")
    base = Model("base", {"load": str(tiny_model)})
    return [base, Model("voice", {}, tmp_path / "voice", base)]


def ask(folder: Path, held: list[Model], parts: Any = None, **keys: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    talk = Decoding("talk", "sample", schema.defaults(schema.mode("sample"), {"max_new_tokens": 12}))
    step = make_step("evaluate", "answers", folder, parts or {}, models=held, decoding=talk, **keys)
    facts = answers.run(step, Out(folder))
    return facts, list(read_rows(folder / "rows.jsonl"))


def test_the_same_questions_side_by_side_by_the_decoding_of_chat(pair: list[Model], tmp_path: Path) -> None:
    facts, rows = ask(tmp_path, pair, questions=QUESTIONS, seed=3)
    assert [(row["id"], row["question"], list(row["answers"])) for row in rows] == [
        ("question-1", "Who was it?", ["base", "voice"]),
        ("question-2", "Has the letter come?", ["base", "voice"]),
    ]
    [table] = facts["tables"]
    assert table["columns"] == ["question", "base", "voice"]
    assert table["rows"] == [[row["question"], *row["answers"].values()] for row in rows]
    told = [{"role": "system", "content": "You are Holmes."}, {"role": "user", "content": "Who was it?"}]
    talk = Decoding("talk", "sample", schema.defaults(schema.mode("sample"), {"max_new_tokens": 12}))
    for loaded in models.load(pair, tmp_path):
        assert rows[0]["answers"][loaded.name] == "".join(decoding.stream(loaded, told, talk, 3))


def test_the_same_seed_gives_the_same_bytes(pair: list[Model], tmp_path: Path) -> None:
    files = []
    for name in ("1", "2"):
        ask(tmp_path / name, pair, questions=QUESTIONS) if (tmp_path / name).mkdir() is None else None
        files.append((tmp_path / name / "rows.jsonl").read_bytes())
    assert files[0] == files[1]


def test_rows_are_asked_without_the_answer_they_end_with(pair: list[Model], tmp_path: Path) -> None:
    rows = talks(3)
    _, made = ask(tmp_path, pair[:1], {"train": talks(9), "test": rows}, limit=2)
    assert [(row["id"], row["question"]) for row in made] == [
        (row["id"], row["messages"][-2]["content"]) for row in rows[:2]
    ]


def test_a_prompt_with_one_open_variable_takes_the_question(pair: list[Model], tmp_path: Path) -> None:
    prompt = Prompt("asks", ({"user": "{{ texts.lead }} {{ typed }}", "assistant": "{{ said }}"},))
    step = make_step("evaluate", "answers", tmp_path, {}, models=pair, questions=["Who?"], prompt=prompt)
    step.texts["lead"] = "Tell me:"
    assert answers._conversation(step, prompt, "Who?") == [{"role": "user", "content": "Tell me: Who?"}]
    two = Prompt("asks", ({"user": "{{ a }} {{ b }}"},))
    with pytest.raises(StepError, match="'asks' needs one open variable for the question, not 2"):
        answers._conversation(step, two, "Who?")


def test_nothing_to_ask_is_an_error(pair: list[Model], tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"nothing to ask\. Give questions: or from:"):
        ask(tmp_path, pair)


def test_models_with_different_prompts_and_one_with_none_are_an_error(pair: list[Model], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tmp_path / "voice", tmp_path / "other")
    places.remember(Prompt("other", ({"system": "You are Watson."},)), tmp_path / "other")
    with pytest.raises(StepError, match="trained with different prompts"):
        ask(tmp_path, [*pair, Model("other", {}, tmp_path / "other")], questions=QUESTIONS)


def test_a_base_model_without_template_answers_too(bare_model: Path, tmp_path: Path) -> None:
    _, rows = ask(tmp_path, [Model("bare", {"load": str(bare_model)})], questions=QUESTIONS)
    assert len(rows) == 2 and all(isinstance(row["answers"]["bare"], str) for row in rows)
