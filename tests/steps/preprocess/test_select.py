from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.refusals import is_refusal

BIG5 = Path(__file__).resolve().parents[4] / "shared/data/big5chat"


def numbered(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "source": f"a.csv:{number}", "n": number, **columns} for number in range(count)]


def select(run_kind, params: dict[str, Any], rows: Any, **more: Any) -> Any:
    return run_kind("preprocess.select", params, rows, **more)


# add, where, rename, keep, drop


def test_an_expression_keeps_its_type_and_a_template_is_text(run_kind):
    add = {
        "sum": "{{ a + b }}",
        "mean": "{{ (a + b) / 2 }}",
        "held": "{{ {'a': a, 'list': [a, b]} }}",
        "none": "{{ none }}",
        "yes": "{{ a < b }}",
        "said": "{{ a }} and {{ b }}",
        "word": "borrowed",
        "two": 2,
        "minus": "{{ -a }}",
        "trimmed": "{{- a -}}",
        "upper": "{{ ['x', 'y'] | map('upper') }}",
    }
    (row,) = select(run_kind, {"add": add}, [{"a": 1, "b": 4}]).rows()
    assert row == {
        "a": 1,
        "b": 4,
        "sum": 5,
        "mean": 2.5,
        "held": {"a": 1, "list": [1, 4]},
        "none": None,
        "yes": True,
        "said": "1 and 4",
        "word": "borrowed",
        "two": 2,
        "minus": -1,
        "trimmed": 1,
        "upper": ["X", "Y"],
    }


def test_the_first_five_words_and_the_rest_as_in_the_sketch(run_kind):
    rows = [{"text": "I think I'll try. The first one is"}, {"text": "only five words are here"}]
    add = {"start": "{{ text | words(0, 5) }}", "rest": "{{ text | words(5) }}"}
    ran = select(run_kind, {"add": add, "where": 'rest != ""'}, rows)
    assert [(row["start"], row["rest"]) for row in ran.rows()] == [("I think I'll try. The", "first one is")]
    assert [reason for reason, _ in ran.rejected] == ["where is not met"]


def test_a_column_added_sees_those_before_it_and_may_replace_one(run_kind):
    texts = {"other": {"early": "late", "late": "early"}}
    add = {"stage": "{{ texts.other[stage] }}", "again": "{{ stage }}!"}
    (row,) = select(run_kind, {"add": add}, [{"stage": "early"}], texts=texts).rows()
    assert row == {"stage": "late", "again": "late!"}


def test_matrix_values_are_variables(run_kind):
    (row,) = select(run_kind, {"add": {"who": "{{ trait }}"}}, [{"n": 1}], matrix={"trait": "openness"}).rows()
    assert row["who"] == "openness"


def test_renamed_columns_keep_their_place_and_may_change_places(run_kind):
    (row,) = select(run_kind, {"rename": {"a": "b", "b": "a", "z": "c"}}, [{"a": 1, "b": 2, "c": 3, "d": 4}]).rows()
    assert list(row.items()) == [("b", 1), ("a", 2), ("z", 3), ("d", 4)]


def test_a_new_name_replaces_a_column_that_had_it(run_kind):
    (row,) = select(run_kind, {"rename": {"a": "b"}}, [{"a": 1, "b": 2}]).rows()
    assert row == {"a": 2}


def test_one_column_cannot_get_two_names(run_kind):
    with pytest.raises(StepError, match="one column gets two names"):
        select(run_kind, {"rename": {"x": "n", "y": "n"}}, numbered(1))


def test_kept_columns_come_in_the_order_given_and_dropped_ones_go(run_kind):
    rows = [{"a": 1, "b": 2, "c": 3}]
    assert list(select(run_kind, {"keep": ["c", "a"]}, rows).rows()[0]) == ["c", "a"]
    assert list(select(run_kind, {"drop": ["b"]}, rows).rows()[0]) == ["a", "c"]


