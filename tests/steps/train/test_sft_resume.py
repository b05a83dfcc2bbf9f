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

from runner.step import Model, Step
from runner.steps.train import _training, sft
from tests.steps.train.sft_steps import make, run

KILLED = """
import sys, pickle
from pathlib import Path
from runner.step import Out
from runner.steps.train import _training, sft
step = pickle.loads(Path(sys.argv[1]).read_bytes())
sft.run(step, Out(Path(sys.argv[2])))
"""


@pytest.mark.parametrize(
    "more",
    [{}, pytest.param({"special_tokens": ["<I>"], "loss": "all", "bits": 4}, marks=pytest.mark.slow)],
    ids=["plain", "4 bits"],
)
def test_a_killed_training_goes_on_and_ends_as_if_undisturbed(
    tiny_model: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    bits = more.get("bits")
    keys: dict[str, Any] = {
        **{name: value for name, value in more.items() if name != "bits"},
        "epochs": 8,
        "lora": {"dropout": 0.1},
        "batch": 3,
        "check_every": 5,
        "stop_early": {"after": 30, "on": "loss"},
    }
    step = make(tmp_path, tiny_model, **keys)
    if bits:
        small = Model("base", {"load": str(tiny_model), "bits": bits})
        step = Step(**{**vars(step), "models": {"model": (small,)}})
    whole, undisturbed = run(step, tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    (tmp_path / "step").write_bytes(pickle.dumps(step))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "step"), str(folder)], stderr=subprocess.DEVNULL
    )
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = _training.newest_checkpoint(folder / "checkpoints")
    assert found is not None and not (folder / "final").exists()
    torn = folder / "checkpoints" / "checkpoint-9999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 99')
    facts, _ = run(step, folder)
    assert f"going on from {found.name}" in (folder / "step.log").read_text()
    assert facts["curves"] == whole["curves"]
    for name in ("best", "final"):
        ours, theirs = (load_file(where / name / "adapter_model.safetensors") for where in (folder, undisturbed))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_training_killed_after_its_end_is_not_done_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, folder = run(make(tmp_path, tiny_model, max_steps=1), tmp_path / "out")
    monkeypatch.setattr(sft, "_trainer", None)
    for name in ("checkpoints/checkpoint-1", "encoded"):
        (folder / name).mkdir(parents=True)
    with (folder / "side.jsonl").open("a") as side:
        side.write('{"ended": {"met')
    assert run(make(tmp_path, tiny_model, max_steps=1), folder)[0] == facts
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]
