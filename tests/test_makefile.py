"""The Make front end: its help, what it hands to the runner, and that old Makes understand it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
OF_OUTER_MAKE = {
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "PERSONA_PYTHON",
    "ARTIFACTS",
    "DATASETS",
    "TEXT",
    "SET",
}
# Stands in for the interpreter: writes down the arguments it is called with, and plans one step.
STUB = """\
import json, os, pathlib, sys
arguments = sys.argv[3:]  # after -m runner
with open("calls.jsonl", "a") as calls:
    print(json.dumps(arguments), file=calls)
if "--make" in arguments:
    plan = pathlib.Path(os.environ.get("ARTIFACTS") or "artifacts").absolute() / "plans" / (arguments[1] + ".mk")
    plan.parent.mkdir(parents=True, exist_ok=True)
    step = '\\t@cd "$$PERSONA_ROOT" && $$LAUNCH "$$PERSONA_PYTHON" -m runner execute "$$PERSONA_PLAN" k\\n'
    plan.write_text("all train step/voice: store/k\\n\\t@:\\nstore/k: |\\n" + step)
    print(plan)
sys.exit(int(os.environ.get("STUB_EXIT", 0)))
"""


class Project:
    """A folder with the Makefile, two recipes and a runner that only writes down how it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "recipes").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", folder)
        self.recipe("holmes", "A consulting detective")
        self.recipe("big5", '"High or low"')
        (folder / "stub.py").write_text(STUB, encoding="utf-8")
        self.python = folder / "python stub"
        self.python.write_text('#!/bin/sh\nexec "$REAL_PYTHON" "${0%/*}/stub.py" "$@"\n', encoding="utf-8")
        self.python.chmod(0o755)

    def recipe(self, name: str, title: str) -> None:
        (self.folder / "recipes" / f"{name}.yaml").write_text(f"recipe: 1\ntitle: {title}\n", encoding="utf-8")

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if name not in OF_OUTER_MAKE}
        own |= {"PERSONA_PYTHON": str(self.python), "REAL_PYTHON": sys.executable, **environment}
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=own, check=False, capture_output=True, text=True, timeout=60
        )

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "a b" / "it's $HOME")


def documented() -> set[str]:
    return {word for line in re.findall(r"^## (.*)", TEXT, re.MULTILINE) for word in re.split(r"[ |,;]+", line)}


def named(variable: str) -> list[str]:
    match = re.search(rf"^{variable} := ((?:.*\\\n)*.*)", TEXT, re.MULTILINE)
    assert match
    return match[1].replace("\\\n", " ").split()


def test_the_names_that_check_refuses_are_the_targets_that_make_has() -> None:
    assert json.loads((ROOT / "schemas/targets.json").read_text(encoding="utf-8")) == named("TARGETS")
    rules = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", TEXT, re.MULTILINE) for name in line.split()}
    assert rules | set(named("VERBS")) == set(named("TARGETS"))


def test_help_is_the_default_and_names_recipes_and_targets(project: Project) -> None:
    shown = project.make()
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"make holmes +A consulting detective\n", shown.stdout)
    assert re.search(r"make big5 +High or low\n", shown.stdout)
    assert set(named("TARGETS")) - {"help"} <= documented()
    assert not project.calls()


def test_help_works_without_recipes(project: Project) -> None:
    shutil.rmtree(project.folder / "recipes")
    shown = project.make()
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted"',
        "costs $5 or $(5) or ${HOME",
        "a $(shell touch hacked) b",
        "`touch hacked`; # 100%",
        "\\ ü — 🔍",
    ],
)
def test_what_is_typed_reaches_the_runner_as_it_was_typed(project: Project, text: str) -> None:
    done = project.make("chat", "R=holmes", "C=watson", f"TEXT={text}")
    assert done.returncode == 0, done.stderr
    assert project.calls() == [["chat", "holmes", "--variant", "", "--set", "", "--entry", "watson", "--text", text]]
    assert not (project.folder / "hacked").exists()


def test_settings_survive_the_way_through_two_makes(project: Project) -> None:
    given = "steps.voice.prompt='$x' matrix.trait=[a b]"
    done = project.make("run", "R=holmes", "V=smoke,gpu", f"SET={given}", "LAUNCH=env X=$$ ")
    assert done.returncode == 0, done.stderr
    planned, executed = project.calls()
    assert planned == ["plan", "holmes", "--variant", "smoke,gpu", "--set", given, "--target", "all", "--make"]
    assert executed[0] == "execute" and executed[1].endswith("/plans/holmes.mk")


