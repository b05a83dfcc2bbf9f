"""A step's life: locked, built aside, finished by one rename; what fails leaves one line and nothing that looks whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import project

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project.make(tmp_path / "a b")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def runner(folder: Path, *arguments: str, prelude: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project; `prelude` is Python that runs first in the same process."""
    code = f"{prelude}\nfrom runner.cli import main\nmain({list(arguments)!r}, prog_name='runner')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def record(folder: Path, step: str) -> dict[str, object]:
    held: dict[str, object] = json.loads((folder / "artifacts" / "small" / step / "step.json").read_text())
    return held


def test_a_finished_step_says_what_it_was_given_and_what_came_out(folder: Path) -> None:
    assert runner(folder, "run", "small").returncode == 0
    held = record(folder, "parts")

    assert held["rows"] == {"in": 8, "out": {"test": 2, "train": 6}, "dropped": {}}
    assert set(held["outputs"]) == {"test.jsonl", "train.jsonl"}  # type: ignore[call-overload]
    assert {"key", "spec", "facts", "seconds", "made", "versions", "commit", "machine"} <= set(held)


def test_rejected_rows_are_kept_and_counted_by_reason(folder: Path) -> None:
    room = folder / "datasets" / "chat" / "room.json"
    room.write_text(room.read_text().replace('"type": "Default"', '"type": "GuildMemberJoin"', 1))
    said = runner(folder, "run", "small")

    assert record(folder, "chats")["rows"]["dropped"] == {"system message": 1}  # type: ignore[index]
    assert "31 rows, 1 dropped (1 system message)" in said.stderr
    assert len((folder / "artifacts/small/chats/rejected.jsonl").read_text().splitlines()) == 1


def test_two_fresh_runs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    runner(folder, "run", "small")
    other = project.make(tmp_path / "other")
    runner(other, "run", "small")

    assert project.store(folder) == project.store(other) != {}


def test_two_runs_at_once_both_end_right(folder: Path) -> None:
    code = "from runner.cli import main; main(['run', 'small'])"
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment(), stderr=subprocess.PIPE)
        for _ in range(4)
    ]

    assert [process.communicate(timeout=60) and process.returncode for process in both] == [0, 0, 0, 0]
    assert not list((folder / "artifacts/store").glob("*.part"))


def test_a_second_run_waits_for_the_first_and_says_so(folder: Path) -> None:
    runner(folder, "plan", "small", "--make")
    plan = json.loads((folder / "artifacts/plans/small.json").read_text())
    key = next(key for key, spec in plan["steps"].items() if spec["name"] == "chats")
    (folder / "artifacts/store").mkdir()
    code = f"import fcntl, time; held = open('artifacts/store/{key}.lock', 'a'); fcntl.flock(held, fcntl.LOCK_EX); print(flush=True); time.sleep(1)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = runner(folder, "run", "small")

    assert said.returncode == 0
    assert "chats: another run is making it; waiting" in said.stderr


@pytest.mark.parametrize("moment", ["before", "while", "after"])
def test_a_step_killed_at_any_moment_is_made_whole_by_the_next_run(folder: Path, tmp_path: Path, moment: str) -> None:
    undisturbed = project.make(tmp_path / "undisturbed")
    runner(undisturbed, "run", "small")
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    places = {
        "before": f"import runner.execute as e\ne._finish = lambda part, record: {kill}",
        "while": f"import runner.files as f\nf.RowWriter.write = lambda self, row: (self._stream.write('{{\"to'), self._stream.flush(), {kill})",
        "after": f"import runner.execute as e\nold = e._finish\ne._finish = lambda part, record: (old(part, record), {kill})",
    }
    killed = runner(folder, "run", "small", prelude=f"import os, signal\n{places[moment]}")
    assert killed.returncode == -signal.SIGKILL

    assert runner(folder, "run", "small").returncode == 0
    assert project.store(folder) == project.store(undisturbed)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    undisturbed = project.make(tmp_path / "undisturbed")
    runner(undisturbed, "run", "small")
    for delay in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", "run", "small"],
            cwd=folder,
            env=environment(),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(delay)
        process.kill()
        process.wait()
    runner(folder, "run", "small")

    assert project.store(folder) == project.store(undisturbed)
    assert not list((folder / "artifacts/store").glob("*.part"))


