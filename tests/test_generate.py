"""Generating from the command line: estimates, first rows, shares, kills; against a loopback server in its own thread."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli import main
from tests.server import Server

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """\
recipe: 1
title: Asked
models:
  writer: {{endpoint: "{url}", model: m, price: {{input: 1, output: 2}}, concurrency: {concurrency}{more}}}
decoding:
  exact: {{mode: greedy, max_new_tokens: 40}}
prompts:
  hello: {{user: "Hello, {{{{ text }}}}"}}
  shout: {{user: "Shout: {{{{ said }}}}"}}
steps:
  people: {{preprocess: table, folder: datasets/people}}
  greeted: {{generate: rows, from: people, model: writer, decoding: exact, prompt: hello, output: said}}
  louder: {{generate: rows, from: greeted, model: writer, decoding: exact, prompt: shout, output: shouted}}
"""


class Project:
    """A project folder with one recipe, `asked`, and its command line."""

    def __init__(self, folder: Path, url: str, rows: int, concurrency: int = 8, more: str = "") -> None:
        self.folder = folder
        (folder / "recipes").mkdir(parents=True)
        (folder / "datasets" / "people").mkdir(parents=True)
        text = RECIPE.format(url=url, concurrency=concurrency, more=more)
        (folder / "recipes" / "asked.yaml").write_text(text, encoding="utf-8")
        lines = ["text", *(f"person {place}" for place in range(rows))]
        (folder / "datasets" / "people" / "people.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        held = {name: value for name, value in os.environ.items() if name not in ("ARTIFACTS", "DATASETS", "SHARD")}
        held |= {"PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, "-m", "runner", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=held, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """The command line in this process: what it says, to both of its outputs."""
        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            for name in ("ARTIFACTS", "DATASETS", "SHARD"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            done = CliRunner().invoke(main, words, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    def rows(self, step: str = "greeted") -> bytes:
        return (self.folder / "artifacts" / "asked" / step / "rows.jsonl").read_bytes()

    def ids(self, step: str = "greeted") -> Sequence[str]:
        return [json.loads(line)["id"] for line in self.rows(step).splitlines()]


def test_a_plan_says_what_will_be_asked_and_what_it_costs(tmp_path: Path) -> None:
    with Server() as server:
        project = Project(tmp_path / "p", server.url, 30)
        assert "greeted: known once the rows that it reads are made" in project.run("plan", "asked")
        project.run("run", "asked", "--target", "step/people")
        said = project.run("plan", "asked")
        assert "greeted: 30 rows: 30 questions, about " in said and "about $0.0" in said
        assert server.requests == 0
        done = project.run("run", "asked")
        assert server.requests == 60
        assert "greeted: 30 rows: 30 questions" in done and "greeted: 30 of 30 done" in done
        assert "0 of 3 steps to run" in project.run("plan", "asked")
        record = json.loads((project.folder / "artifacts/asked/greeted/step.json").read_text(encoding="utf-8"))
    assert record["facts"]["tokens"] == {"input": 90, "output": 150} and record["facts"]["requests"] == 30
    assert record["rows"]["out"] == {"rows": 30}


def test_the_first_rows_are_looked_at_before_the_rest_is_paid(tmp_path: Path) -> None:
    with Server() as server:
        project = Project(tmp_path / "p", server.url, 30)
        said = project.run("first", "asked", "greeted", "--rows", "3")
        assert server.requests == 3 and said.count("said: Reply") == 3
        assert not (project.folder / "artifacts/asked/greeted").exists()
        project.run("run", "asked", "--target", "step/greeted")
        assert server.requests == 30
        said = project.run("first", "asked", "people", code=1)
    assert "people: FIRST= is for generate steps" in said


@pytest.mark.parametrize(("rows", "shares"), [(10, 3), (2, 4)])
def test_shares_lose_no_row_and_double_none_whatever_the_remainder(rows: int, shares: int, tmp_path: Path) -> None:
    with Server() as server:
        whole = Project(tmp_path / "whole", server.url, rows)
        whole.run("run", "asked", "--target", "step/greeted")
        project = Project(tmp_path / "shared", server.url, rows)
        for place in range(1, shares):
            said = project.run("run", "asked", "--target", "step/greeted", SHARD=f"{place}/{shares}")
            assert f"share {place} of {shares} is made, {place} of {shares} in all" in said
            assert not (project.folder / "artifacts/asked/greeted").exists()
        project.run("run", "asked", "--target", "step/greeted", SHARD=f"{shares}/{shares}")
        assert server.requests == 2 * rows
    assert project.rows() == whole.rows() and len(set(project.ids())) == rows
    for name in ("provenance.jsonl",):
        both = [(one.folder / "artifacts/asked/greeted" / name).read_bytes() for one in (whole, project)]
        assert both[0] == both[1]
    assert not list((project.folder / "artifacts/store").glob("*.shard-*"))


def test_shares_side_by_side_wait_for_each_other_and_the_last_goes_on(tmp_path: Path) -> None:
    with Server(latency=0.01) as server:
        project = Project(tmp_path / "p", server.url, 21)
        running = [project.start("run", "asked", SHARD=f"{place}/3") for place in (1, 2, 3)]
        said = [process.communicate() for process in running]
        assert [process.returncode for process in running] == [0, 0, 0], said
        for place in (1, 2, 3):
            project.run("run", "asked", SHARD=f"{place}/3")
        assert server.requests == 42 and len(set(project.ids("louder"))) == 21


@pytest.mark.parametrize("share", ["0/3", "4/3", "x", "1"])
def test_a_share_that_is_none_is_a_usage_error(share: str, tmp_path: Path) -> None:
    project = Project(tmp_path / "p", "http://127.0.0.1:9/v1", 3)
    assert f"SHARD={share}: not a share" in project.run("run", "asked", code=2, SHARD=share)


def test_what_a_service_fails_at_ends_with_exit_code_4_and_goes_on_later(tmp_path: Path) -> None:
    with Server(refuse=lambda body, key: (503, "out of order")) as server:
        project = Project(tmp_path / "p", server.url, 5, more=", retries: 0")
        said = project.run("run", "asked", "--target", "step/greeted", "--set", "models.writer.timeout=3", code=4)
        assert "HTTP 503: out of order" in said and "Traceback" not in said
        server.refuse = lambda body, key: None
        assert "was interrupted: goes on from there" in project.run("plan", "asked")
        project.run("run", "asked", "--target", "step/greeted")
    assert len(project.ids()) == 5


def killed(folder: Path, rows: int, kills: int, at_once: int) -> int:
    """Kill a run at random moments; what was paid, and the rows, against an undisturbed run. Returns the requests."""
    with Server(latency=0.02) as server:
        project = Project(folder / "killed", server.url, rows, at_once)
        target = ("run", "asked", "--target", "step/greeted")
        rng, killed_ones = random.Random(7), 0
        while killed_ones < kills:
            before = server.requests
            process = project.start(*target)
            # Only while it asks: before that there is nothing to lose
            while process.poll() is None and server.requests == before:
                time.sleep(0.005)
            time.sleep(rng.random() * rows * 0.02 / at_once / kills * 1.5)
            assert process.poll() is None, process.communicate()
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed_ones += 1
        project.run(*target)
        paid, asked = sum(server.paid.values()), server.requests
    assert rows <= paid <= asked <= rows + at_once * kills
    with Server() as server:
        calm = Project(folder / "calm", server.url, rows, at_once)
        calm.run(*target)
    assert project.rows() == calm.rows() and len(set(project.ids())) == rows
    return asked


def test_kills_cost_at_most_what_is_on_its_way(tmp_path: Path) -> None:
    killed(tmp_path, 300, 3, 8)


@pytest.mark.slow
def test_thirty_kills_cost_at_most_what_is_on_its_way(tmp_path: Path) -> None:
    killed(tmp_path, 2000, 30, 8)


def test_ctrl_c_keeps_what_is_answered(tmp_path: Path) -> None:
    with Server(latency=0.05) as server:
        project = Project(tmp_path / "p", server.url, 200, 4)
        process = project.start("run", "asked", "--target", "step/greeted")
        while server.requests < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err
        asked = server.requests
        project.run("run", "asked", "--target", "step/greeted")
        assert asked < 200 and server.requests == 200
