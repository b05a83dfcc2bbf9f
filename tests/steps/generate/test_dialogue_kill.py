"""`kill -9` in the middle of dialogues: the next run goes on, pays nothing twice, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server import Server
from tests.steps.generate.test_dialogue import reply

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """\
recipe: 1
models: {m: {endpoint: "URL", model: m}}
decoding: {talk: {mode: sample, temperature: 1.0, max_new_tokens: 20}}
prompts:
  act: {system: "You are {{ me.name }}, {{ me.type }}."}
  wrap: {user: "{{ heard }} ({{ memory }})"}
  which: {user: "Which? {{ heard }} {{ choices }}"}
  mood: {user: "Mood of {{ said }}"}
  bye: {user: "{{ heard }} (bye)"}
steps:
  people: {preprocess: table, folder: PEOPLE}
  pairs: {preprocess: pairing, from: people, as: [seeker, supporter], each: 2, by: name}
  talks:
    generate: dialogue
    from: pairs
    between: [seeker, supporter]
    model: m
    decoding: talk
    prompt: act
    reminder: wrap
    opener: Hello
    memory: {of: profile, ask: which, rest: {after: 3, in_last: 5}}
    stop: {ask: mood, of: seeker, scale: 0..5, at_least: 4, last: 2, after: 5, turns: 19}
    goodbye: bye
"""


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "recipes").mkdir(exist_ok=True)
    text = RECIPE.replace("URL", url).replace("PEOPLE", str(ROOT / "tests/data/profiles"))
    (folder / "recipes/tried.yaml").write_text(text, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    command = [sys.executable, "-m", "runner", "run", "tried"]
    return subprocess.Popen(
        command, cwd=folder, env={**kept, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, start_new_session=True
    )


def finished(folder: Path, url: str) -> bytes:
    process = start(folder, url)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return (folder / "artifacts/tried/talks/rows.jsonl").read_bytes()


@pytest.mark.slow
def test_dialogues_killed_again_and_again_end_like_undisturbed_ones(tmp_path: Path) -> None:
    with Server(reply=reply, latency=0.01) as server:
        undisturbed = finished(tmp_path / "undisturbed", server.url)
        asked = server.requests
    with Server(reply=reply, latency=0.01) as server:
        for kill in range(1, 6):
            process = start(tmp_path / "killed", server.url)
            until = server.requests + asked // 7
            while server.requests < until and process.poll() is None:
                time.sleep(0.002)
            assert process.poll() is None, f"ended before kill {kill}"
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert finished(tmp_path / "killed", server.url) == undisturbed
        assert asked <= server.requests <= asked + 5 * server.peak
