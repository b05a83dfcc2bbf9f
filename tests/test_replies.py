"""Answers are kept once for all recipes and processes; what a killed process was asking is free at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.errors import StepError
from runner.replies import Replies, on_network
from tests.asked import Run, people, step, writer
from tests.server import Server

ROOT = Path(__file__).resolve().parents[1]


def test_an_answer_is_found_by_its_question_and_by_nothing_else(tmp_path: Path) -> None:
    one, other = Replies(tmp_path / "r.sqlite"), Replies(tmp_path / "r.sqlite")
    one.put("k", "who", {"text": "héllo", "input": 1})
    assert other.get("k") == {"text": "héllo", "input": 1} and other.get("x") is None and other.get("x", "k")
    assert other.has_any(["nobody", "who"]) and not other.has_any(["nobody"])
    one.close()
    other.close()


def test_a_question_is_asked_by_one_at_a_time_and_is_free_after_its_answer_or_release(tmp_path: Path) -> None:
    one, other = Replies(tmp_path / "r.sqlite"), Replies(tmp_path / "r.sqlite")
    assert one.claim("k") is True and other.claim("k") is False and one.claim("k") is True
    one.release("k")
    assert other.claim("k") is True and one.claim("k") is False
    other.put("k", "who", {"text": "a"}, "k")
    assert one.claim("k") == {"text": "a"}
    one.close()
    other.close()


def test_what_a_killed_process_was_asking_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    program = f"""
import sys, time
from pathlib import Path
from runner.replies import Replies
held = Replies(Path({str(path)!r}))
print(held.claim("k"), flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout and process.stdout.readline().strip() == "True"
        here = Replies(path)
        assert here.claim("k") is False
        os.kill(process.pid, signal.SIGKILL)
    assert here.claim("k") is True
    here.close()
    assert not list(path.with_suffix(".owners").iterdir())  # nobody's names stay


def test_a_file_that_is_no_cache_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "r.sqlite").write_bytes(b"not a database, but long enough to be looked at " * 50)
    with pytest.raises(StepError, match=r"r\.sqlite: file is not a database\. .*move the file away"):
        Replies(tmp_path / "r.sqlite").get("k")


def test_an_answer_that_cannot_be_kept_does_not_keep_the_next_one_out(tmp_path: Path) -> None:
    held = Replies(tmp_path / "replies.sqlite3")
    with pytest.raises(TypeError):
        held.put("a", "whom", {"text": object()})
    held.put("b", "whom", {"text": "kept"})
    assert held.get("a") is None and held.get("b") == {"text": "kept"}
    held.close()


def test_a_local_disk_is_no_network() -> None:
    assert not on_network(ROOT)


def _ask(folder: str, url: str, begin: float) -> None:
    time.sleep(max(0.0, begin - time.time()))
    made = step(Path(folder), writer(url, concurrency=8), people(60))
    object.__setattr__(made, "artifacts", Path(folder).parent / "artifacts")
    assert len(Run(Path(folder) / "out", made).rows) == 60


def test_processes_that_ask_the_same_at_the_same_time_pay_once(tmp_path: Path) -> None:
    with Server(latency=0.05) as server:
        begin = time.time() + 2
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_ask, args=(str(tmp_path / str(at)), server.url, begin)) for at in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert sum(server.paid.values()) == len(server.paid) == 60
    outputs = {(tmp_path / str(at) / "out" / "rows.jsonl").read_bytes() for at in range(3)}
    assert len(outputs) == 1


def test_a_second_recipe_with_the_same_questions_asks_none(tmp_path: Path) -> None:
    with Server() as server:
        first = Run(tmp_path / "out", step(tmp_path, writer(server.url), people(10)))
        other = Run(tmp_path / "other", step(tmp_path, writer(server.url), people(12), output="said", samples=1))
        assert server.requests == 12
    assert [row["answer"] for row in first.rows] == [row["said"] for row in other.rows[:10]]


def test_rows_with_the_same_question_pay_for_one_answer(tmp_path: Path) -> None:
    rows = [{"id": str(place), "text": "same"} for place in range(20)]
    with Server(latency=0.02) as server:
        made = Run(tmp_path / "out", step(tmp_path, writer(server.url), rows))
        assert server.requests == 1
    assert len(made.rows) == 20 and made.facts["from_cache"] == 19


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"decoding": "hotter"},
        {"prompt": "other"},
        {"output": {"mood": ["good", "bad"]}},
        {"model": "n"},
    ],
    ids=str,
)
def test_whatever_changes_the_question_changes_its_key(change: dict[str, object], tmp_path: Path) -> None:
    from runner.step import Decoding, Prompt
    from tests.asked import SAMPLE

    decoding = SAMPLE
    keys: dict[str, object] = {key: value for key, value in change.items() if key in ("seed", "output")}
    if "decoding" in change:
        decoding = Decoding("talk", "sample", {"temperature": 1.5, "max_new_tokens": 40})
    if "prompt" in change:
        keys["prompt"] = Prompt("hello", ({"system": "Be kind.", "user": "Hello, {{ text }}"},))
    with Server() as server:
        Run(tmp_path / "out", step(tmp_path, writer(server.url), people(3), SAMPLE))
        entry = writer(server.url, model=change.get("model", "m"))
        Run(tmp_path / "out", step(tmp_path, entry, people(3), decoding, **keys))
        assert server.requests == 6


def test_what_does_not_change_the_question_asks_nothing_anew(tmp_path: Path) -> None:
    from runner.step import Decoding

    hot = Decoding("talk", "sample", {"temperature": 1, "max_new_tokens": 40})
    with Server() as server:
        entry = {"concurrency": 3, "timeout": 9, "retries": 1, "price": {"input": 1, "output": 1}}
        from tests.asked import SAMPLE

        Run(tmp_path / "out", step(tmp_path, writer(server.url), people(3), SAMPLE))
        Run(
            tmp_path / "out",
            step(tmp_path, writer(server.url, **entry), people(3), hot, refusals="drop", clean=["quotes"]),
        )
        assert server.requests == 3
