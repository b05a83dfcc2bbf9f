"""Tracking tools: nothing is sent unless asked for, and what they write lies outside the step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runner.errors import MachineError
from runner.steps.train import _tracking
from tests.steps.train.sft_steps import make, run


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "TENSORBOARD_LOGGING_DIR",
        "WANDB_PROJECT",
        "WANDB_DIR",
        "WANDB_MODE",
        "WANDB_API_KEY",
        "TRACKIO_DIR",
        "SWANLAB_LOG_DIR",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_nothing_is_reported_unless_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    assert _tracking.settings(make(tmp_path, tiny_model)) == {"report_to": "none"}


def test_tensorboard_gets_the_curves_outside_the_steps_folder(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    asked = {"to": ["tensorboard"], "project": "baker street", "run": "first"}
    step = make(tmp_path, tiny_model, max_steps=2, report_to=asked)
    _, folder = run(step, tmp_path / "out")
    written = list((step.artifacts / "tracking/tensorboard/baker street/first").glob("events.*"))
    assert written and {path.name for path in folder.iterdir()} == {"best", "final", "side.jsonl", "step.log"}


def test_a_tool_gets_the_projects_name_as_it_reads_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tracking, "find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = _tracking.settings(make(tmp_path, tiny_model, report_to={"to": ["wandb", "trackio"], "project": "holmes"}))
    assert made == {"report_to": ["wandb", "trackio"], "project": "holmes", "run_name": "voice"}
    assert os.environ["WANDB_PROJECT"] == "holmes" and os.environ["WANDB_DIR"] == str(tmp_path / "artifacts/tracking")


@pytest.mark.parametrize(
    ("found", "says"), [(None, "the package wandb is not installed"), (object(), "wandb has no key")]
)
def test_what_a_tool_lacks_is_said_before_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any, says: str
) -> None:
    monkeypatch.setattr(_tracking, "find_spec", lambda name: found)
    with pytest.raises(MachineError, match=rf"voice.report_to: {says}"):
        _tracking.settings(make(tmp_path, tiny_model, report_to={"to": ["wandb"], "project": "holmes"}))
