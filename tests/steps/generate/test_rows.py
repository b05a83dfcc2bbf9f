"""`generate: rows` against a loopback server: chains, samples, shapes, repairs, filters; rows come out in order, every time."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import schema
from runner.cleaning import RULES
from runner.errors import DataError, StepError
from runner.files import Row
from runner.step import Prompt
from tests.asked import GREEDY, SAMPLE, Run, people, run, step, writer
from tests.server import Body, Server, completion


def last(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def answers(*texts: str) -> Callable[[Body], str]:
    """A server's replies by how many times the assistant has spoken before."""
    return lambda body: texts[sum(one["role"] == "assistant" for one in body["messages"])]


def test_a_chain_is_asked_turn_by_turn_each_after_the_last_answer(tmp_path: Path) -> None:
    prompt = Prompt(
        "chain",
        ({"system": "Be brief.", "user": "Who is {{ text }}?"}, {"user": "And {{ age }}?"}, {"user": "Sum up."}),
    )
    with Server(reply=answers("One.", "Two.", "Three.")) as server:
        made = run(tmp_path, writer(server.url), people(2), prompt=prompt, output="said")
        asked = max(server.bodies, key=lambda body: len(body["messages"]))["messages"]
    assert [one["role"] for one in asked] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [one["content"] for one in asked if one["role"] == "assistant"] == ["One.", "Two."]
    assert [row["said"] for row in made.rows] == ["Three.", "Three."] and server.requests == 6


def test_all_columns_are_carried_and_an_answer_may_go_into_an_object(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "x", "profile": {"name": "Bo"}, "more": [1, {"b": None}]}]
    with Server(reply=lambda body: "New.") as server:
        made = run(tmp_path, writer(server.url), rows, output="profile.extra.fact")
    assert made.rows == [{**rows[0], "profile": {"name": "Bo", "extra": {"fact": "New."}}}]
    with Server() as server, pytest.raises(DataError, match="column 'text' is no object"):
        run(tmp_path / "b", writer(server.url), rows, output="text.fact")


def test_samples_are_rows_of_their_own_with_answers_of_their_own(tmp_path: Path) -> None:
    with Server(reply=lambda body: f"{body['seed']}") as server:
        made = run(tmp_path, writer(server.url), people(2), SAMPLE, samples=3)
        again = run(tmp_path / "again", writer(server.url), people(2), SAMPLE, samples=3)
    assert [row["id"] for row in made.rows] == ["p0#1", "p0#2", "p0#3", "p1#1", "p1#2", "p1#3"]
    assert [row["sample"] for row in made.rows] == [1, 2, 3, 1, 2, 3]
    assert len({row["answer"] for row in made.rows}) == 6 and made.rows == again.rows


def test_two_columns_are_asked_about_both_ways_round(tmp_path: Path) -> None:
    prompt = Prompt("rank", ({"user": "First {{ a }}, second {{ b }}"},))
    with Server(reply=last) as server:
        made = run(tmp_path, writer(server.url), [{"id": "q", "a": "x", "b": "y"}], prompt=prompt, swap=["a", "b"])
    assert [(row["id"], row["a"], row["b"], row["swapped"], row["answer"]) for row in made.rows] == [
        ("q", "x", "y", False, "First x, second y"),
        ("q#swapped", "y", "x", True, "First y, second x"),
    ]


def test_rows_that_when_leaves_out_pass_as_they_are_at_their_place(tmp_path: Path) -> None:
    with Server(reply=lambda body: "New.") as server:
        made = run(tmp_path, writer(server.url), people(4), when="age % 2 == 0", output="text")
        assert server.requests == 2
        server.reply = lambda body: '{"a": {"b": "x"}}'
        fresh = run(tmp_path / "b", writer(server.url), people(4), when="age % 2 == 0", output={"a": {"b": "text"}})
    assert [row["text"] for row in made.rows] == ["New.", "person 1", "New.", "person 3"]
    assert made.facts["metrics"] == {"not_asked": 2}
    assert [row["a"] for row in fresh.rows[1::2]] == [None, None]  # every row has the column


def test_without_rows_there_is_one_empty_one(tmp_path: Path) -> None:
    prompt = Prompt("solo", ({"user": "Tell a story."},))
    with Server() as server:
        made = run(tmp_path, writer(server.url), None, SAMPLE, prompt=prompt, samples=2, output="story")
    assert [(row["id"], row["sample"]) for row in made.rows] == [("1#1", 1), ("1#2", 2)]


