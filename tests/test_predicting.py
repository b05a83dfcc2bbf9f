"""`predict`, from a recipe to answers, on a real tiny model; and the same folder used as a model of another recipe."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli import main
from tests.steps.train.classifier_steps import backbone, texts

RECIPE = """\
recipe: 1
matrix: {target: [label, first]}
models:
  base: {load: "%s"}
  talker: {endpoint: "http://127.0.0.1:1/v1", model: none, api_key_env: NONE_KEY}
prompts: {asked: {user: "{{ text }}"}}
decoding: {free: {mode: sample, max_new_tokens: 4}}
steps:
  notes: {preprocess: table, folder: datasets/notes}
  initial: {preprocess: select, from: notes, add: {first: "{{ label[0] }}"}}
  parts: {preprocess: split, from: initial, validation: 4, test: 4}
  judge:
    matrix: [target]
    train: classifier
    from: parts
    columns: {label: "${target}"}
    model: base
    max_steps: 30
    batch: 8
    learning_rate: 0.003
    max_length: 32
  right: {matrix: [target], evaluate: classification, from: parts, columns: {label: "${target}"}, model: judge}
  late: {train: classifier, from: parts, model: base, max_steps: 1, seed: 5}
  says: {generate: rows, from: notes, prompt: asked, model: talker, decoding: free, output: said}
  wet: {evaluate: classification, from: parts, model: late}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two trained judges."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    (folder / "recipes/weather.yaml").write_text(RECIPE % backbone(folder / "bert"))
    (folder / "datasets/notes").mkdir(parents=True)
    with (folder / "datasets/notes/notes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(texts(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ARTIFACTS", str(folder / "artifacts"))
        result = call("run", "weather", "--target", "judge")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("ARTIFACTS", str(made / "artifacts"))


def call(*words: str, told: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=told)


def test_one_text_is_a_line_a_label_the_likeliest_first() -> None:
    result = call("predict", "weather", "judge-label", "--text", "rain and mud")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and lines[0] == ["label", "score"]
    assert [line[0] for line in lines[2:]] == ["wet", "dry"]
    assert sum(float(line[1]) for line in lines[2:]) == pytest.approx(1, abs=1e-3)


def test_a_step_with_a_matrix_asks_all_of_its_models() -> None:
    result = call("predict", "weather", "judge", "--text", "sand", "--format", "json")
    held = json.loads(result.stdout)
    assert [(one["model"], one["predicted"]) for one in held] == [("judge-label", "dry"), ("judge-first", "d")]
    assert set(held[0]["scores"]) == {"wet", "dry"} and held[0]["text"] == "sand"


def test_a_file_of_texts_is_a_line_each_also_from_standard_input(made: Path) -> None:
    (made / "lines.txt").write_text("rain and mud\n\nsand and dust\n", encoding="utf-8")
    (made / "rows.jsonl").write_text('{"text": "rain and mud"}\n{"text": "sand and dust"}\n', encoding="utf-8")
    asked = ("predict", "weather", "judge-label", "--file")
    found = [call(*asked, name, "--format", "json").stdout for name in ("lines.txt", "rows.jsonl")]
    found.append(call(*asked, "-", "--format", "json", told="rain and mud\nsand and dust\n").stdout)
    assert found[0] == found[1] == found[2] and [one["predicted"] for one in json.loads(found[0])] == ["wet", "dry"]
    shown = call(*asked, "lines.txt").stdout.splitlines()
    assert len(shown) == 4 and shown[2].startswith("rain and mud") and "wet 0." in shown[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("judge-label",), "TEXT or FILE: give one of them"),
        (("judge-label", "--text", "a", "--file", "b"), "TEXT or FILE: give one of them"),
        (("judge-label", "--file", "nowhere.txt"), "nowhere.txt: no such file"),
        (("judg", "--text", "a"), "no model or step 'judg'. Did you mean 'judge'?"),
        (("parts", "--text", "a"), "'parts' makes no model."),
        (("talker", "--text", "a"), "'talker' is an endpoint, not a classifier."),
        (("late", "--text", "a"), "'late' is not made yet. Run make weather/late."),
        (("base", "--text", "a"), "has no trained head"),
        (("judge-label", "--text", "a", "--pair", "b"), "judge-label: reads one text, not pairs."),
    ],
)
def test_what_cannot_be_asked_is_one_line(words: tuple[str, ...], said: str) -> None:
    result = call("predict", "weather", *words)
    errors = [line for line in result.stderr.splitlines() if not line.startswith("loading")]
    assert result.exit_code == 1 and len(errors) == 1 and said in errors[0]


def test_files_without_texts_are_one_line(made: Path) -> None:
    (made / "empty.txt").write_text("\n")
    (made / "other.jsonl").write_text('{"text": "a"}\n{"words": "b"}\n')
    asked = ("predict", "weather", "judge-label", "--file")
    assert "empty.txt: no text in it." in call(*asked, "empty.txt").stderr
    Path("torn.jsonl").write_text('{"text": "rain"}\n{"text": "mu')
    assert "torn.jsonl:2: not a JSON object (" in call(*asked, "torn.jsonl").stderr
    Path("latin.txt").write_bytes(b"r\xe9sum\xe9\n")
    assert call(*asked, "latin.txt").stderr == "latin.txt: not UTF-8 (byte 2). Save it so.\n"
    assert "other.jsonl:2: no text. Each line needs a text" in call(*asked, "other.jsonl").stderr


def test_show_says_what_a_classifier_learns() -> None:
    shown = call("show", "weather", "judge-label", "--rows", "1").stdout
    assert "→ ⟦" in shown and "examples" in shown and "learned: class (dry, wet)." in shown


def test_a_folder_copied_elsewhere_is_a_model_of_another_recipe(made: Path) -> None:
    best = made / "artifacts/weather/judge-label/best"
    shutil.copytree(best, made / "elsewhere", dirs_exist_ok=True)
    recipe = 'recipe: 1\nmodels: {theirs: {load: "%s"}}\nsteps:\n  notes: {preprocess: table, folder: datasets/notes}\n'
    steps = "  right: {evaluate: classification, from: notes, model: theirs}\n  all: {evaluate: score, from: notes, model: theirs, by: label}\n"
    (made / "recipes/again.yaml").write_text(recipe % (made / "elsewhere") + steps)
    result = call("run", "again")
    assert result.exit_code == 0 and "theirs  rows" in result.output and "Scores by theirs" in result.output
    asked = [
        call("predict", *names, "--text", "rain", "--format", "json")
        for names in (("again", "theirs"), ("weather", "judge-label"))
    ]
    scores = [json.loads(one.stdout)[0]["scores"] for one in asked]
    assert scores[0] == scores[1]
