from __future__ import annotations

from pathlib import Path

import pytest

from tests.steps.train.dpo_steps import make, run


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny_model: Path, tmp_path: Path) -> None:
    alone, _ = run(make(tmp_path / "1", tiny_model, batch_at_once=2), tmp_path / "1/out")
    keys = {"batch_at_once": 2, "launch": {"processes": 2}}
    both, folder = run(make(tmp_path / "2", tiny_model, **keys), tmp_path / "2/out")
    assert both["hardware"]["processes"] == 2 and (folder / "best/adapter_model.safetensors").is_file()
    for name in ("loss", "margin"):
        one, two = ([value for _, value in facts["curves"][name]][:4] for facts in (alone, both))
        assert one == pytest.approx(two, abs=1e-4), name
    assert both["metrics"]["validation"]["accuracy"]["final"] == 1.0
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]