def test_without_a_prompt_a_row_asks_its_own_question(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    rows = [
        {"id": "a", "messages": [*talk, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "x"}]}
    ]
    with Server() as server:
        run(tmp_path, writer(server.url), rows, prompt=None)
        assert [one["content"] for one in server.bodies[0]["messages"]] == ["Hi", "Ho", "And?"]
        with pytest.raises(DataError, match="its messages hold no question"):
            run(tmp_path / "b", writer(server.url), [{"id": "a", "messages": [talk[1]]}], prompt=None)
        with pytest.raises(StepError, match="nothing to ask"):
            run(tmp_path / "c", writer(server.url), None, prompt=None)


def test_a_template_in_the_data_is_only_text(tmp_path: Path) -> None:
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }} {% for a in range(9) %}x{% endfor %}"
    with Server(reply=last) as server:
        made = run(tmp_path, writer(server.url), [{"id": "a", "text": hostile}])
    assert made.rows[0]["answer"] == f"Hello, {hostile}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ text.format.__globals__ }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__ }}",
        "{% set x = [].append %}{{ x.__self__.__class__ }}",
        "{{ (text|attr('__class__')) }}",
        "{{ 'x' * 10**9 }}",
        "{{ range(10**9)|list }}",
    ],
)
def test_a_hostile_template_reaches_nothing(template: str, tmp_path: Path) -> None:
    with Server(reply=last) as server, pytest.raises(DataError, match="prompt: "):
        run(tmp_path, writer(server.url), people(1), prompt=Prompt("evil", ({"user": template},)))


# Shapes

RATING: Row = {"mood": "1..5", "solved": "1..5", "reason": "text"}
GOOD = '{"mood": 4, "solved": 5, "reason": "kind"}'


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"Sure! Here you are:\n```json\n{GOOD}\n```\nAnything else?",
        f'<think>Maybe {{"mood": 1}}? No.</think>{GOOD}',
        f"The braces {{like these}} mean nothing. {GOOD} Bye {{}}.",
        '{"solved": "5", "mood": "4/5", "reason": "kind", "extra": [1]}',
        '{"mood": 4.0, "solved": 5, "reason": "kind"}',
    ],
)
def test_the_value_is_dug_out_of_a_chatty_reply(reply: str, tmp_path: Path) -> None:
    with Server(reply=lambda body: reply) as server:
        made = run(tmp_path, writer(server.url), people(1), output=RATING)
    assert made.rows == [{**people(1)[0], "mood": 4, "solved": 5, "reason": "kind"}] and server.requests == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("No idea.", "it holds no whole JSON object"),
        ('{"mood": 7, "solved": 5, "reason": "x"}', "mood: it must be a whole number from 1 to 5"),
        ('{"mood": 4, "reason": "x"}', "'solved' is a required property"),
        ('{"mood": 4, "solved": NaN, "reason": "x"}', "it holds no whole JSON object"),
        ('{"mood": 4, "solved": 5, "reason": "  "}', "reason is blank"),
        ('{"mood": true, "solved": 5, "reason": "x"}', "mood: it must be a whole number from 1 to 5"),
        ('{"Mood": 4, "Solved": 5, "Reason": "x"}', "'mood' is a required property"),
        ('{"mood": 4, "solved"', "it holds no whole JSON object"),
    ],
)
def test_a_model_is_told_what_is_wrong_and_asked_once_more(reply: str, said: str, tmp_path: Path) -> None:
    with Server(reply=answers(reply, GOOD)) as server:
        mended = run(tmp_path / "a", writer(server.url), people(1), output=RATING)
        told = last(server.bodies[-1])
    assert mended.rows[0]["mood"] == 4 and mended.facts["metrics"] == {"repaired": 1}
    assert told.startswith(f"That is not what was asked for: {said}. Answer only with JSON of this form:")
    with Server(reply=lambda body: reply) as server:
        rejected = run(tmp_path / "b", writer(server.url), people(1), output=RATING)
        assert server.requests == 2
        unasked = run(tmp_path / "c", writer(server.url), people(1), output=RATING, repair=0)
        assert server.requests == 3
    assert rejected.rejected == unasked.rejected == [("p0", "not of the shape asked for")]


def test_keys_and_choices_match_without_case_where_asked(tmp_path: Path) -> None:
    reply = '{"Improves the Seeker\'s mood": 4, "better": "First", "RATING_REASON": "x"}'
    shape = {"improves the seeker's mood": "1..5", "better": ["first", "second", "tie"], "rating reason": "text"}
    with Server(reply=lambda body: reply) as server:
        made = run(tmp_path, writer(server.url), people(1), output=shape, any_case=True)
        strict = run(tmp_path / "b", writer(server.url), people(1), output=shape)
    assert made.rows[0] | {"improves the seeker's mood": 4, "better": "first", "rating reason": "x"} == made.rows[0]
    assert len(strict.rejected) == 1


