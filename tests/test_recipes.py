"""Recipes as people write them: the good ones check and plan whole, and of the bad ones every fault is said, word for word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import plan, recipe, schema, wording
from runner.strict_yaml import read
from tests.record_invalid import INVALID, ROOT, check

GOOD = [*sorted((ROOT / "recipes").glob("*.yaml")), *sorted((ROOT / "tests/recipes/valid").glob("*.yaml"))]
BAD = sorted((ROOT / INVALID).glob("*.yaml"))
LINE = re.compile(r"tests/recipes/invalid/[\w-]+\.yaml:\d+:\d+: (?!warning: ).+[.?']")
WHOLE = "recipe: 1\nsteps:\n  chats: {preprocess: discord, folder: datasets/detective}\n"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DATASETS", raising=False)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))


# Good ones


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_recipe_has_no_problem_and_every_variant_of_it_plans(path: Path) -> None:
    assert [str(one) for one in recipe.check(path) if not one.warning] == []
    doc = read(path)
    for variant in ((), *((name,) for name in doc.get("variants") or {})):
        made = plan.make(recipe.load(path, variant))
        assert made.steps and all(step.why for step in made.steps)


def test_a_published_recipe_has_not_even_a_warning() -> None:
    result = check()
    assert (result.exit_code, result.stderr) == (0, "")


def test_every_kind_and_every_decoding_mode_has_an_example() -> None:
    held = [read(path) for path in GOOD]
    steps = [step for doc in held for step in doc["steps"].values()]
    shown = {(verb, step[verb]) for step in steps for verb in schema.VERBS if verb in step}
    assert {(verb, kind) for verb in schema.VERBS for kind in schema.kinds(verb)} - shown == set()
    modes = {entry["mode"] for doc in held for entry in (doc.get("decoding") or {}).values()}
    assert set(schema.modes()) - modes == set()


# Bad ones


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_broken_recipe_is_told_word_for_word_what_is_wrong(path: Path) -> None:
    result = check(path.relative_to(ROOT))
    assert result.stderr == path.with_suffix(".txt").read_text(encoding="utf-8")
    assert result.exit_code == 1


def test_a_broken_recipe_is_told_so_from_the_command_line_too() -> None:
    path = INVALID / "many-in-the-meaning.yaml"
    command = [sys.executable, "-m", "runner", "check", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (1, (ROOT / path.with_suffix(".txt")).read_text(encoding="utf-8"))
    assert result.stdout == f"{path}: 5 problems\n"


def test_every_case_has_its_lines_and_every_line_a_case() -> None:
    assert len(BAD) >= 60
    assert {path.stem for path in BAD} == {path.stem for path in (ROOT / INVALID).glob("*.txt")}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_problem_is_one_sentence_or_more_at_a_place_and_they_are_in_order(path: Path) -> None:
    lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert lines and all(LINE.fullmatch(line) for line in lines), lines
    places = [tuple(map(int, line.split(":")[1:3])) for line in lines]
    assert places == sorted(places)
    longest = len(path.read_text(encoding="utf-8").splitlines())
    assert all(1 <= line <= longest + 1 for line, _ in places)


@pytest.mark.parametrize(
    "path", [path for path in BAD if path.stem.startswith(("secret", "endpoint-variable"))], ids=lambda path: path.stem
)
def test_a_secret_is_not_shown_to_anyone(path: Path) -> None:
    said = path.with_suffix(".txt").read_text(encoding="utf-8")
    assert not any(secret in said for secret in ("sk-proj", "hf_", "horse", "watson@", "7f3a"))


PLANTED = {
    "optional-key": ("12:5", "'learning_rat'. Did you mean 'learning_rate'?"),
    "required-key": ("11:5", "'modle'. Did you mean 'model'?"),
    "section": ("12:5", "'loar'. Did you mean 'lora'?"),
    "dataset-entry": ("5:60", "'speeker'. Did you mean 'speaker'?"),
    "type": ("12:13", "'many' is not a number."),
    "choice": ("12:15", "'spilt' is not one of its values. Did you mean 'split'?"),
    "arguments": ("14:7", "'lr_schedular_type'. Did you mean 'lr_scheduler_type'?"),
    "missing-data": ("5:40", "no folder 'datasets/detectives'. Did you mean 'datasets/detective'?"),
}


@pytest.mark.parametrize(("number", "name"), [*enumerate(PLANTED, 1)])
def test_a_fault_that_other_systems_let_pass_is_found_at_its_line_before_anything_is_loaded(
    number: int, name: str
) -> None:
    path = INVALID / f"planted-{number}-{name}.yaml"
    place, words = PLANTED[name]
    result = check(path)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"{path}:{place}: ") and words in result.stderr


# Other forms


def test_problems_as_json_for_programs() -> None:
    path = INVALID / "many-in-one-step.yaml"
    result = check("--format", "json", path)
    held = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (1, "")
    assert [(one["line"], one["column"]) for one in held] == [(11, 5), (12, 13), (13, 12), (13, 28), (14, 12)]
    assert held[0] == {
        "file": str(path),
        "line": 11,
        "column": 5,
        "level": "error",
        "message": "steps.voice: unknown key 'modle'. Did you mean 'model'?",
    }


def test_a_good_recipe_as_json_is_an_empty_list() -> None:
    result = check("--format", "json", "recipes/quickstart.yaml")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_problems_as_notes_on_the_lines_of_a_pull_request() -> None:
    path = INVALID / "planted-1-optional-key.yaml"
    result = check("--format", "github", path)
    message = "steps.voice: unknown key 'learning_rat'. Did you mean 'learning_rate'?"
    assert (result.exit_code, result.stdout) == (1, f"::error file={path},line=12,col=5::{message}\n")


def test_several_recipes_are_told_apart_and_one_that_is_broken_breaks_the_check() -> None:
    result = check("quickstart", INVALID / "cycle.yaml")
    assert result.exit_code == 1
    assert result.stdout == f"recipes/quickstart.yaml: ok\n{INVALID / 'cycle.yaml'}: 1 problem\n"


# Files that no one writes by hand


BOMB = "recipe: 1\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("raw", "place", "words"),
    [
        (b"recipe: 1\n" + b"# padding\n" * 1_000_000, "1:1", "longer than 1,000,000 bytes"),
        (b"recipe: 1\ntitle: a\x00b\n", "2:9", "the character U+0000 may not stand in YAML. Remove it."),
        (b"recipe: 1\ntitle: caf\xe9\n", "2:11", "not UTF-8. Save the file as UTF-8."),
        (WHOLE.encode("utf-16"), "1:1", "not UTF-8. Save the file as UTF-8."),
        (BOMB.encode(), "6:28", "more than 50,000 values."),
        (b"recipe: 1\nsteps: &all {a: *all}\n", "2:17", "*all names no finished anchor."),
        (b"recipe: 1\nsteps: " + b"[" * 100_000, "2:47", "nested more than 40 deep."),
        (b"", "1:1", "not a recipe. Begin with `recipe: 1` and `steps:`."),
    ],
    ids=["ten megabytes", "NUL", "Latin-1", "UTF-16", "bomb", "looping anchor", "deep", "empty"],
)
def test_a_file_that_is_no_recipe_gets_one_clear_line_within_a_second(
    tmp_path: Path, raw: bytes, place: str, words: str
) -> None:
    path = tmp_path / "strange.yaml"
    path.write_bytes(raw)
    started = time.perf_counter()
    result = check(path)
    assert time.perf_counter() - started < 1
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"{path}:{place}: ") and words in result.stderr


@pytest.mark.parametrize(
    "raw", [b"\xef\xbb\xbf" + WHOLE.encode(), WHOLE.replace("\n", "\r\n").encode()], ids=["BOM", "CRLF"]
)
def test_a_recipe_saved_on_windows_is_read(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(raw)
    assert check(path).exit_code == 0
    path.write_bytes(raw.replace(b"discord", b"discrod"))
    assert f"{path}:3:23: steps.chats.preprocess: 'discrod'" in check(path).stderr


def test_a_recipe_may_not_be_named_like_a_make_target(tmp_path: Path) -> None:
    for name in sorted(recipe.targets()):
        path = tmp_path / f"{name}.yaml"
        path.write_text(WHOLE, encoding="utf-8")
        result = check(path)
        message = f"{path}:1:1: '{name}' is the name of a make target. Rename the file.\n"
        assert result.exit_code == 1 and result.stderr.startswith(message)


def test_a_recipe_that_is_not_there_is_named_with_one_that_is() -> None:
    result = check("quikstart")
    assert result.exit_code == 1
    assert result.stderr == "recipes/quikstart.yaml: no such recipe. Did you mean 'quickstart'?\n"


def test_all_recipes_are_checked_well_within_a_second_each() -> None:
    started = time.perf_counter()
    assert check(*GOOD).exit_code == 0
    assert time.perf_counter() - started < len(GOOD)


def test_every_form_that_a_schema_asks_for_has_words() -> None:
    """A regular expression is no message."""
    texts = [path.read_text(encoding="utf-8") for path in schema.FOLDER.glob("*/**/*.json")]
    patterns = {json.loads(found) for text in texts for found in re.findall(r'"pattern": ("[^"]*")', text)}
    assert patterns and patterns <= set(wording._FORMS)
