"""`make run` and `python -m runner run` are two drivers of one graph: the same store, and nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import project

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = project.make(tmp_path / "a b")
    shutil.copy(ROOT / "Makefile", made)
    return made


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    return {**kept, "PYTHONPATH": str(ROOT), "PERSONA_PYTHON": sys.executable}


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return call(folder, "make", *arguments)


def hundred_steps() -> str:
    """A recipe of a hundred steps: one reader, one conversation step, 98 splits."""
    seeds = ", ".join(str(seed) for seed in range(98))
    recipe = project.RECIPE.split("  parts:")[0].replace("steps:", f"matrix:\n  seed: [{seeds}]\nsteps:")
    return recipe + '  parts: {matrix: [seed], preprocess: split, from: turns, test: 0.25, seed: "${seed}"}\n'


def test_make_and_the_one_process_driver_give_the_same_store(folder: Path, tmp_path: Path) -> None:
    other = project.make(tmp_path / "other")

    assert make(folder, "run", "R=small").returncode == 0
    assert call(other, sys.executable, "-m", "runner", "run", "small").returncode == 0
    assert project.store(folder) == project.store(other) != {}


def test_a_recipe_and_each_of_its_steps_are_targets(folder: Path) -> None:
    assert make(folder, "small/turns").returncode == 0
    assert sorted(path.name for path in (folder / "artifacts/small").iterdir()) == ["chats", "turns"]
    assert make(folder, "small").returncode == 0
    assert sorted(path.name for path in (folder / "artifacts/small").iterdir()) == ["chats", "newest", "parts", "turns"]


def test_a_broken_recipe_never_runs_the_old_plan(folder: Path) -> None:
    make(folder, "run", "R=small")
    recipe = folder / "recipes/small.yaml"
    recipe.write_text(recipe.read_text().replace("from: turns, test: 0.25", "from: tuns, test: 0.5"))
    said = make(folder, "run", "R=small")

    assert said.returncode == 2
    assert "no step 'tuns'. Did you mean 'turns'?" in said.stderr
    assert "newest" not in said.stdout + said.stderr.replace("steps.newest", "")


def test_two_makes_at_once_both_end_right(folder: Path, tmp_path: Path) -> None:
    command = ["make", "-j4", "run", "R=small"]
    both = [
        subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    other = project.make(tmp_path / "other")
    call(other, sys.executable, "-m", "runner", "run", "small")

    assert project.store(folder) == project.store(other)
    assert not list((folder / "artifacts/store").glob("*.part"))


def test_a_failing_step_fails_make_and_leaves_the_others_for_the_next_run(folder: Path) -> None:
    recipe = folder / "recipes/small.yaml"
    recipe.write_text(recipe.read_text().replace("test: 0.25", "test: 100"))
    failed = make(folder, "-k", "run", "R=small")

    assert failed.returncode == 2
    assert "too few" in failed.stderr and "Traceback" not in failed.stderr
    assert (folder / "artifacts/small/newest/test.jsonl").is_file()
    recipe.write_text(recipe.read_text().replace("test: 100", "test: 0.25"))
    assert make(folder, "run", "R=small").returncode == 0


def test_a_second_run_does_nothing_and_is_quick_at_a_hundred_steps(folder: Path) -> None:
    (folder / "recipes/many.yaml").write_text(hundred_steps())
    assert call(folder, sys.executable, "-m", "runner", "run", "many").returncode == 0
    times = []
    for _ in range(5):
        began = time.perf_counter()
        said = make(folder, "run", "R=many")
        times.append(time.perf_counter() - began)
        assert said.returncode == 0
        assert "nothing to do, 100 steps made" in said.stderr
    # The promise is one second on a quiet core; the least of five leaves room for a busy one.
    assert min(times) < 1


def test_interrupted_by_ctrl_c_make_leaves_nothing_that_looks_whole(folder: Path, tmp_path: Path) -> None:
    import signal

    other = project.make(tmp_path / "other")
    call(other, sys.executable, "-m", "runner", "run", "small")
    for delay in (0.2, 0.35, 0.5):
        process = subprocess.Popen(
            ["make", "run", "R=small"],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    assert make(folder, "run", "R=small").returncode == 0

    assert project.store(folder) == project.store(other)