def test_a_whole_json_schema_is_asked_for_and_held_to(tmp_path: Path) -> None:
    shape = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z]"},
            "friends": {"type": "array", "items": {"type": "object", "properties": {"age": {"type": "integer"}}}},
        },
        "required": ["name"],
    }
    with Server(reply=lambda body: '{"name": "Bo", "friends": [{"age": 3}]}') as server:
        made = run(tmp_path / "a", writer(server.url), people(1), output=shape)
        assert server.bodies[0]["response_format"]["json_schema"]["schema"] == shape
    assert made.rows[0]["friends"] == [{"age": 3}]
    with Server(reply=lambda body: '{"name": "bo"}') as server:
        assert run(tmp_path / "b", writer(server.url), people(1), output=shape).rejected
    with pytest.raises(StepError, match="output: not a JSON Schema"):
        run(tmp_path / "c", writer(server.url), people(1), output={**shape, "required": "name"})


def test_a_deep_or_huge_reply_is_only_misshapen(tmp_path: Path) -> None:
    for place, reply in enumerate(["[" * 100_000, "{" * 50_000, '{"a":' * 30_000, "{}" * 5_000]):
        with Server(reply=lambda body, reply=reply: reply) as server:
            made = run(tmp_path / str(place), writer(server.url), people(1), output=RATING, repair=0)
        assert made.rejected == [("p0", "not of the shape asked for")]


# Filters


def test_refusals_are_counted_and_dropped_where_asked(tmp_path: Path) -> None:
    def reply(body: Body) -> str:
        return "I'm sorry, but I cannot create explicit content." if "person 1" in last(body) else "Fine."

    with Server(reply=reply) as server:
        kept = run(tmp_path / "a", writer(server.url), people(3))
        dropped = run(tmp_path / "b", writer(server.url), people(3), refusals="drop")
        shaped = run(tmp_path / "c", writer(server.url), people(3)[1:2], output=RATING)
    assert len(kept.rows) == 3 and kept.facts["metrics"] == dropped.facts["metrics"] == {"refusals": 1}
    assert dropped.rejected == shaped.rejected == [("p1", "refusal")]


def test_an_answer_is_cleaned_by_the_rules_named_and_rejected_when_nothing_is_left(tmp_path: Path) -> None:
    def reply(body: Body) -> str:
        return "*smiles*" if "person 1" in last(body) else 'Here it is:\n\n"Well, I *nods* (softly) agree."'

    with Server(reply=reply) as server:
        rules = ["after-last-blank-line", "quotes", "asterisks", "parentheses", "no-filler"]
        made = run(tmp_path, writer(server.url), people(2), clean=rules)
        held = run(tmp_path / "b", writer(server.url), people(1), output={"a": {"b": "text"}}, clean=["capital"])
        assert held.rejected
    assert [row["answer"] for row in made.rows] == ["I agree."]
    assert made.rejected == [("p1", "nothing left of the answer")]


def test_cleaning_reaches_the_texts_inside_a_shape(tmp_path: Path) -> None:
    with Server(reply=lambda body: '{"a": {"b": "*x* hello"}, "c": ["(x) you"], "d": "yes"}') as server:
        shape = {"a": {"b": "text"}, "c": "list", "d": ["yes", "no"]}
        made = run(tmp_path, writer(server.url), people(1), output=shape, clean=["asterisks", "parentheses"])
    assert made.rows[0]["a"] == {"b": "hello"} and made.rows[0]["c"] == ["you"]


def test_every_cleaning_rule_is_in_the_schema() -> None:
    held = schema.fragment("generate", "rows")["properties"]["clean"]
    assert held["items"]["enum"] == list(RULES)
    assert all(rule in held["description"] for rule in RULES)


def test_rows_that_where_does_not_want_are_rejected(tmp_path: Path) -> None:
    with Server(reply=lambda body: last(body)[-1]) as server:
        made = run(tmp_path, writer(server.url), people(4), where='answer in ["1", "2"]')
    assert [row["id"] for row in made.rows] == ["p1", "p2"]
    assert made.rejected == [("p0", "where: does not hold"), ("p3", "where: does not hold")]


# Going on until enough have passed


def odd(body: Body) -> str:
    return GOOD if (body["seed"] + len(last(body))) % 3 else "No."