def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_whole(folder: Path) -> None:
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))"
    runner(folder, "plan", "small", "--make")
    said = runner(folder, "run", "small", prelude=full)

    assert said.returncode == 1
    assert said.stderr.count("\n") == 2 and "File too large. Nothing finished is lost" in said.stderr
    assert not list((folder / "artifacts/store").glob("*/step.json"))
    assert runner(folder, "run", "small").returncode == 0


@pytest.mark.parametrize(("age", "command"), [(0, "run"), (60, "run"), (60, "status")])
def test_an_artifacts_folder_that_cannot_be_written_is_one_line(folder: Path, age: int, command: str) -> None:
    (folder / "artifacts").write_text("in the way")
    for path in (folder / "datasets/chat").iterdir():
        os.utime(path, (time.time() - age,) * 2)  # the digest of an old file is kept, which is the first thing written
    said = runner(folder, command, "small")

    assert said.returncode == 1
    assert said.stderr.count("\n") == 1 and "must be writable" in said.stderr


def test_a_dataset_of_which_only_the_readme_is_here_checks_but_does_not_run(folder: Path) -> None:
    (folder / "datasets/chat/room.json").unlink()
    (folder / "datasets/chat/README.md").write_text("---\nsource: ask them\n---\nGet it there.")

    assert runner(folder, "check").returncode == 0
    said = runner(folder, "run", "small")
    assert said.returncode == 1
    assert said.stderr == "datasets/chat: holds no data yet. See datasets/chat/README.md for where to get it.\n"


def test_an_export_without_messages_is_one_line(folder: Path) -> None:
    (folder / "datasets/chat/room.json").write_text(project.export(0))
    said = runner(folder, "run", "small")

    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith("datasets/chat") and "Traceback" not in said.stderr


def test_a_speaker_who_says_nothing_is_one_line_with_those_who_do(folder: Path) -> None:
    recipe = folder / "recipes/small.yaml"
    recipe.write_text(recipe.read_text().replace("speaker: holmes", "speaker: moriarty"))
    said = runner(folder, "run", "small")

    assert said.returncode == 1
    assert "moriarty" in said.stderr and "watson" in said.stderr and "Traceback" not in said.stderr


def test_data_that_changes_after_the_plan_is_refused(folder: Path) -> None:
    runner(folder, "plan", "small", "--make")
    (folder / "datasets/chat/room.json").write_text(project.export(3))
    key = next(iter(json.loads((folder / "artifacts/plans/small.json").read_text())["steps"]))
    said = runner(folder, "execute", "artifacts/plans/small.mk", key)

    assert said.returncode == 1
    assert said.stderr == "datasets/chat/room.json: changed since the plan was made. Run again.\n"


def test_a_step_whose_input_is_not_made_says_so(folder: Path) -> None:
    runner(folder, "plan", "small", "--make")
    steps = json.loads((folder / "artifacts/plans/small.json").read_text())["steps"]
    key = next(key for key, spec in steps.items() if spec["name"] == "turns")
    said = runner(folder, "execute", "artifacts/plans/small.mk", key)

    assert (said.returncode, said.stderr) == (1, "turns.from: 'chats' is not made yet. Run it first.\n")


def test_a_bug_keeps_its_traceback(folder: Path) -> None:
    bug = "import runner.steps.preprocess.split as s\ndef broken(step, out): raise ZeroDivisionError('bug')\ns.run = broken"
    said = runner(folder, "run", "small", prelude=bug)

    assert said.returncode == 1 and "ZeroDivisionError: bug" in said.stderr and "Traceback" in said.stderr


@pytest.mark.parametrize(
    ("error", "code"), [("DataError", 1), ("ServiceError", 4), ("MachineError", 5), ("KeyboardInterrupt", 130)]
)
def test_the_exit_code_says_what_kind_of_failure_it_was(folder: Path, error: str, code: int) -> None:
    raising = f"import runner.steps.preprocess.split as s\nfrom runner.errors import *\ndef failing(step, out): raise {error}('why')\ns.run = failing"

    assert runner(folder, "run", "small", prelude=raising).returncode == code


def test_secrets_of_the_environment_reach_no_artifact(folder: Path) -> None:
    (folder / ".env").write_text("WRITER_API_KEY=not-a-real-key-1234567890\n")
    runner(folder, "run", "small")

    assert not [
        path for path in (folder / "artifacts").rglob("*") if path.is_file() and b"not-a-real-key" in path.read_bytes()
    ]