@pytest.mark.parametrize(
    ("target", "goal"),
    [
        (["run", "R=holmes"], "all"),
        (["holmes"], "all"),
        (["-j4", "holmes", "J=2"], "all"),
        (["train", "R=holmes"], "train"),
        (["step", "R=holmes", "S=voice"], "step/voice"),
        (["holmes/voice"], "step/voice"),
    ],
)
def test_every_way_to_ask_for_a_recipe_plans_it_and_makes_the_goal(
    project: Project, target: list[str], goal: str
) -> None:
    done = project.make(*target)
    assert done.returncode == 0, done.stderr
    planned, executed = project.calls()
    assert (planned[1], planned[-2]) == ("holmes", goal)
    assert executed[0] == "execute"


def test_the_quickstart_is_the_default_recipe(project: Project) -> None:
    project.make("run")
    assert project.calls()[0][:2] == ["plan", "quickstart"]


def test_artifacts_may_lie_at_a_path_with_spaces(project: Project, tmp_path: Path) -> None:
    done = project.make("run", f"ARTIFACTS={tmp_path / 'made here'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made here/plans/quickstart.mk").is_file()


def test_a_recipe_that_cannot_be_planned_runs_no_old_plan(project: Project) -> None:
    project.make("run", "R=holmes")
    failed = project.make("run", "R=holmes", STUB_EXIT="1")
    assert failed.returncode == 2
    assert [call[0] for call in project.calls()] == ["plan", "execute", "plan"]


def test_a_failing_step_fails_make(project: Project) -> None:
    assert project.make("run", "R=holmes", "LAUNCH=false").returncode == 2


def test_one_letter_variables_of_the_environment_do_not_count(project: Project) -> None:
    project.make("plan", R="other", V="1")
    assert project.calls() == [["plan", "quickstart", "--variant", "", "--set", ""]]


def test_check_takes_no_recipe_one_or_several(project: Project) -> None:
    for given in ([], ["R=holmes"], ["R=holmes big5", "FORMAT=github"]):
        project.make("check", *given)
    assert project.calls() == [["check"], ["check", "holmes"], ["check", "holmes", "big5", "--format", "github"]]


@pytest.mark.parametrize("target", ["explain", "clean", "show", "step"])
def test_a_target_that_needs_a_name_says_how_to_give_it(project: Project, target: str) -> None:
    asked = project.make(target)
    assert asked.returncode == 2
    assert f"which one? make {target}" in asked.stderr
    assert not project.calls()


def test_an_unknown_target_is_one_line_and_an_error(project: Project) -> None:
    failed = project.make("qiuckstart")
    assert failed.returncode == 2
    assert failed.stderr.startswith("qiuckstart: no recipe and no target of that name.")


def test_a_recipe_with_an_odd_file_name_does_not_break_make(project: Project) -> None:
    for name in ("a:b", "two words", "100%", "train", "x=y", "$(shell touch hacked)"):
        project.recipe(name, "Odd")
    assert project.make("list").returncode == 0
    assert project.make("train", "R=holmes").returncode == 0
    assert not (project.folder / "hacked").exists()


def test_a_missing_python_is_one_line(project: Project) -> None:
    failed = project.make("check", "PERSONA_PYTHON=", "PYTHON=no-such-python")
    assert failed.returncode == 2
    assert "no-such-python: not found. Install Python 3.11 or newer" in failed.stderr


NEWER_THAN_3_81 = {
    "grouped targets (4.3)": r"&:",
    ".ONESHELL (3.82)": r"\.ONESHELL",
    ".SHELLFLAGS (3.82)": r"\.SHELLFLAGS",
    ".RECIPEPREFIX (3.82)": r"\.RECIPEPREFIX",
    ".NOTPARALLEL with targets (4.4)": r"\.NOTPARALLEL *:.",
    ".WAIT (4.4)": r"\.WAIT",
    ".EXTRA_PREREQS (4.3)": r"\.EXTRA_PREREQS",
    ".SHELLSTATUS (4.2)": r"\.SHELLSTATUS",
    "$(file) (4.0)": r"\$\(file\b",
    "$(guile) (4.0)": r"\$\(guile\b",
    "$(let) and $(intcmp) (4.4)": r"\$\((let|intcmp)\b",
    "!= (4.0)": r"^[\w.-]+ *!=",
    "::= (4.0)": r":::?=",
    "define with = (3.82)": r"^define +\S+ *[:+?]?=",
    "undefine (3.82)": r"^ *(override +)?undefine\b",
    "private (3.82)": r"^ *private\b",
    "output in order (4.0)": r"(--output-sync|MAKEFLAGS.*-O)",
}


@pytest.mark.parametrize("construct", NEWER_THAN_3_81)
def test_the_makefile_uses_nothing_that_make_3_81_lacks(construct: str) -> None:
    found = re.search(NEWER_THAN_3_81[construct], re.sub(r"^#.*", "", TEXT, flags=re.MULTILINE), re.MULTILINE)
    assert not found, f"{construct}: {found and found[0]}"


def test_reading_the_makefile_starts_no_process() -> None:
    assert "$(shell" not in TEXT and "-include" not in TEXT
