from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError

PEOPLE = [
    {"id": "7", "source": "a:1", "profile": {"name": "Ross", "hobby": "chess"}, "statement": "You are Ross."},
    {"id": "8", "source": "a:2", "profile": {"name": "Melisa", "hobby": "keys"}, "statement": "You are Melisa."},
]
FIELDS = {"column": "profile", "key": "aspect", "value": "text"}


def explode(run_kind, rows: Any, **params: Any) -> Any:
    return run_kind("preprocess.explode", {**FIELDS, **params}, rows)


def collect(run_kind, rows: Any, **params: Any) -> Any:
    return run_kind("preprocess.collect", params, rows)


# explode


def test_a_record_becomes_a_row_a_field_and_keeps_its_other_columns(run_kind):
    first, second, *_ = explode(run_kind, PEOPLE).rows()
    assert first == {**PEOPLE[0], "id": "7#name", "record": "7", "aspect": "name", "text": "Ross"}
    assert (second["id"], second["aspect"], second["text"]) == ("7#hobby", "hobby", "chess")


def test_a_list_becomes_rows_numbered_from_one_and_a_path_leads_inside(run_kind):
    rows = [{"id": "x", "held": {"lines": ["a", {"b": 1}]}}]
    made = explode(run_kind, rows, column="held.lines", key="number").rows()
    assert [(row["number"], row["text"]) for row in made] == [(1, "a"), (2, {"b": 1})]


def test_rows_without_an_id_get_one_that_stays_the_same(run_kind):
    rows = [{"profile": {"a": 1}}, {"profile": {"a": 2}}]
    first, second = (explode(run_kind, rows).rows() for _ in range(2))
    assert first == second
    assert len({row["id"] for row in first}) == 2


def test_what_is_empty_is_dropped_and_what_cannot_be_exploded_named(run_kind):
    ran = explode(run_kind, [*PEOPLE, {"id": "9", "profile": {}}, {"id": "10", "profile": None}])
    assert [reason for reason, _ in ran.rejected] == ["nothing to explode"] * 2
    with pytest.raises(DataError, match="9: column 'profile' is a str, neither an object nor a list"):
        explode(run_kind, [{"id": "9", "profile": "x"}])
    with pytest.raises(DataError, match=r"9: no column 'profile' to explode\. It has: id"):
        explode(run_kind, [{"id": "9"}])
    with pytest.raises(DataError, match="explode: no row has anything in column 'profile'"):
        explode(run_kind, [{"id": "9", "profile": []}])


def test_a_whole_split_stays_one_there_and_back(run_kind):
    ran = explode(run_kind, {"train": PEOPLE[:1], "test": PEOPLE[1:]})
    back = collect(
        run_kind, {part: ran.rows(part) for part in ("train", "test")}, key="aspect", value="text", into="profile"
    )
    assert [back.rows("train"), back.rows("test")] == [PEOPLE[:1], PEOPLE[1:]]


# collect


def test_fields_changed_on_the_way_come_back_into_one_row_a_record(run_kind):
    rows = [{**row, "text": f"You: {row['text']}"} for row in explode(run_kind, PEOPLE).rows()]
    made = collect(run_kind, rows, key="aspect", value="text", into="aspects").rows()
    assert made == [
        {**person, "aspects": {key: f"You: {held}" for key, held in person["profile"].items()}} for person in PEOPLE
    ]


RECORDS = st.lists(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        min_size=1,
        max_size=5,
    ),
    min_size=2,
    max_size=6,
)


