"""What all commands share: `.env` is read before any of them, and what is wrong is a line and an exit code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; what `.env` sets is gone after the test."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "HELD": "before"})
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_file_of_settings_fills_what_the_environment_does_not_hold(folder: Path) -> None:
    (folder / ".env").write_text("# keys\nexport A_KEY='one two'\nHELD=after\n\n", encoding="utf-8")
    run("list")
    assert (os.environ["A_KEY"], os.environ["HELD"]) == ("one two", "before")


def test_a_file_of_settings_that_is_not_utf_8_is_told_in_a_line(folder: Path) -> None:
    (folder / ".env").write_bytes(b"A_KEY=caf\xe9\n")
    result = run("list")
    assert (result.exit_code, result.output) == (1, ".env: is not UTF-8. Save it as UTF-8.\n")
