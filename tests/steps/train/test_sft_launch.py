"""Training in several processes: the same update on however many, and nobody left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from runner.errors import MachineError, StepError
from runner.steps.train import _launch
from tests.conftest import talks
from tests.steps.train.sft_steps import make, run

LAUNCHED = """
import sys, pickle
from pathlib import Path
from runner.step import Out
from runner.steps.train import sft
step = pickle.loads(Path(sys.argv[1]).read_bytes())
sft.run(step, Out(Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tiny_model: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"epochs": 3, "check_every": 4, "special_tokens": ["<I>"], "loss": "all"}
    one, alone = run(make(tmp_path / "1", tiny_model, **keys), tmp_path / "1/out")
    launch = {"processes": 2}
    two, shared = run(make(tmp_path / "2", tiny_model, launch=launch, **keys), tmp_path / "2/out")
    for name, points in one["curves"].items():
        assert [step for step, _ in two["curves"][name]] == [step for step, _ in points]
        for ours, theirs in zip(two["curves"][name], points, strict=True):
            assert ours[1] == pytest.approx(theirs[1], abs=1e-4), name
    assert two["curves"]["loss"][0][1] == pytest.approx(one["curves"]["loss"][0][1], abs=1e-5)
    assert (two["hardware"]["processes"], two["hardware"]["distributed"]) == (2, "MULTI_CPU")
    assert one["metrics"]["learned_tokens"] == two["metrics"]["learned_tokens"]
    assert {path.name for path in shared.iterdir()} == {"best", "final", "side.jsonl", "step.log"}
    ours, theirs = (load_file(folder / "final" / "adapter_model.safetensors") for folder in (shared, alone))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-4 for name in theirs)
    said = (shared / "step.log").read_text().splitlines()
    assert sum("examples of" in line for line in said) == 1


@pytest.mark.slow
def test_an_error_in_a_process_is_the_steps(tiny_model: Path, tmp_path: Path) -> None:
    silent = [{**row, "messages": row["messages"][:2]} for row in talks(3)]
    with pytest.raises(StepError, match=r"voice.from: no row of the train part has an answer to learn from"):
        run(make(tmp_path, tiny_model, {"train": silent}, launch={"processes": 2}), tmp_path / "out")


@pytest.mark.slow
def test_killed_the_step_takes_its_processes_along_and_goes_on_later(tiny_model: Path, tmp_path: Path) -> None:
    keys = {"epochs": 150, "launch": {"processes": 2}, "lora": {"dropout": 0.1}}
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "step").write_bytes(pickle.dumps(make(tmp_path, tiny_model, **keys)))
    process = subprocess.Popen([sys.executable, "-c", LAUNCHED, str(tmp_path / "step"), str(folder)])
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone, left = psutil.wait_procs(workers, timeout=20)
    assert len(gone) >= 3 and not left
    facts, _ = run(make(tmp_path, tiny_model, **keys), folder)
    assert "going on from checkpoint-" in (folder / "step.log").read_text()
    assert [step for step, _ in facts["curves"]["loss"]][-1] == 750


def test_what_a_launch_cannot_have_is_said_before_it_begins(tiny_model: Path, tmp_path: Path) -> None:
    def start(**launch: Any) -> Any:
        return run(make(tmp_path, tiny_model, launch=launch), tmp_path / "out")

    with pytest.raises(StepError, match=r"voice.launch: 3 processes do not divide batch: 4"):
        start(processes=3)
    with pytest.raises(StepError, match=r"voice\.launch\.config: nowhere\.yaml: no such file"):
        start(processes=2, config="nowhere.yaml")
    torn, zero = tmp_path / "torn.json", tmp_path / "zero3.json"
    torn.write_text("{")
    zero.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(StepError, match=r"torn.json: no JSON: .* Mend it"):
        start(processes=2, config=str(torn))
    with pytest.raises(MachineError, match=r"zero3.json needs the package deepspeed. Install it"):
        start(processes=2, config=str(zero))


def test_a_process_that_ends_without_a_word_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = [sys.executable, "-c", "raise RuntimeError('out of luck')"]
    monkeypatch.setattr(_launch, "_command", lambda step: crash)
    with pytest.raises(StepError, match=r"ended unexpectedly: RuntimeError: out of luck. See .*launch.log"):
        run(make(tmp_path, tiny_model, launch={"processes": 2}), tmp_path / "out")
    assert "out of luck" in (tmp_path / "out" / "step.log").read_text()
