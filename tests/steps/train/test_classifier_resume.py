from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner import scorers
from runner.steps.train import _training, classifier
from tests.steps.train.classifier_steps import backbone, make, run, texts, trained

KILLED = """
import sys, pickle
from pathlib import Path
from runner.step import Out
from runner.steps.train import _training, classifier
_training.SHARE = 1e9  # a checkpoint after every update, so that there is one to go on from
step = pickle.loads(Path(sys.argv[1]).read_bytes())
classifier.run(step, Out(Path(sys.argv[2])))
"""


@pytest.mark.parametrize(
    "lora", [pytest.param(None, marks=pytest.mark.slow), {"rank": 4, "dropout": 0.1}], ids=["whole", "lora"]
)
def test_a_killed_training_goes_on_and_ends_as_if_undisturbed(lora: Any, tmp_path: Path) -> None:
    model = backbone(tmp_path / "bert")
    keys: dict[str, Any] = {
        "epochs": 24,
        "check_every": 5,
        "best": "accuracy",
        "lora": lora,
        "stop_early": {"after": 30},
    }
    whole, undisturbed = run(make(tmp_path, model, **keys), tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    (tmp_path / "step").write_bytes(pickle.dumps(make(tmp_path, model, **keys)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "step"), str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = _training.newest_checkpoint(folder / "checkpoints")
    assert found is not None and not (folder / "final").exists()
    facts, _ = run(make(tmp_path, model, **keys), folder)
    assert f"going on from {found.name}" in (folder / "step.log").read_text()
    assert facts["curves"] == whole["curves"] and facts["notes"] == whole["notes"]
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    for which in ("best", "final"):
        ours, theirs = (load_file(where / which / name) for where in (folder, undisturbed))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_training_killed_after_its_end_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = backbone(tmp_path / "bert")
    facts, folder = run(make(tmp_path, model, max_steps=1), tmp_path / "out")
    monkeypatch.setattr(classifier, "train", None)
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    assert run(make(tmp_path, model, max_steps=1), folder)[0] == facts
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]


@pytest.mark.slow
def test_two_processes_learn_together(tmp_path: Path) -> None:
    model = backbone(tmp_path / "bert")
    step = make(tmp_path, model, launch={"processes": 2}, best="accuracy", epochs=6)
    facts, folder = run(step, tmp_path / "out")
    alone, _ = run(make(tmp_path / "alone", model, best="accuracy", epochs=6), tmp_path / "alone/out")
    assert facts["hardware"]["processes"] == 2 and facts["metrics"]["validation"]["best"]["accuracy"] > 0.8
    for (_, one), (_, other) in zip(facts["curves"]["loss"][:4], alone["curves"]["loss"][:4], strict=True):
        assert one == pytest.approx(other, rel=0.1)
    assert len(scorers.load(trained(step, folder), Path()).scores([row["text"] for row in texts(3)])) == 3
