"""Steps that read the same models share a process, so that `make run` loads them once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """\
recipe: 1
models: {{base: {{load: {model}}}, other: {{load: {model}, trust_remote_code: true}}}}
decoding: {{short: {{mode: greedy, max_new_tokens: 3}}}}
steps:
  first: {{evaluate: answers, model: base, decoding: short, questions: [Has the letter come?]}}
  second: {{evaluate: answers, model: base, decoding: short, questions: [Who was it then?]}}
  third: {{evaluate: answers, model: other, decoding: short, questions: [Who was it then?]}}
"""


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "PERSONA_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def project(folder: Path, model: Path) -> Path:
    (folder / "recipes").mkdir()
    (folder / "recipes/three.yaml").write_text(RECIPE.format(model=model))
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "artifacts/three").iterdir())


def test_make_run_loads_a_model_once_for_the_steps_that_read_it(tmp_path: Path, tiny_model: Path) -> None:
    folder = project(tmp_path, tiny_model)
    said = make(folder, "run", "R=three")

    assert said.returncode == 0, said.stderr
    assert made(folder) == ["first", "second", "third"]
    assert said.stderr.count("loading base") == 1
    assert said.stderr.count("loading other") == 1


def test_a_single_step_takes_no_other_along(tmp_path: Path, tiny_model: Path) -> None:
    folder = project(tmp_path, tiny_model)

    assert make(folder, "three/second").returncode == 0
    assert made(folder) == ["second"]
