"""The quickstart on the bundled model: from the chat export to somebody who answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A store of its own, with the bundled models that set-up has converted."""
    (tmp_path / "models").symlink_to(ROOT / "artifacts" / "models")
    (ROOT / "artifacts" / "models").mkdir(exist_ok=True)
    return tmp_path


def run(artifacts: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner", *arguments]
    kept = {key: value for key, value in os.environ.items() if key != "DATASETS"}
    environment = {**kept, "ARTIFACTS": str(artifacts)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False)


def facts(folder: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / "step.json").read_text())["facts"]
    return held


def test_the_smoke_variant_goes_all_the_way_and_its_persona_answers(artifacts: Path) -> None:
    made = run(artifacts, "run", "quickstart", "-V", "smoke")
    assert made.returncode == 0, made.stderr
    perplexity = facts(artifacts / "quickstart@smoke" / "heard")["metrics"]
    answers = (artifacts / "quickstart@smoke" / "answers" / "rows.jsonl").read_text().splitlines()

    assert set(perplexity) == {"base", "voice"}
    assert "Perplexity" in made.stdout and "Answers" in made.stdout
    assert all(set(json.loads(line)["answers"]) == {"base", "voice"} for line in answers)
    said = run(artifacts, "chat", "quickstart", "-V", "smoke", "--text", "Who took the milk?")
    assert said.returncode == 0 and said.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_perplexity_falls_to_less_than_half_whatever_the_seed(artifacts: Path, seed: int) -> None:
    settings = f"steps.voice.seed={seed} steps.parts.seed={seed}"
    made = run(artifacts, "run", "quickstart", "--set", settings, "--target", "step/heard")
    assert made.returncode == 0, made.stderr
    label = next(path.name for path in artifacts.iterdir() if path.name.startswith("quickstart@"))
    perplexity = facts(artifacts / label / "heard")["metrics"]

    values = {name: held["test"]["perplexity"] for name, held in perplexity.items()}
    assert values["voice"] < values["base"] / 2, values
