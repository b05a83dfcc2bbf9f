"""Endpoints that fail, refuse, slow down or cost money: every row ends somewhere, nothing is asked twice, nothing leaks."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from runner import service
from runner.asking import Ask
from runner.endpoint import stream
from runner.errors import MachineError, ServiceError
from runner.files import Row
from tests.asked import GREEDY, SAMPLE, Run, people, run, step, writer
from tests.server import FAULTS, Body, Server, completion, said

KEY = "sk-" + "proj-7f3a9b2c4d5e6f708192"  # in two pieces: no key stands in this file


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.01)


# What goes wrong on the way


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_tried_again_until_there_is_an_answer(fault: str, tmp_path: Path) -> None:
    with Server(faults=[fault], share=0.3, seed=1) as server:
        made = run(tmp_path, writer(server.url, timeout=1 if fault == "hang" else 30, retries=30), people(12))
    assert [row["id"] for row in made.rows] == [f"p{place}" for place in range(12)]
    assert all(row["answer"].startswith("Reply") for row in made.rows)
    # Each answer is paid once; on a busy machine one may come too late
    assert len(server.paid) == 12 and (fault == "hang" or sum(server.paid.values()) == 12)
    assert (made.facts["metrics"].get("cut_off", 0) if fault == "length" else server.failed[fault]) > 0


def faulty(folder: Path, count: int) -> None:
    """Every row at a server with every fault ends in rows or rejected, or has failed and is asked again by the next run."""
    with Server(faults=FAULTS, share=0.2, seed=3, later=0.02) as server:
        made = step(folder, writer(server.url, timeout=2, retries=1), people(count), cut_off="drop")
        left, done = count, None
        while done is None:
            before, answered = server.requests, len(server.paid)
            try:
                done = Run(folder / "out", made)
            except ServiceError as error:
                assert error.exit_code == 4 and "run again" in str(error)
                failed = int(str(error).split(": ")[1].split(" of ")[0])
                assert len(server.paid) - answered == left - failed  # all others are kept,
                assert server.requests - before <= 2 * left  # and are not asked again
                left = failed
        again = Run(folder / "again", made)
        assert again.rows == done.rows and again.rejected == done.rejected and again.facts["requests"] == 0
    passed, rejected = [row["id"] for row in done.rows], [name for name, _ in done.rejected]
    assert left < count and sorted(passed + rejected) == sorted(f"p{place}" for place in range(count))
    assert {reason for _, reason in done.rejected} == {"cut off"} and len(rejected) > count * 0.005
    assert passed == sorted(passed, key=lambda name: int(name[1:]))
    assert set(server.failed) == {*FAULTS} - {"length"} and len(server.paid) == count
    # On a busy machine an answer may come after its time
    assert sum(server.paid.values()) <= count + server.failed["hang"] // 10


def test_all_faults_at_once_lose_no_row_and_double_none(tmp_path: Path) -> None:
    faulty(tmp_path, 300)


@pytest.mark.slow
def test_all_faults_among_five_thousand_requests_lose_no_row_and_double_none(tmp_path: Path) -> None:
    faulty(tmp_path, 5000)


def test_rows_without_an_answer_are_failed_and_tried_again_in_the_next_run(tmp_path: Path) -> None:
    broken = True

    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        return (500, "no") if broken and "person 3" in body["messages"][0]["content"] else None

    with Server(refuse=refuse) as server:
        made = step(tmp_path, writer(server.url, retries=1), people(6))
        with pytest.raises(ServiceError) as caught:
            Run(tmp_path / "out", made)
        assert str(caught.value) == (
            "voice: 1 of 6 have no answer, the first: HTTP 500: no. The others are kept: run again to try it again."
        )
        asked, broken = server.requests, False
        done = Run(tmp_path / "out", made)
        assert server.requests == asked + 1
    assert len(done.rows) == 6


def test_an_endpoint_that_is_plainly_wrong_is_left_alone_with_its_reason(tmp_path: Path) -> None:
    with Server(refuse=lambda body, key: (404, "There is no such model.")) as server:
        with pytest.raises(ServiceError, match=r"models\.writer: no answer to 3 .* HTTP 404: There is no such model"):
            run(tmp_path, writer(server.url), people(500))
        assert server.requests < 60


def test_an_endpoint_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="the connection failed"):
        run(tmp_path, writer("http://127.0.0.1:9/v1", retries=1), people(500))


def test_an_account_without_credit_ends_it_at_once(tmp_path: Path) -> None:
    held = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}

    class Poor(Server):
        async def _answered(self, body: Body, key: str, busy: int) -> bytes | None:
            from tests.server import http

            return http(429, json.dumps(held).encode())

    with Poor() as server, pytest.raises(ServiceError, match="HTTP 429 insufficient_quota"):
        run(tmp_path, writer(server.url), people(50))


def test_one_question_that_is_refused_among_others_is_rejected_and_not_asked_again(tmp_path: Path) -> None:
    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        return (400, "too long") if "person 7" in body["messages"][0]["content"] else None

    with Server(refuse=refuse) as server:
        first = step(tmp_path, writer(server.url, concurrency=1), people(10))
        made = Run(tmp_path / "out", first)
    assert made.rejected == [("p7", "the model does not take the question")]
    assert {"id": "p7", "why": "HTTP 400: too long"} in made.read("side")


# Limits


def test_a_server_that_asks_to_wait_is_left_alone_for_that_long(tmp_path: Path) -> None:
    with Server(faults=["429 later"], share=0.5, seed=2, later=0.3) as server:
        run(tmp_path, writer(server.url, concurrency=1), people(6))
        pauses = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert sum(pause >= 0.29 for pause in pauses) == server.failed["429 later"] > 0


def test_requests_are_spread_evenly_over_the_minute(tmp_path: Path) -> None:
    with Server() as server:
        run(tmp_path, writer(server.url, requests_per_minute=1200), people(40))
        first, *_, last = server.times
    assert 39 / 20 - 0.25 <= last - first < 4


def test_tokens_a_minute_hold_requests_back(tmp_path: Path) -> None:
    with Server() as server:
        run(tmp_path, writer(server.url, tokens_per_minute=12_000), people(20))
        first, *_, last = server.times
    taken = sum(2 + 3 + 5 for _ in range(19))
    assert last - first > taken / 200 * 0.5


def test_a_server_with_room_for_few_is_found_out_and_not_flooded(tmp_path: Path) -> None:
    with Server(latency=0.02, most=4) as server:
        made = run(tmp_path, writer(server.url, concurrency=64), people(150))
    assert len(made.rows) == 150
    assert server.failed["too many"] < 100  # of 150, 64 at a time would be told so again and again


def test_every_key_has_limits_of_its_own_and_all_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A", "B", "C"):
        monkeypatch.setenv(f"KEY_{name}", f"key-{name}")
    with Server(latency=0.02) as server:
        entry = writer(server.url, api_key_env=["KEY_A", "KEY_B", "KEY_C"], concurrency=2)
        made = run(tmp_path, entry, people(60))
    assert len(made.rows) == 60 and set(server.keys) == {"key-A", "key-B", "key-C"}
    assert all(count >= 10 for count in server.keys.values()) and server.peak <= 6


def test_a_key_that_is_told_to_wait_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.server import error

    class Waits(Server):
        async def _answered(self, body: Body, key: str, busy: int) -> bytes | None:
            if key == "key-A":
                self.failed[key] += 1
                return error(429, "slow down", {"Retry-After": "30"})
            return await super()._answered(body, key, busy)

    monkeypatch.setenv("KEY_A", "key-A")
    monkeypatch.setenv("KEY_B", "key-B")
    started = time.monotonic()
    with Waits() as server:
        entry = writer(server.url, api_key_env=["KEY_A", "KEY_B"], concurrency=3)
        assert len(run(tmp_path, entry, people(30)).rows) == 30
    assert time.monotonic() - started < 15 and server.failed["key-A"] <= 6


def test_several_base_urls_share_the_work_and_a_new_one_keeps_the_cache(tmp_path: Path) -> None:
    with Server(latency=0.01) as one, Server(latency=0.01) as other:
        first = run(tmp_path / "a", writer([one.url]), people(10))
        both = step(tmp_path / "a", writer([other.url, one.url]), people(30))
        made = Run(tmp_path / "a" / "again", both)
        assert made.rows[:10] == first.rows and len(made.rows) == 30
        assert one.requests + other.requests == 30 and other.requests > 5


# What it costs


def test_a_budget_of_requests_ends_the_run_there_and_the_next_goes_on(tmp_path: Path) -> None:
    with Server() as server:
        made = step(tmp_path, writer(server.url), people(25), budget={"requests": 10})
        for paid in (10, 20):
            with pytest.raises(ServiceError, match=r"budget: 10 of 10 requests are used.*Run again") as caught:
                Run(tmp_path / "out", made)
            assert caught.value.exit_code == 4 and server.requests == paid
        assert len(Run(tmp_path / "out", made).rows) == 25 and server.requests == 25


@pytest.mark.parametrize(("budget", "said"), [({"usd": 1.0}, "of 1 US dollars"), ({"tokens": 400}, "of 400 tokens")])
def test_a_budget_of_dollars_or_tokens_is_never_passed(budget: Row, said: str, tmp_path: Path) -> None:
    price = {"input": 1000.0, "output": 2000.0}  # a tenth of a cent a token, and two
    with Server(latency=0.01) as server:
        made = step(tmp_path, writer(server.url, price=price), people(200), budget=budget)
        with pytest.raises(ServiceError, match=said):
            Run(tmp_path / "out", made)
        answered = sum(server.paid.values())
    assert answered > 10
    assert answered * (3 * 0.001 + 5 * 0.002) <= 1.0 if "usd" in budget else answered * 8 <= 400


def test_cost_and_tokens_are_what_the_server_reports(tmp_path: Path) -> None:
    with Server() as server:
        made = run(tmp_path, writer(server.url, price={"input": 2.0, "output": 10.0}), people(8))
    assert made.facts["tokens"] == {"input": 8 * 3, "output": 8 * 5}
    assert made.facts["cost"] == pytest.approx((24 * 2 + 40 * 10) / 1e6)
    assert any("$0.0004" in line for line in made.said)


def test_what_it_will_cost_is_said_before_the_first_request(tmp_path: Path) -> None:
    with Server() as server:
        price = {"input": 1.0, "output": 2.0}
        Run(tmp_path / "out", step(tmp_path, writer(server.url, price=price), people(4)))
        made = Run(tmp_path / "out", step(tmp_path, writer(server.url, price=price), people(10)))
    assert made.said[0].startswith("10 rows: 6 questions, about ") and "4 answers in the cache" in made.said[0]
    assert "$0.0" in made.said[0]


# What an endpoint can do


def shaped(body: Body) -> str:
    return said(body) if "response_format" in body else 'Gladly! ```json\n{"mood": "good", "age": "31"}\n``` Bye.'


SHAPE: Row = {"mood": ["good", "bad"], "age": "12..40"}


def test_an_endpoint_with_response_format_is_sent_the_schema(tmp_path: Path) -> None:
    with Server() as server:
        made = run(tmp_path, writer(server.url), people(5), output=SHAPE)
    assert all(body["response_format"]["type"] == "json_schema" for body in server.bodies)
    assert all(row["mood"] in ("good", "bad") and 12 <= row["age"] <= 40 for row in made.rows)


@pytest.mark.parametrize("level", ["json_object", "none"])
def test_an_endpoint_without_response_format_is_asked_in_words_and_remembered(level: str, tmp_path: Path) -> None:
    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        kind = (body.get("response_format") or {}).get("type", "none")
        return (400, "Unknown field.") if kind not in (level, "none") else None

    with Server(reply=lambda body: shaped({**body, "response_format": None} | {"none": 1}), refuse=refuse) as server:
        server.reply = lambda body: '{"mood": "good", "age": 30}' if level == "json_object" else shaped(body)
        made = run(tmp_path, writer(server.url, concurrency=1), people(4), output=SHAPE)
        assert len(made.rows) == 4 and sum(server.paid.values()) == 4
        before = server.requests
        Run(tmp_path / "more", step(tmp_path, writer(server.url, concurrency=1), people(9), output=SHAPE))
        assert server.requests == before + 5  # what it can do was not found out again


def test_a_parameter_that_an_endpoint_does_not_know_is_left_out(tmp_path: Path) -> None:
    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        if "max_tokens" in body:
            return 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return (422, "Extra inputs are not permitted: seed") if "seed" in body else None

    with Server(refuse=refuse) as server:
        made = run(tmp_path, writer(server.url, concurrency=1), people(3), SAMPLE)
        assert len(made.rows) == 3 and server.requests == 3 + 2
        assert server.bodies[-1]["max_completion_tokens"] == 40 and "seed" not in server.bodies[-1]


def test_sampled_answers_have_seeds_of_their_own_and_greedy_ones_none(tmp_path: Path) -> None:
    with Server() as server:
        run(tmp_path, writer(server.url), people(3), SAMPLE, samples=2)
        seeds = {body["seed"] for body in server.bodies}
        assert len(seeds) == 6 and all(0 <= seed < 2**31 for seed in seeds)
        run(tmp_path / "greedy", writer(server.url), people(1), GREEDY)
        assert "seed" not in server.bodies[-1] and server.bodies[-1]["temperature"] == 0


# What nobody should see


def test_neither_key_nor_prompt_is_in_any_file_line_or_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRITER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    rows = [{"id": str(place), "text": f"the butler did it {place}"} for place in range(6)]

    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        asked = body["messages"][0]["content"]
        if asked.endswith("3"):
            return 500, f"Cannot read this: {asked}"
        return (401, f"Incorrect API key provided: {key}.") if asked.endswith("4") else None

    with Server(refuse=refuse) as server, pytest.raises(ServiceError) as caught:
        run(tmp_path, writer(server.url, api_key_env="WRITER_KEY", retries=1), rows)
    shown = [str(caught.value), caplog.text, *capfd.readouterr()]
    kept = [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert server.keys[KEY] > 0
    assert not any(KEY in text or KEY[-6:] in text for text in [*shown, *kept])
    assert not any("butler" in text for text in shown)
    assert not any("butler" in (tmp_path / "out" / name).read_text() for name in ("step.log",))


def test_a_missing_key_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    with Server() as server:
        with pytest.raises(MachineError, match=r"models\.writer: the environment variable NO_SUCH_KEY is not set"):
            run(tmp_path, writer(server.url, api_key_env="NO_SUCH_KEY"), people(2))
        assert server.requests == 0


def test_answers_cut_off_at_once_are_marked_and_dropped_where_asked(tmp_path: Path) -> None:
    with Server(faults=["length"], share=1.0) as server:
        kept = run(tmp_path / "a", writer(server.url), people(3))
        dropped = run(tmp_path / "b", writer(server.url), people(3), cut_off="drop")
    assert len(kept.rows) == 3 and kept.facts["metrics"] == {"cut_off": 3}
    assert dropped.rejected == [("p0", "cut off"), ("p1", "cut off"), ("p2", "cut off")]


def test_what_a_filter_withholds_is_rejected_with_that_reason(tmp_path: Path) -> None:
    def filtered(body: Body) -> dict[str, Any]:
        return completion("…", body, "content_filter")

    with Server(reply=filtered) as server:
        made = run(tmp_path, writer(server.url), people(2))
    assert made.rejected == [("p0", "content filter"), ("p1", "content filter")]


# Streams


def test_a_stream_gives_the_answer_piece_by_piece() -> None:
    with Server() as server:
        messages = [{"role": "user", "content": "Hello"}]
        pieces = list(stream(writer(server.url), messages, GREEDY))
        assert len(pieces) == 5 and "".join(pieces) == said({"messages": messages})


def test_a_stream_that_fails_says_so_without_the_question() -> None:
    with Server(refuse=lambda body, key: (404, f"no: {body['messages'][0]['content']}")) as server:
        messages = [{"role": "user", "content": "the butler did it"}]
        with pytest.raises(ServiceError) as caught:
            list(stream(writer(server.url), messages, GREEDY))
    assert str(caught.value) == "models.writer: HTTP 404."


def test_a_prefill_goes_out_as_the_beginning_of_the_answer_and_is_not_in_it_twice(tmp_path: Path) -> None:
    from runner.asking import speakers

    made = step(tmp_path, writer(""), people(1))
    with Server(reply=lambda body: f"{body['messages'][-1]['content']} goes on") as server:
        made.models["model"][0].entry["endpoint"] = server.url
        out: Any = type("Out", (), {"log": staticmethod(print)})
        with speakers(made, out) as named:
            asked = [{"role": "user", "content": "Say it"}, {"role": "assistant", "content": "It"}]
            assert named["model"].submit(Ask("model", asked)).result(10).text == " goes on"