@pytest.mark.parametrize("concurrency", [1, 7])
def test_it_goes_round_until_enough_rows_have_passed_and_asks_no_more(concurrency: int, tmp_path: Path) -> None:
    with Server(reply=odd, latency=0.002) as server:
        keys: dict[str, Any] = {"accept": 20, "output": RATING, "repair": 0}
        made = run(tmp_path, writer(server.url, concurrency=concurrency), people(6), SAMPLE, **keys)
        assert len(made.rows) == 20 and server.requests == 20 + len(made.rejected)
        one = run(tmp_path / "one", writer(server.url, concurrency=1), people(6), SAMPLE, **keys)
    assert made.rows == one.rows and made.rejected == one.rejected
    assert made.rows[0]["id"] == "p0#1" or made.rejected[0][0] == "p0#1"


def test_it_gives_up_where_nothing_passes(tmp_path: Path) -> None:
    with Server(reply=lambda body: "No.") as server:
        with pytest.raises(StepError, match=r"accept: 0 of 5 rows pass after \d rounds, and no more come"):
            run(tmp_path, writer(server.url), people(3), SAMPLE, accept=5, output=RATING, repair=0)
        assert 9 <= server.requests <= 9 + 5


def test_it_does_not_go_round_with_a_decoding_that_repeats_itself(tmp_path: Path) -> None:
    with Server() as server, pytest.raises(StepError, match="'exact' answers the same in every round"):
        run(tmp_path, writer(server.url), people(3), GREEDY, accept=5)


# What is written


def test_rows_are_the_same_bytes_however_answers_come(tmp_path: Path) -> None:
    import random

    def jitter(body: Body) -> str:
        return f"to {last(body)}"

    outputs = set()
    for place in range(3):
        with Server(reply=jitter, faults=["429", "reset", "500"], share=0.2, seed=place, later=0.01) as server:
            server.latency = random.Random(place).random() / 100
            made = step(tmp_path / "same", writer(server.url, concurrency=1 + place * 5, retries=50), people(40))
            held = Run(tmp_path / f"out{place}", made)
            provenance = held.read("provenance")
            outputs.add(((held.folder / "rows.jsonl").read_bytes(), json.dumps(provenance)))
        (tmp_path / "same" / "artifacts" / "cache" / "replies.sqlite").unlink()
    assert len(outputs) == 1


def test_every_row_tells_where_it_is_from(tmp_path: Path) -> None:
    with Server() as server:
        made = run(tmp_path, writer(server.url), people(2), SAMPLE, samples=2)
    first, *_, final = made.read("provenance")
    assert first == {
        "id": "p0#1",
        "model": "m",
        "decoding": {"mode": "sample", "temperature": 1.0, "max_new_tokens": 40},
        "sample": 0,
        "answers": [{"asked": first["answers"][0]["asked"], "finish": "stop", "seed": first["answers"][0]["seed"]}],
    }
    assert final["id"] == "p1#2" and final["answers"][0]["seed"] != first["answers"][0]["seed"]
    assert {row["request"] for row in made.read("side")} == {f"req-{place}" for place in range(1, 5)}


def test_nothing_of_an_earlier_run_stays_behind(tmp_path: Path) -> None:
    with Server(reply=lambda body: GOOD if "person 1" in last(body) else "No.") as server:
        made = step(tmp_path, writer(server.url), people(3), output=RATING)
        Run(tmp_path / "out", made)
        Run(tmp_path / "out", made)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["provenance.jsonl", "rejected.jsonl", "rows.jsonl", "side.jsonl", "step.log"]
    assert len((tmp_path / "out" / "side.jsonl").read_text().splitlines()) == 5


def test_a_whole_split_keeps_its_parts(tmp_path: Path) -> None:
    from dataclasses import replace

    from runner.step import Input
    from tests.conftest import write_parts

    with Server() as server:
        made = step(tmp_path, writer(server.url), people(1))
        parts = write_parts(tmp_path / "split", {"train": people(3), "test": people(5)[3:]})
        made = replace(made, inputs={"from": (Input("parts", parts),)})
        held = Run(tmp_path / "out", made)
    assert [row["id"] for row in held.read("train")] == ["p0", "p1", "p2"]
    assert [row["id"] for row in held.read("test")] == ["p3", "p4"] and not held.rows


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    with Server(reply=lambda body: completion("x" * 50_000, body), keep=0) as server:
        run(tmp_path / "few", writer(server.url), people(2))  # what is loaded once is no part of it
        made = step(tmp_path / "many", writer(server.url, concurrency=4), people(150))
        tracemalloc.start()
        try:
            held = Run(tmp_path / "many" / "out", made)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (held.folder / "rows.jsonl").stat().st_size > 7.5e6 > most  # and a few answers are on their way at any time
