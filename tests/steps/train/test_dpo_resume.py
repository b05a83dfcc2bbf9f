from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runner.steps.train import _training, dpo
from tests.steps.train.dpo_steps import make, run

KILLED = """
import sys, pickle
from pathlib import Path
from runner.step import Out
from runner.steps.train import dpo
step = pickle.loads(Path(sys.argv[1]).read_bytes())
dpo.run(step, Out(Path(sys.argv[2])))
"""


def test_a_killed_training_goes_on_and_ends_as_if_undisturbed(tiny_model: Path, tmp_path: Path) -> None:
    keys = {"epochs": 8, "lora": {"dropout": 0.1}, "batch": 3, "check_every": 5}
    whole, undisturbed = run(make(tmp_path, tiny_model, **keys), tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    (tmp_path / "step").write_bytes(pickle.dumps(make(tmp_path, tiny_model, **keys)))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "step"), str(folder)], stderr=subprocess.DEVNULL
    )
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = _training.newest_checkpoint(folder / "checkpoints")
    assert found is not None and not (folder / "final").exists()
    facts, _ = run(make(tmp_path, tiny_model, **keys), folder)
    assert f"going on from {found.name}" in (folder / "step.log").read_text()
    assert facts["curves"] == whole["curves"]
    for name in ("best", "final"):
        ours, theirs = (load_file(where / name / "adapter_model.safetensors") for where in (folder, undisturbed))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_reference_is_not_asked_twice_for_a_pair(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it was asked, with a torn line at the end: what is whole is kept, and the rest is done."""
    whole, undisturbed = run(make(tmp_path, tiny_model), tmp_path / "whole")
    asked: list[int] = []
    compute = dpo.Trainer.compute_ref_log_probs

    def stop(trainer: dpo.Trainer, network: object, inputs: dict[str, torch.Tensor]) -> object:
        asked.append(len(inputs["input_ids"]) // 2)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return compute(trainer, network, inputs)

    monkeypatch.setattr(dpo.Trainer, "compute_ref_log_probs", stop)
    with pytest.raises(KeyboardInterrupt):
        run(make(tmp_path, tiny_model), tmp_path / "out")
    [held] = (tmp_path / "out" / "encoded").glob("train.reference*")
    with held.open("a") as file:
        file.write("[[-3.1, -")
    facts, folder = run(make(tmp_path, tiny_model), tmp_path / "out")
    assert sum(asked[:2]) + sum(asked[3:]) == 18 + 5
    assert facts["curves"] == whole["curves"]
    assert (folder / "final/adapter_model.safetensors").read_bytes() == (
        undisturbed / "final/adapter_model.safetensors"
    ).read_bytes()


def test_a_training_killed_after_its_end_is_not_done_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, folder = run(make(tmp_path, tiny_model, max_steps=1), tmp_path / "out")
    monkeypatch.setattr(dpo, "_trainer", None)
    assert run(make(tmp_path, tiny_model, max_steps=1), folder)[0] == facts
