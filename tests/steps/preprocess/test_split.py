from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.files import RowWriter
from runner.step import Input, Out, Step
from runner.steps.preprocess import split

PARTS = ("train", "validation", "test")


def numbered(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "source": f"a.csv:{number}", **columns} for number in range(count)]


def ids(ran: Any, part: str) -> list[str]:
    return [row["id"] for row in ran.rows(part)]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    validation=st.sampled_from([0, 0.1, 0.25, 3]),
    test=st.sampled_from([0.1, 0.333, 1, 7]),
    order=st.sampled_from(["random", "file"]),
    stratify=st.booleans(),
)
def test_no_row_is_lost_or_twice_and_groups_stay_together(run_kind, groups, validation, test, order, stratify):
    rows = [{"id": index, "group": group, "kind": group % 3} for index, group in enumerate(groups)]
    params = {"by": "group", "validation": validation, "test": test, "order": order}
    try:
        ran = run_kind("preprocess.split", {**params, **({"stratify": "kind"} if stratify else {})}, rows)
    except DataError as error:
        assert "too few" in str(error)
        return
    parts = {part: ran.rows(part) for part in PARTS if part != "validation" or validation}
    assert sorted(row["id"] for found in parts.values() for row in found) == list(range(len(groups)))
    home = {(row["group"], part) for part, found in parts.items() for row in found}
    assert len(home) == len(set(groups)), "a group is in two parts"
    counts = Counter(part for _, part in home)
    for part, size in (("validation", validation), ("test", test)):
        wanted = size if size >= 1 else size * len(set(groups))
        assert abs(counts[part] - wanted) < 1
    assert all(found == sorted(found, key=lambda row: row["id"]) for found in parts.values()), "rows keep their order"


