"""Models that steer each other have the same tokens: said before anything runs, as far as that can be known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runner import recipe, tokens
from runner.cli import main
from tests.conftest import make_tokenizer

RECIPE = """\
recipe: 1
models: {base: BASE, other: OTHER}
decoding: {steered: {mode: dexperts, expert: EXPERT}}
prompts: {ask: {user: "{{ text }}", assistant: "{{ text }}"}}
steps:
  texts: {preprocess: table, folder: texts}
  lessons: {preprocess: examples, from: texts, prompt: ask}
  plain: {train: sft, from: lessons, model: base, lora: {rank: 4}}
  marked: {train: sft, from: lessons, model: base, lora: {rank: 4}, special_tokens: [<A>, <B>]}
  more: {train: sft, from: lessons, model: marked, special_tokens: [<B>, <C>]}
  said: {generate: rows, from: texts, model: ANSWERS, decoding: steered, prompt: ask}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.delenv("DATASETS", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "README.md").write_text("Made up.\n", encoding="utf-8")
    (tmp_path / "texts" / "texts.csv").write_text("text\nHello.\n", encoding="utf-8")
    return tmp_path


def write(base: str = "smollm2-135m", other: str = "org/other", expert: str = "plain", answers: str = "base") -> Path:
    text = RECIPE.replace("ANSWERS", answers).replace("EXPERT", expert)
    path = Path("recipes/made.yaml")
    path.write_text(text.replace("BASE", json.dumps(base)).replace("OTHER", json.dumps(other)), encoding="utf-8")
    return path


def warned(**names: str) -> list[str]:
    return [one.message for one in recipe.check(write(**names)) if "special_tokens" in one.message]


def plan() -> Result:
    return CliRunner().invoke(main, ["plan", "made"], catch_exceptions=False)


def tokenizer(folder: Path, *more: str) -> str:
    """A folder with a tokenizer in it and no weights."""
    held = make_tokenizer()
    held.add_tokens(list(more))
    held.save_pretrained(folder)
    return str(folder)


def test_a_token_that_one_model_learns_and_the_other_does_not_is_a_warning(folder: Path) -> None:
    assert warned(expert="marked") == [
        "decoding.steered.expert: 'marked' and 'base' learn other tokens (<A> <B>). "
        "Models that steer each other need one vocabulary: give both the same special_tokens."
    ]
    assert "(<C>)" in warned(expert="more", answers="marked")[0]


@pytest.mark.parametrize(("answers", "expert"), [("base", "plain"), ("marked", "marked"), ("base", "other")])
def test_models_that_learn_the_same_tokens_are_fine(folder: Path, answers: str, expert: str) -> None:
    assert warned(answers=answers, expert=expert) == []


def test_the_plan_says_that_two_folders_have_other_tokens(folder: Path) -> None:
    write(tokenizer(folder / "one"), tokenizer(folder / "two", "Moriarty"), "other")
    line = "decoding.steered.expert: the tokens of 'other' are not those of 'base'."
    assert f"{line} Models that steer each other need one vocabulary.\n" in plan().stdout


def test_the_plan_compares_a_folder_with_the_bundled_model(folder: Path) -> None:
    write(other=tokenizer(folder / "two"), expert="other")
    assert "the tokens of 'other' are not those of 'base'" in plan().stdout


@pytest.mark.parametrize("break_it", ["same", "gone", "half", "strange"])
def test_the_plan_says_nothing_of_the_same_tokens_and_of_those_it_cannot_read(folder: Path, break_it: str) -> None:
    write(tokenizer(folder / "one"), tokenizer(folder / "two", *(["x"] if break_it != "same" else [])), "other")
    path = folder / "two" / "tokenizer.json"
    if break_it == "gone":
        path.unlink()
    elif break_it != "same":
        path.write_text("{" if break_it == "half" else "[1]", encoding="utf-8")
    told = plan()
    assert told.exit_code == 0 and "the tokens of" not in told.stdout


def test_a_tokenizers_file_tells_the_tokens_that_the_tokenizer_has(folder: Path) -> None:
    place = Path(tokenizer(folder / "one", "Moriarty"))
    held: dict[str, Any] = make_tokenizer().get_vocab() | {"Moriarty": len(make_tokenizer())}
    assert tokens.digest_of(place / "tokenizer.json") == tokens.digest(sorted(held.items()))[:16]
