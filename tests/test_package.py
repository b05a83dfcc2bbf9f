"""What is handed out: the wheel, the source archive, the pre-commit hook and the GitHub action."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_checks_recipes_far_from_a_checkout(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    for name in ("recipes", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    own = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-m", "runner", "check"]
    done = subprocess.run(
        command, cwd=tmp_path / "project", env=own, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "recipes/quickstart.yaml: ok" in done.stdout


def test_the_wheel_is_light_and_carries_every_schema(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    schemas = {f"runner/{path.relative_to(ROOT)}" for path in (ROOT / "schemas").rglob("*.json")}
    assert schemas <= names and "runner/install.py" not in names
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert [line.split()[1].split(">=")[0] for line in needed] == ["click", "jinja2", "jsonschema", "pyyaml"]


def test_the_source_archive_holds_what_make_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "runner/install.py", "schemas/targets.json", "tests/conftest.py"} <= names


def test_the_hook_and_the_action_run_the_check() -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert hook["entry"] == "persona-recipes check"
    assert action["runs"]["steps"][-1]["run"].startswith("persona-recipes check")


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "make test"
    assert "bash .ci/run" in workflow