@given(count=st.integers(10, 300), validation=st.integers(0, 4), test=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_shares_give_exact_counts(run_kind, count, validation, test):
    ran = run_kind("preprocess.split", {"validation": validation / 10, "test": test / 10}, numbered(count))
    sizes = {row[0]: row[1] for row in ran.facts["tables"][0]["rows"]}
    assert sum(sizes.values()) == count
    for part, tenths in (("validation", validation), ("test", test), ("train", 10 - validation - test)):
        assert abs(10 * sizes.get(part, 0) - count * tenths) < 10


def test_three_parts_of_seven_rows_follow_the_largest_remainders(run_kind):
    ran = run_kind("preprocess.split", {"validation": 0.1, "test": 0.1}, numbered(7))
    assert [len(ran.rows(part)) for part in PARTS] == [5, 1, 1]


def test_counts_may_be_given_instead_of_shares(run_kind):
    ran = run_kind("preprocess.split", {"validation": 5, "test": 20}, numbered(100))
    assert [len(ran.rows(part)) for part in PARTS] == [75, 5, 20]


def test_a_part_that_is_not_asked_for_is_not_there(run_kind):
    ran = run_kind("preprocess.split", {"test": 0.2}, numbered(10))
    assert not (ran.folder / "validation.jsonl").exists()
    assert len(ran.rows("test")) == 2


def test_the_seed_decides_and_decides_the_same_every_time(run_kind):
    first = run_kind("preprocess.split", {"test": 0.2}, numbered(50))
    again = run_kind("preprocess.split", {"test": 0.2}, numbered(50))
    other = run_kind("preprocess.split", {"test": 0.2, "seed": 1}, numbered(50))
    assert ids(first, "test") == ids(again, "test") != ids(other, "test")


def test_rows_in_another_order_give_the_same_test_rows(run_kind):
    forwards = run_kind("preprocess.split", {"test": 0.2}, numbered(50))
    backwards = run_kind("preprocess.split", {"test": 0.2}, numbered(50)[::-1])
    assert set(ids(forwards, "test")) == set(ids(backwards, "test"))


def test_a_row_added_moves_at_most_one_other(run_kind):
    before = run_kind("preprocess.split", {"test": 10}, numbered(50))
    after = run_kind("preprocess.split", {"test": 10}, numbered(51))
    assert len(set(ids(before, "test")) - set(ids(after, "test"))) <= 1


def test_strata_keep_their_shares(run_kind):
    rows = [{"id": index, "type": "rare" if index % 10 == 0 else "common"} for index in range(200)]
    ran = run_kind("preprocess.split", {"test": 0.2, "validation": 0.1, "stratify": "type"}, rows)
    shares = {part: Counter(row["type"] for row in ran.rows(part)) for part in PARTS}
    assert shares["test"] == {"common": 36, "rare": 4}
    assert shares["validation"] == {"common": 18, "rare": 2}
    assert ran.facts["tables"][1]["rows"] == [['"common"', 126, 18, 36], ['"rare"', 14, 2, 4]]
    assert ran.facts["notes"] == []


def test_several_columns_stratify_by_their_combinations(run_kind):
    rows = [{"id": index, "who": "ab"[index % 2], "stage": index // 2 % 2} for index in range(40)]
    ran = run_kind("preprocess.split", {"test": 0.2, "stratify": ["who", "stage"]}, rows)
    assert set(Counter((row["who"], row["stage"]) for row in ran.rows("test")).values()) == {2}


def test_a_stratum_too_small_for_a_part_is_named(run_kind):
    rows = [{"id": index, "type": "once" if index == 0 else "often"} for index in range(20)]
    ran = run_kind("preprocess.split", {"test": 0.1, "stratify": "type"}, rows)
    assert ran.facts["notes"] == ["test has nothing of 1 of 2 strata."]


def test_the_last_rows_of_the_file_are_the_test(run_kind):
    ran = run_kind("preprocess.split", {"validation": 1, "test": 2, "order": "file"}, numbered(10))
    assert (ids(ran, "validation"), ids(ran, "test")) == (["r7"], ["r8", "r9"])


def test_the_newest_rows_are_the_test(run_kind):
    days = [3, 9, 1, 7, 5]
    rows = [{"id": day, "time": f"2024-01-0{day}T10:00:00+00:00"} for day in days]
    ran = run_kind("preprocess.split", {"validation": 1, "test": 2, "order": "time"}, rows)
    assert ids(ran, "test") == [9, 7]
    assert ids(ran, "validation") == [5]


def test_times_are_compared_as_moments_not_as_text(run_kind):
    rows = [{"id": "later", "time": "2024-01-01T10:00:00+00:00"}, {"id": "sooner", "time": "2024-01-01T11:00:00+05:00"}]
    assert ids(run_kind("preprocess.split", {"test": 1, "order": "time"}, rows), "test") == ["later"]


def test_a_group_may_be_named_by_a_value_inside_a_column(run_kind):
    rows = [{"id": index, "who": {"name": index % 4}} for index in range(12)]
    ran = run_kind("preprocess.split", {"test": 0.25, "by": "who.name"}, rows)
    assert len({row["who"]["name"] for row in ran.rows("test")}) == 1
    assert ran.facts["tables"][0] == {
        "title": "Parts",
        "columns": ["part", "rows", "groups"],
        "rows": [["train", 9, 3], ["test", 3, 1]],
    }


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        (
            {"validation": 0.1, "test": 0.1, "by": "g"},
            [{"g": i % 2} for i in range(7)],
            "split: 7 rows in 2 groups are too few for validation: 0.1 and test: 0.1: validation, test would be empty. "
            "Ask for less, or bring more rows.",
        ),
        (
            {"test": 9},
            numbered(5),
            "split: 5 rows are too few for test: 9: train would be empty. Ask for less, or bring more rows.",
        ),
        (
            {"test": 0.5},
            [],
            "split: 0 rows are too few for test: 0.5: test, train would be empty. Ask for less, or bring more rows.",
        ),
        (
            {"test": 1, "by": "who"},
            [{"source": "a.csv:1", "who": "x"}, {"source": "a.csv:2"}],
            "a.csv:2: no value in column 'who', which by: needs. Fill it, or drop such rows before.",
        ),
        (
            {"test": 1, "stratify": "who.type"},
            [{"source": "a.csv:1", "who": "x"}],
            "a.csv:1: no value in column 'who.type', which stratify: needs. Fill it, or drop such rows before.",
        ),
        (
            {"test": 1, "order": "time"},
            [{"id": "x", "time": "noon"}],
            "x: time 'noon' is not an ISO 8601 time such as 2024-01-31T15:07:00.",
        ),
        (
            {"test": 1, "order": "time"},
            [{"id": "x", "time": "2024-01-01T10:00"}, {"id": "y", "time": "2024-01-01T10:00Z"}],
            "y: time 2024-01-01T10:00Z and others differ in having an offset, so that they have no order. "
            "Give all of them one where they are read, with zone:, or split by order: file.",
        ),
    ],
)
def test_what_cannot_be_split_is_said_in_one_line(run_kind, params, rows, message):
    with pytest.raises(DataError) as caught:
        run_kind("preprocess.split", params, rows)
    assert str(caught.value) == message


@pytest.mark.parametrize("params", [{}, {"test": 1.5}])
def test_a_size_that_makes_no_sense_is_refused(run_kind, params):
    with pytest.raises(StepError):
        run_kind("preprocess.split", params, numbered(10))


def test_memory_does_not_hold_the_rows(tmp_path):
    (tmp_path / "in").mkdir()
    with RowWriter(tmp_path / "in/rows.jsonl") as rows:
        rows.write_all({"id": number, "text": "word " * 2000} for number in range(2000))
    came = (Input("before", tmp_path / "in"),)
    params = {"test": 0.5, "validation": 0, "by": "id", "order": "random", "seed": 0}
    tracemalloc.start()
    split.run(Step("parts", "preprocess", "split", params, tmp_path, inputs={"from": came}), Out(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "in/rows.jsonl").stat().st_size / 10
