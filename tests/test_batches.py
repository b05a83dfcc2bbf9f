"""Batches (`batch: true`): the same rows as without, and nothing paid twice wherever a run ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from runner import batch_api, batches
from runner.errors import ServiceError
from runner.replies import Replies
from runner.step import Model, Prompt, Step
from tests.asked import SAMPLE, Run, people, run, step, writer
from tests.batch_server import BatchServer
from tests.server import Body, Server
from tests.steps.generate.test_dialogue import Runs, reply
from tests.test_generate import Project

CHAIN = Prompt("two", ({"user": "Hello, {{ text }}"}, {"user": "And now?"}))
PRICE = {"input": 1.0, "output": 2.0}


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "FIRST_LOOK", 0.01)


def batched(server: Server, **keys: Any) -> Model:
    return writer(server.url, batch=True, price=PRICE, **keys)


def test_rows_are_the_same_as_without_and_come_in_one_batch_a_turn(tmp_path: Path) -> None:
    with Server() as server:
        plain = run(tmp_path / "plain", writer(server.url, price=PRICE), people(40), SAMPLE, prompt=CHAIN, samples=2)
    with BatchServer(looks=2) as server:
        made = run(tmp_path / "batched", batched(server), people(40), SAMPLE, prompt=CHAIN, samples=2)
        assert len(server.batches) == 2 and server.requests == 160
    assert made.rows == plain.rows and made.read("provenance") == plain.read("provenance")
    names = ("tokens", "cost", "requests", "metrics")
    assert [made.facts[name] for name in names] == [plain.facts[name] for name in names]
    assert len({row["request"] for row in made.read("side")}) == 160
    assert any("80 questions are sent as batch batch_1" in line for line in made.said)
    assert any("batch batch_1 is completed, 80 of 80 answered" in line for line in made.said)


def test_the_cache_is_that_of_single_requests(tmp_path: Path) -> None:
    with BatchServer() as server:
        run(tmp_path, writer(server.url), people(5))
        made = run(tmp_path, batched(server), people(8))
        again = run(tmp_path, writer(server.url), people(8))
    assert len(made.rows) == 8 and made.facts["from_cache"] == 5 and made.facts["requests"] == 3
    assert again.rows == made.rows and again.facts["requests"] == 0 and server.requests == 8


def test_answers_of_the_wrong_shape_are_repaired_in_the_next_batch(tmp_path: Path) -> None:
    def first_badly(body: Body) -> str:
        return "No idea." if len(body["messages"]) == 1 else '{"mood": "good"}'

    with BatchServer(reply=first_badly) as server:
        made = run(tmp_path, batched(server), people(6), output={"mood": ["good", "bad"]})
        assert len(server.batches) == 2
    assert [row["mood"] for row in made.rows] == ["good"] * 6 and made.facts["metrics"] == {"repaired": 6}


def test_what_the_endpoint_does_not_know_is_left_out_of_the_next_batch_and_remembered(tmp_path: Path) -> None:
    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        return (400, "Unsupported parameter: 'max_tokens'.") if "max_tokens" in body else None

    with BatchServer(refuse=refuse) as server:
        made = run(tmp_path, batched(server), people(4))
        assert len(made.rows) == 4 and len(server.batches) == 2
        run(tmp_path, batched(server), people(9))
        assert len(server.batches) == 3 and sum(server.paid.values()) == 9


def test_a_line_that_is_refused_is_rejected_and_one_that_failed_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    broken = True

    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        asked = body["messages"][0]["content"]
        return (400, "not that") if asked.endswith("3") else (500, "no") if broken and asked.endswith("4") else None

    with BatchServer(refuse=refuse) as server:
        made = step(tmp_path, batched(server), people(8))
        with pytest.raises(ServiceError, match="voice: 1 of 8 have no answer, the first: HTTP 500: no"):
            Run(tmp_path / "out", made)
        broken, paid = False, sum(server.paid.values())
        done = Run(tmp_path / "out", made)
        assert paid == 6 and sum(server.paid.values()) == 7
    assert len(done.rows) == 7 and done.rejected == [("p3", "the model does not take the question")]


@pytest.mark.parametrize(
    ("ends", "said"), [("expired", "HTTP 408 batch_expired"), ("cancelled", "is cancelled without it")]
)
def test_what_a_batch_did_not_come_to_is_asked_again_by_the_next_run(ends: str, said: str, tmp_path: Path) -> None:
    with BatchServer(ends=ends, done=0.5) as server:
        made = step(tmp_path, batched(server), people(10))
        with pytest.raises(ServiceError, match=f"5 of 10 have no answer, the first: .*{said}") as caught:
            Run(tmp_path / "out", made)
        assert caught.value.exit_code == 4
        server.done, server.ends = 1.0, "completed"
        assert len(Run(tmp_path / "out", made).rows) == 10 and sum(server.paid.values()) == 10


def test_a_batch_that_fails_as_a_whole_says_why_and_is_sent_anew_by_the_next_run(tmp_path: Path) -> None:
    with BatchServer(ends="failed") as server:
        made = step(tmp_path, batched(server), people(3))
        with pytest.raises(ServiceError) as caught:
            Run(tmp_path / "out", made)
        said = "batch batch_1 has failed token_limit_exceeded: Too many tokens"
        assert str(caught.value) == f"models.writer: {said}. What is answered is kept: run again later."
        server.ends = "completed"
        assert len(Run(tmp_path / "out", made).rows) == 3


def test_an_endpoint_that_takes_no_question_is_said_to_be_so(tmp_path: Path) -> None:
    said = "no answer to 6 questions, the first: HTTP 404: There is no such model"
    with (
        BatchServer(refuse=lambda body, key: (404, "There is no such model.")) as server,
        pytest.raises(ServiceError, match=said),
    ):
        run(tmp_path, batched(server), people(6))


def test_what_a_batch_fails_with_shows_no_question(tmp_path: Path) -> None:
    said = r"batch batch_1 has failed token_limit_exceeded\. What"
    failing = BatchServer(ends="failed", why="Line 2 is wrong: Hello, person 1")
    with failing as server, pytest.raises(ServiceError, match=said):
        run(tmp_path, batched(server), people(3))


@pytest.mark.parametrize("line", ["[1]", "{", '{"custom_id": ["x"], "response": "none"}', "null"])
def test_results_that_are_none_end_in_one_line(line: str, tmp_path: Path) -> None:
    with BatchServer(results=line) as server, pytest.raises(ServiceError) as caught:
        run(tmp_path, batched(server), people(3))
    assert len(caught.value.lines) == 1


def test_an_endpoint_without_batches_is_said_to_be_so(tmp_path: Path) -> None:
    class Without(Server):
        async def answer(self, path: str, headers: dict[str, str], content: bytes) -> bytes | None:
            from tests.server import error

            return error(404, "Not found.")

    with Without() as server, pytest.raises(ServiceError, match=r"/v1 has no Batch API\. Leave batch: out\."):
        run(tmp_path, batched(server), people(2))


def test_a_budget_cuts_batches_short_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with BatchServer() as server:
        made = step(tmp_path, batched(server), people(25), budget={"requests": 10})
        for paid in (10, 20):
            with pytest.raises(ServiceError, match="budget: 10 of 10 requests are used"):
                Run(tmp_path / "out", made)
            assert server.requests == paid
        assert len(Run(tmp_path / "out", made).rows) == 25 and server.requests == 25


def test_a_large_wave_goes_as_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BYTES", 2000)
    with BatchServer() as server:
        assert len(run(tmp_path, batched(server), people(30)).rows) == 30
        assert len(server.batches) > 2 and server.requests == 30


def test_dialogues_go_in_waves(tmp_path: Path) -> None:
    with Server(reply=reply) as server:
        plain = Runs(tmp_path / "plain", server.url, 12)
        plain()
        asked = server.requests
    with BatchServer(reply=reply) as server:
        made = Runs(tmp_path / "batched", server.url, 12)
        made.model.entry["batch"] = True
        made()
        assert server.requests == asked and len(server.batches) < asked / 6
    assert made.rows == plain.rows


# Runs that end before their batches


class Ended(Exception):
    """In place of a kill."""


def ended(folder: Path, made: Step, monkeypatch: pytest.MonkeyPatch, at: str = "results") -> None:
    """A run that ends where it would come to `at`: its file is sent, or its batch is begun too."""

    def end(*given: object, **named: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(batch_api.BatchApi, at, end)
        with pytest.raises(Ended):
            Run(folder, made)


@pytest.mark.parametrize("at", ["begin", "wait", "results"])
def test_a_run_that_ends_anywhere_pays_nothing_twice(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BatchServer() as server:
        made = step(tmp_path, batched(server), people(7))
        ended(tmp_path / "out", made, monkeypatch, at)
        done = Run(tmp_path / "out", made)
        assert len(server.batches) == 1 and server.requests == 7
    assert len(done.rows) == 7 and done.facts["requests"] == 7 and done.facts["cost"] > 0


def test_a_batch_whose_id_was_not_noted_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Replies.remember

    def forgetful(replies: Replies, name: str, value: Any) -> None:
        if name.startswith("batch ") and value and value["batch"]:
            raise Ended
        noted(replies, name, value)

    with BatchServer() as server:
        made = step(tmp_path, batched(server), people(7))
        with monkeypatch.context() as patch:
            patch.setattr(Replies, "remember", forgetful)
            with pytest.raises(Ended):
                Run(tmp_path / "out", made)
        assert len(Run(tmp_path / "out", made).rows) == 7
        assert len(server.batches) == 1 and server.requests == 7


def test_a_batch_whose_creation_gets_no_answer_is_found_and_not_begun_again(tmp_path: Path) -> None:
    with BatchServer(lost=1) as server:
        assert len(run(tmp_path, batched(server), people(4)).rows) == 4
        assert len(server.batches) == 1


def test_a_batch_that_is_not_there_any_more_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BatchServer() as server:
        made = step(tmp_path, batched(server), people(4))
        ended(tmp_path / "out", made, monkeypatch)
        server.hidden = set(server.batches)
        done = Run(tmp_path / "out", made)
    assert len(done.rows) == 4 and any("is not there any more, and is sent again" in line for line in done.said)


def test_another_recipes_questions_in_an_open_batch_are_still_there_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchServer() as server:
        ended(tmp_path / "out", step(tmp_path, batched(server), people(6)), monkeypatch)
        assert len(run(tmp_path, batched(server), people(2)).rows) == 2
        assert len(run(tmp_path, batched(server), people(6)).rows) == 6
        assert len(server.batches) == 1 and server.requests == 6


def test_a_killed_run_takes_its_batch_in_when_it_is_run_again(tmp_path: Path) -> None:
    with BatchServer(looks=10**9) as server:
        project = Project(tmp_path / "p", server.url, 30, more=", batch: true")
        process = project.start("run", "asked", "--target", "step/greeted")
        while not any(batch["looks"] for batch in server.batches.values()) and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        server.looks = 1
        said = project.run("run", "asked", "--target", "step/greeted")
        assert len(server.batches) == 1 and server.requests == 30 and "greeted: 30 of 30 done" in said
    with Server() as server:
        plain = Project(tmp_path / "plain", server.url, 30)
        plain.run("run", "asked", "--target", "step/greeted")
    assert project.rows() == plain.rows()


def test_ctrl_c_leaves_the_batch_for_the_next_run(tmp_path: Path) -> None:
    with BatchServer(looks=10**9) as server:
        project = Project(tmp_path / "p", server.url, 10, more=", batch: true")
        process = project.start("run", "asked", "--target", "step/greeted")
        while not any(batch["looks"] for batch in server.batches.values()) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in err
        server.looks = 1
        project.run("run", "asked", "--target", "step/greeted")
        assert len(server.batches) == 1 and server.requests == 10


def test_the_first_rows_are_looked_at_without_a_batch_and_not_paid_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        project = Project(tmp_path / "p", server.url, 10, more=", batch: true")
        assert project.run("first", "asked", "greeted", "--rows", "3").count("said: Reply") == 3
        assert not server.batches and server.requests == 3
        project.run("run", "asked", "--target", "step/greeted")
        assert len(server.batches) == 1 and server.requests == 10
