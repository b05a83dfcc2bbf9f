"""What the README shows is what a newcomer gets, and who works on the project finds every module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DETECTIVE, ME = [
    block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if block.startswith("recipe: 1")
]
CHAT = "".join(
    f"{day:02}/10/2025, 20:{minute:02} - {name}: {text} {day}\n"
    for day in range(1, 29)
    for minute, (name, text) in enumerate([("John", "Are you in?"), ("Mary", "Nearly home."), ("John", "Good.")])
)


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody with a WhatsApp export and the recipe of the README."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "datasets/me").mkdir(parents=True)
    (tmp_path / "datasets/me/WhatsApp Chat with John.txt").write_text(CHAT, encoding="utf-8")
    (tmp_path / "recipes/me.yaml").write_text(ME, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, words)
    return result.exit_code, result.output


def test_ones_own_recipe_is_a_dozen_lines_and_its_rows_are_made_of_a_whatsapp_export(me: Path) -> None:
    assert len(ME.splitlines()) <= 15
    assert call("check", "me") == (0, "recipes/me.yaml: ok\n")
    code, told = call("run", "me", "--target", "preprocess")
    assert code == 0, told
    rows = [part.read_text(encoding="utf-8") for part in (me / "artifacts/me/parts").glob("t*.jsonl")]
    assert sum(text.count("\n") for text in rows) == 28 and all("Nearly home." in text for text in rows)


def test_the_shortened_quickstart_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    recipe = tmp_path / "detective.yaml"
    recipe.write_text(DETECTIVE, encoding="utf-8")
    assert call("check", str(recipe))[0] == 0


def test_mistakes_are_told_as_the_readme_shows(me: Path) -> None:
    mistaken = ME.replace("gap_minutes", "gap_minuts").replace("from: turns, test", "from: turn, test")
    (me / "recipes/me.yaml").write_text(mistaken.replace("parts.test", "parts.tset"), encoding="utf-8")
    code, told = call("check", "me")
    shown = re.search(r"```\n(recipes/me.yaml:.*?)```", README, re.DOTALL)
    assert code == 1 and shown and told.startswith(shown[1])


def test_the_map_for_contributors_names_every_module_once() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.partition("| what | modules")[2].split("\n\n")[0].splitlines() if line.startswith("|")
    ]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    modules = {path.stem for path in (ROOT / "runner").glob("*.py")} - {"__init__", "__main__"}
    assert sorted(named) == sorted(modules)