def test_rows_where_both_are_there(run_kind):
    rows = [{"x": "Ann", "y": "Bob"}, {"x": "Ann", "y": None}, {"x": "", "y": "Bob"}]
    ran = select(run_kind, {"where": "x and y"}, rows)
    assert ran.rows() == rows[:1]
    assert [row for _, row in ran.rejected] == rows[1:]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"where": "n / 0 > 1"}, "a.csv:0: select.where: expression: division by zero. In: 'n / 0 > 1'"),
        ({"where": "other"}, "a.csv:0: select.where: expression: a variable is missing. In: 'other'"),
        (
            {"add": {"x": "{{ {'a': other} }}"}},
            "a.csv:0: select.add.x: expression: a variable is missing. In: \"{'a': other}\"",
        ),
        ({"add": {"x": "a {{ other }}"}}, "a.csv:0: select.add.x: prompt: 'other' is undefined. In: 'a {{ other }}'"),
        (
            {"add": {"x": "{{ 1e308 * 10 }}"}},
            "a.csv:0: select.add.x: expression: its value inf is nothing that a row can hold. In: '1e308 * 10'",
        ),
        ({"rename": {"x": "y"}}, "a.csv:0: no column 'y', which rename: needs. It has: id, source, n."),
        ({"drop": ["x"]}, "a.csv:0: no column 'x', which keep: or drop: names. It has: id, source, n."),
        ({"where": "n > 5"}, "select: no row is left (2 where is not met). Loosen where:, or bring more rows."),
        (
            {"together": "x", "where": "n"},
            "a.csv:0: no value in column 'x', which together: needs. Fill it, or drop such rows before.",
        ),
        (
            {"refusals": "drop"},
            "a.csv:0: no value in column 'text', which refusals: needs. Fill it, or drop such rows before.",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_one_line_with_its_row(run_kind, params, message):
    with pytest.raises(DataError) as caught:
        select(run_kind, params, numbered(2))
    assert str(caught.value) == message


def test_a_template_that_is_no_jinja_says_so(run_kind):
    with pytest.raises(DataError, match=r"select\.add\.x: prompt: "):
        select(run_kind, {"add": {"x": "{{ n"}}, numbered(1))


def test_a_whole_split_stays_one_and_an_empty_part_is_an_error(run_kind):
    parts = {"train": numbered(5), "test": numbered(3)}
    ran = select(run_kind, {"where": "n > 0", "limit": 2}, parts)
    assert [[row["n"] for row in ran.rows(part)] for part in parts] == [[1, 2], [1, 2]]
    assert not (ran.folder / "rows.jsonl").exists()
    with pytest.raises(DataError, match=r"select\.test: no row is left"):
        select(run_kind, {"where": "n > 2"}, parts)


# sample and limit


@given(count=st.integers(1, 60), size=st.integers(1, 60), seed=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_a_sample_has_its_size_no_row_twice_and_keeps_the_order(run_kind, count, size, seed):
    ran = select(run_kind, {"sample": size, "seed": seed}, numbered(count))
    found = [row["n"] for row in ran.rows()]
    assert len(found) == min(size, count)
    assert found == sorted(set(found))
    assert ran.facts["metrics"].get("not_drawn", 0) == count - len(found)
    assert ran.facts["notes"] == (
        [f"select: {size} asked for, {count} there; all of them are taken."] if size > count else []
    )
    assert not ran.rejected


def test_a_sample_is_the_seeds_and_moves_little_when_a_row_is_added(run_kind):
    def drawn(count: int, **params: Any) -> set[int]:
        return {row["n"] for row in select(run_kind, {"sample": 10, **params}, numbered(count)).rows()}

    assert drawn(50) == drawn(50) != drawn(50, seed=1)
    assert len(drawn(51) - drawn(50)) <= 1


def test_equal_rows_are_drawn_one_by_one(run_kind):
    assert len(select(run_kind, {"sample": 3}, [{"text": "same"}] * 9).rows()) == 3


def test_a_share_is_rounded_and_half_a_row_too_many_is_refused(run_kind):
    assert len(select(run_kind, {"sample": 0.25}, numbered(10)).rows()) == 2
    with pytest.raises(StepError, match=r"select\.sample: 2\.5 is neither"):
        select(run_kind, {"sample": 2.5}, numbered(10))


def test_the_sample_is_drawn_from_rows_that_are_left_and_the_limit_from_the_sample(run_kind):
    ran = select(run_kind, {"where": "n % 2", "sample": 4, "limit": 3}, numbered(20))
    assert len(ran.rows()) == 3
    assert all(row["n"] % 2 for row in ran.rows())
    assert ran.facts["metrics"] == {"not_drawn": 6, "beyond_the_limit": 1}


# refusals and groups


@pytest.mark.parametrize(
    "text",
    [
        "I cannot create explicit content.",
        "I cannot create explicit content, but I'd be happy to help with other creative ideas.",
        "I cannot fulfill your request. I can't generate an argument that promotes or glorifies violence.",
        "I cannot fulfill requests about illegal or harmful activities. Stalking is a serious violation.",
        "I'm sorry, but I can't help with that.",
        "I’m unable to assist with that request.",
        "Unfortunately, I am not able to provide instructions for this.",
        "I do not feel comfortable generating explicit stories.",
        "As an AI language model, I don't have feelings.",
        "I'm sorry, but as an AI, I have no opinion.",
        "I can't answer that. Is there anything else I can help you with?",
        '"I cannot provide a response that would promote harmful behavior."',
        "Refused.",
    ],
)
def test_a_models_refusal_is_one(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't believe you did that!",
        "I'm sorry, but I can't come tonight.",
        "I'm sorry, Izan. I didn't mean to get you in trouble.",
        "I can't create art any more.",
        "I cannot help falling in love with you.",
        "I can't help with the dishes tonight.",
        "I won't provide for you forever.",
        "I refused to go.",
        "Refused entry, again!",
        "I work on AI and I love it.",
        "My brother said he cannot fulfill your request.",
        "",
    ],
)
def test_a_person_who_says_no_is_no_refusal(text):
    assert not is_refusal(text)


@pytest.mark.skipif(not BIG5.is_dir(), reason=f"the published data is not there: {BIG5}")
def test_the_refusals_among_seven_thousand_published_replies_are_found():
    with (BIG5 / "replies_train.csv").open(encoding="utf-8", newline="") as table:
        texts = [row["text"] for row in csv.DictReader(table)]
    found = [text for text in texts if is_refusal(text)]
    assert len(found) == 65
    assert all(text.startswith("I cannot ") for text in found)
    assert not [text for text in texts if text.startswith("I cannot ") and not is_refusal(text)]


def test_one_refusal_drops_its_scene_in_every_part_and_is_counted_apart(run_kind):
    scenes = {"train": "aabbcc", "test": "ad"}
    parts = {
        part: [{"topic": one, "reply": f"{part} {at}", "id": f"{part}{at}"} for at, one in enumerate(held)]
        for part, held in scenes.items()
    }
    parts["train"][1]["reply"] = "I cannot fulfill your request."
    ran = run_kind("preprocess.select", {"refusals": "drop", "together": "topic", "rename": {"text": "reply"}}, parts)
    assert [row["topic"] for row in ran.rows("train")] == list("bbcc")
    assert [row["topic"] for row in ran.rows("test")] == ["d"]
    assert Counter(reason for reason, _ in ran.rejected) == {"a refusal": 1, "another row of its group was dropped": 2}


def test_a_sample_of_groups_takes_them_whole(run_kind):
    rows = [{"topic": number % 7, "n": number} for number in range(28)]
    ran = select(run_kind, {"sample": 3, "together": "topic"}, rows)
    assert sorted(Counter(row["topic"] for row in ran.rows()).values()) == [4, 4, 4]


@given(topics=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_no_group_is_left_in_part(run_kind, topics):
    rows = [{"topic": topic, "bad": bad} for topic, bad in topics]
    spoilt = {topic for topic, bad in topics if bad}
    if spoilt == {topic for topic, _ in topics}:
        with pytest.raises(DataError, match="no row is left"):
            select(run_kind, {"where": "not bad", "together": "topic"}, rows)
        return
    ran = select(run_kind, {"where": "not bad", "together": "topic"}, rows)
    assert ran.rows() == [row for row in rows if row["topic"] not in spoilt]


def test_what_was_dropped_is_kept_as_it_came(run_kind):
    ran = select(run_kind, {"add": {"m": "{{ n + 1 }}"}, "where": "m > 1"}, numbered(2))
    ((_, row),) = ran.rejected
    assert json.dumps(row) == json.dumps(numbered(1)[0])
