"""`kill -9` at any moment: after the next run, everything is as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import project

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """\
recipe: 1
models:
  base: {load: "%s"}
prompts:
  persona: {system: You are Holmes.}
steps:
  chats: {preprocess: discord, folder: datasets/chat, speaker: holmes}
  turns: {preprocess: conversations, from: chats, prompt: persona}
  parts: {preprocess: split, from: turns, validation: 2, test: 2}
  voice: {train: sft, from: parts, model: base, lora: {rank: 4}, epochs: 12, batch: 2, learning_rate: 1e-3}
  heard: {evaluate: perplexity, from: parts.test, model: [base, voice]}
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    command = [sys.executable, "-m", "runner", "run", "small"]
    environment = {**kept, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finished(folder: Path) -> float:
    """Run to the end; returns the seconds that it took."""
    began = time.monotonic()
    process = start(folder)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return time.monotonic() - began


def facts(folder: Path, step: str) -> dict[str, object]:
    held: dict[str, object] = json.loads((folder / "artifacts/small" / step / "step.json").read_text())["facts"]
    return held


def kill_and_compare(tmp_path: Path, tiny_model: Path, kills: int) -> None:
    """Kill runs at random moments, `kills` times; each time one gets to its end it is compared and begun anew."""
    undisturbed = project.make(tmp_path / "undisturbed", RECIPE % tiny_model)
    whole = finished(undisturbed)
    folder = project.make(tmp_path / "killed", RECIPE % tiny_model)
    chance, killed = random.Random(7), 0
    while killed < kills:
        process = start(folder)
        time.sleep(chance.uniform(0.1, whole))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if process.returncode == 0:
            expect_the_same(folder, undisturbed)
            shutil.rmtree(folder / "artifacts")
    finished(folder)
    expect_the_same(folder, undisturbed)


def expect_the_same(folder: Path, undisturbed: Path) -> None:
    """Rows byte for byte, losses and perplexities to a thousandth, and nothing left half-made."""
    rows = [
        {name: data for name, data in project.store(one).items() if name.endswith(".jsonl")}
        for one in (undisturbed, folder)
    ]
    assert rows[0] == rows[1] != {}
    before, after = (facts(one, "voice")["curves"]["loss"] for one in (undisturbed, folder))  # type: ignore[index]
    assert [step for step, _ in after] == [step for step, _ in before]
    assert [value for _, value in after] == pytest.approx([value for _, value in before], rel=1e-3)
    assert nearly(folder, undisturbed)
    assert not list((folder / "artifacts/store").glob("*.part"))


def nearly(one: Path, other: Path) -> bool:
    """Nested figures agree to a thousandth."""
    flat = [sorted(leaves(facts(folder, "heard")["metrics"])) for folder in (one, other)]
    return [name for name, _ in flat[0]] == [name for name, _ in flat[1]] and [
        value for _, value in flat[0]
    ] == pytest.approx([value for _, value in flat[1]], rel=1e-3)


def leaves(value: object, path: str = "") -> list[tuple[str, float]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}")]
    return [(path, float(value))] if isinstance(value, int | float) else []


def test_killed_three_times_a_run_ends_as_an_undisturbed_one(tmp_path: Path, tiny_model: Path) -> None:
    kill_and_compare(tmp_path, tiny_model, 3)


@pytest.mark.slow
def test_killed_thirty_times_a_run_ends_as_an_undisturbed_one(tmp_path: Path, tiny_model: Path) -> None:
    kill_and_compare(tmp_path, tiny_model, 30)