@given(records=RECORDS, shuffled=st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_collect_undoes_explode_in_whatever_order_the_rows_come(run_kind, records, shuffled):
    rows = [{"id": str(number), "held": record, "n": number} for number, record in enumerate(records)]
    apart = explode(run_kind, rows, column="held").rows()
    if len(apart) == len(rows):
        return  # one field each: nothing to collect
    shuffled.shuffle(apart)
    back = collect(run_kind, apart, key="aspect", value="text", into="held").rows()
    assert {row["id"]: row for row in back} == {row["id"]: row for row in rows}


def test_the_siblings_of_a_matrix_become_one_row_by_their_id(run_kind):
    rows = [
        {"id": str(at), "name": f"n{at}", "role": role, "statement": f"{role} {at}"}
        for role in ("seeker", "supporter")
        for at in range(2)
    ]
    assert collect(run_kind, rows, key="role", value="statement").rows() == [
        {"id": str(at), "name": f"n{at}", "statement": {"seeker": f"seeker {at}", "supporter": f"supporter {at}"}}
        for at in range(2)
    ]
    spread = collect(run_kind, rows, key="role", value="statement", spread=True).rows()
    assert spread[0] == {"id": "0", "name": "n0", "seeker": "seeker 0", "supporter": "supporter 0"}


def test_two_files_are_joined_by_what_they_share(run_kind):
    talks = [{"id": f"t:{at}", "index": at, "what": "talk", "held": f"hello {at}"} for at in (0, 1)]
    marks = [{"id": f"m:{at}", "index": at, "what": "mark", "held": 5} for at in (1, 0)]
    made = collect(run_kind, talks + marks, by="index", key="what", value="held").rows()
    assert [(row["index"], row["held"]) for row in made] == [
        (0, {"talk": "hello 0", "mark": 5}),
        (1, {"talk": "hello 1", "mark": 5}),
    ]


def test_the_values_of_a_group_become_a_list(run_kind):
    rows = [{"id": str(at), "author": "ab"[at % 2], "text": f"post {at}"} for at in range(5)]
    made = collect(run_kind, rows, by="author", column="text").rows()
    assert made == [
        {"id": "0", "author": "a", "text": ["post 0", "post 2", "post 4"]},
        {"id": "1", "author": "b", "text": ["post 1", "post 3"]},
    ]


def test_records_that_lack_a_field_are_counted(run_kind):
    ran = collect(run_kind, explode(run_kind, PEOPLE).rows()[:3], key="aspect", value="text")
    assert ran.facts["notes"] == ["1 of 2 records have no 'hobby'."]


@pytest.mark.parametrize(
    ("rows", "params", "message"),
    [
        (
            [{"id": "1", "k": "a", "v": 1}, {"id": "1", "k": "a", "v": 2}],
            {},
            "1: a second 'a' in one record. Say what tells the records apart: by: ….",
        ),
        (
            [{"id": "1", "k": "a", "v": 1, "x": 1}, {"id": "1", "k": "b", "v": 2, "x": 2}],
            {},
            "1: column 'x' differs from that in 1, a row of the same record. Drop it before, or collect it too.",
        ),
        (
            [{"id": "1", "k": "a", "v": 1}, {"id": "2", "k": "b", "v": 2}],
            {},
            "collect: no two rows have the same id, so there is nothing to collect. Say what they share: by: ….",
        ),
        (
            [{"id": "1", "k": "x", "v": 1, "x": 0}, {"id": "1", "k": "b", "v": 2, "x": 0}],
            {"spread": True},
            "1: spread: would write column 'x', which is there already. Use into:, or drop it before.",
        ),
        ([{"id": "1", "v": 1}], {}, "1: no value in column 'k', which key: needs. Fill it, or drop such rows before."),
        ([{"id": "1", "k": "a"}], {}, "1: no column 'v', which value: names."),
        ([], {}, "collect: there are no rows to collect."),
    ],
)
def test_rows_that_make_no_record_are_named(run_kind, rows, params, message):
    with pytest.raises(DataError) as caught:
        collect(run_kind, rows, key="k", value="v", **params)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"key": "k"},
        {"value": "v"},
        {"key": "k", "value": "v", "column": "c"},
        {"key": "k", "value": "v", "into": "x", "spread": True},
        {"draw": {"rows": 1}},
    ],
)
def test_keys_that_do_not_say_what_to_collect_are_refused(run_kind, params):
    with pytest.raises(StepError, match="give key: and value:"):
        collect(run_kind, PEOPLE, **params)


# draws


def draws(run_kind, held: Any, **draw: Any) -> Any:
    return collect(run_kind, held, column="text", draw={"replace": False, "seed": 0, **draw})


def test_bundles_are_drawn_by_chance_with_a_seed(run_kind):
    rows = [{"id": str(at), "text": f"post {at}"} for at in range(20)]
    made = draws(run_kind, rows, rows=5, times=3).rows()
    assert [row["id"] for row in made] == ["draw-1", "draw-2", "draw-3"]
    assert all(list(row) == ["id", "text"] and len(set(row["text"])) == 5 for row in made)
    assert (
        made == draws(run_kind, rows, rows=5, times=3).rows() != draws(run_kind, rows, rows=5, times=3, seed=1).rows()
    )
    assert made[:2] == draws(run_kind, rows, rows=5, times=2).rows()


def test_a_bundle_larger_than_the_rows_needs_replacement(run_kind):
    rows = [{"id": str(at), "text": f"post {at}"} for at in range(4)]
    (row,) = draws(run_kind, rows, rows=50, times=1, replace=True).rows()
    assert Counter(row["text"]).keys() == {f"post {at}" for at in range(4)}
    with pytest.raises(DataError, match=r"collect\.draw: 50 rows asked for, 4 there"):
        draws(run_kind, rows, rows=50, times=1)
