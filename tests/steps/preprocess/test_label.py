from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError


def label(run_kind, params: dict[str, Any], values: list[Any] | dict[str, list[Any]]) -> Any:
    def rows(held: list[Any]) -> list[dict[str, Any]]:
        return [{"id": str(number), "value": value} for number, value in enumerate(held)]

    return run_kind(
        "preprocess.label",
        params,
        {part: rows(held) for part, held in values.items()} if isinstance(values, dict) else rows(values),
    )


def labels(ran: Any, column: str = "label", part: str = "rows") -> list[Any]:
    return [row[column] for row in ran.rows(part)]


def test_each_pair_of_letters_gets_a_column_with_the_letter_of_the_type(run_kind):
    rows = [{"type": "INTJ"}, {"type": "esfp"}]
    ran = run_kind("preprocess.label", {"column": "type", "letters": ["EI", "NS", "FT", "JP"]}, rows)
    assert [[row[pair] for pair in ("EI", "NS", "FT", "JP")] for row in ran.rows()] == [list("INTJ"), list("ESFP")]
    assert ran.facts["tables"][0]["rows"][:2] == [["EI", "E", 1], ["EI", "I", 1]]


def test_a_type_without_one_letter_of_a_pair_is_dropped_with_its_reason(run_kind):
    ran = label(run_kind, {"letters": ["EI", "JP"]}, ["INTJ", "XNTJ", "EIJ", None, 4])
    assert len(ran.rows()) == 1
    assert Counter(reason for reason, _ in ran.rejected) == {"not one letter of EI": 4}


def test_the_nth_letter_counts_from_one(run_kind):
    ran = label(run_kind, {"letter": 2, "into": "sensing"}, ["INTJ", " ESTP ", "X"])
    assert labels(ran, "sensing") == ["N", "S"]
    assert [reason for reason, _ in ran.rejected] == ["no letter number 2"]


def test_a_map_gives_labels_of_any_type_and_drops_what_it_says(run_kind):
    ran = label(
        run_kind,
        {"map": {"high": 1, "low": 0, "median": "drop", "true": 1, "3": 0}},
        ["high", "low", "median", True, 3, "else", None],
    )
    assert labels(ran) == [1, 0, 1, 0]
    assert Counter(reason for reason, _ in ran.rejected) == {"dropped by map": 1, "value not in map": 2}


def test_one_threshold_parts_below_from_from_it_on(run_kind):
    assert labels(label(run_kind, {"threshold": 0.5}, [0.49, 0.5, "0.51", 1])) == ["low", "high", "high", "high"]
    assert labels(label(run_kind, {"threshold": 3, "names": ["few", "many"]}, [2, 3])) == ["few", "many"]


def test_two_thresholds_leave_the_middle_out(run_kind):
    ran = label(run_kind, {"threshold": [0.4, 0.6], "into": "level"}, [0.4, 0.41, 0.59, 0.6])
    assert labels(ran, "level") == ["low", "high"]
    assert Counter(reason for reason, _ in ran.rejected) == {"dropped by threshold": 2}
    named = {"threshold": [0.4, 0.6], "names": ["low", "median", "high"]}
    assert labels(label(run_kind, named, [0.4, 0.41, 0.6])) == ["low", "median", "high"]


@pytest.mark.parametrize(
    "params", [{"threshold": [0.6, 0.4]}, {"threshold": 0.5, "names": ["a", "b", "c"]}, {"threshold": [1, 2, 3]}]
)
def test_thresholds_that_do_not_fit_their_names_are_refused(run_kind, params):
    with pytest.raises(StepError, match=r"rising thresholds need \d names, from low to high"):
        label(run_kind, params, [0.5])


def test_a_z_score_becomes_its_share_of_the_normal_curve(run_kind):
    found = labels(label(run_kind, {"normal": True}, [0, "1.96", -1.0]))
    assert found == pytest.approx([0.5, 0.9750021, 0.1586553], abs=1e-6)


def test_several_columns_at_once_become_a_list_or_as_many_columns(run_kind):
    rows = [{"o": 0.0, "c": 5.0, "label": None}]
    columns = {"column": ["o", "c"], "normal": True}
    assert run_kind("preprocess.label", columns, rows).rows()[0]["label"] == pytest.approx([0.5, 1.0], abs=1e-3)
    row = run_kind("preprocess.label", {**columns, "into": ["ol", "cl"]}, rows).rows()[0]
    assert [row["ol"], row["cl"]] == pytest.approx([0.5, 1.0], abs=1e-3)
    assert row["label"] is None


def test_a_list_in_the_column_is_several_values(run_kind):
    assert labels(label(run_kind, {"normal": True}, [[0], [1e9, -1e9]])) == [[0.5], [1.0, 0.0]]


def test_columns_that_do_not_fit_the_values_are_refused(run_kind):
    rows = [{"o": 0.0, "c": 5.0}]
    for params in ({"column": ["o", "c"], "into": ["one"]}, {"column": "o", "into": ["one", "two"]}):
        with pytest.raises(StepError, match="does not fit the values read"):
            run_kind("preprocess.label", {**params, "normal": True}, rows)


@pytest.mark.parametrize("held", ["much", None, True, float("1e400"), "nan", {}])
def test_what_is_no_number_is_dropped(run_kind, held):
    if isinstance(held, float):
        held = "inf"
    ran = label(run_kind, {"threshold": 0}, [1, held])
    assert [reason for reason, _ in ran.rejected] == ["value is not a number"]


def test_thirds_are_learned_from_train_alone(run_kind):
    parts = {"train": list(range(9)), "validation": [100, 100, 4], "test": [-5, 3, 9]}
    ran = label(run_kind, {"tertiles": ["low", "drop", "high"], "into": "level"}, parts)
    assert labels(ran, "level", "train") == ["low"] * 3 + ["high"] * 3
    assert labels(ran, "level", "validation") == ["high", "high"]
    assert labels(ran, "level", "test") == ["low", "high"]
    learned, counts = ran.facts["tables"]
    assert learned["rows"] == [[1, pytest.approx(8 / 3), pytest.approx(16 / 3)]]
    assert counts == {
        "title": "Labels",
        "columns": ["column", "label", "train", "validation", "test"],
        "rows": [["level", "high", 3, 2, 1], ["level", "low", 3, 0, 1]],
    }


@given(
    train=st.lists(st.floats(-100, 100), min_size=12, max_size=60, unique=True),
    test=st.lists(st.floats(-200, 200), min_size=1, max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_thirds_are_thirds_and_held_out_rows_move_no_cut(run_kind, train, test):
    params = {"tertiles": ["low", "mid", "high"]}
    ran = label(run_kind, params, {"train": train, "test": test})
    counts = Counter(labels(ran, part="train"))
    assert all(abs(counts[name] - len(train) / 3) <= 1 for name in ("low", "mid", "high"))
    assert ran.facts["tables"][0] == label(run_kind, params, {"train": train, "test": [0]}).facts["tables"][0]
    order = {"low": 0, "mid": 1, "high": 2}
    held = sorted((row["value"], order[row["label"]]) for row in [*ran.rows("train"), *ran.rows("test")])
    assert [place for _, place in held] == sorted(place for _, place in held)


def test_thirds_that_cannot_be_told_apart_are_refused(run_kind):
    with pytest.raises(DataError, match=r"thirds are cut at 1\.0 and 1\.0, so one is empty\. Use threshold:"):
        label(run_kind, {"tertiles": ["low", "drop", "high"]}, [1, 1, 1, 1, 2])
    with pytest.raises(DataError, match="2 numbers to learn from"):
        label(run_kind, {"tertiles": ["low", "drop", "high"]}, [1, 2, "x"])
    with pytest.raises(StepError, match="2 labels for three thirds"):
        label(run_kind, {"tertiles": ["low", "high"]}, [1, 2, 3])


@pytest.mark.parametrize(("params", "said"), [({}, "none"), ({"letter": 1, "normal": True}, "letter: and normal:")])
def test_one_way_is_chosen(run_kind, params, said):
    with pytest.raises(StepError, match=f"one way to label is needed, {said} given"):
        label(run_kind, params, ["x"])


def test_a_column_that_is_not_there_and_a_part_without_labels_are_errors(run_kind):
    with pytest.raises(DataError, match=r"x: no column 'type', which label needs"):
        run_kind("preprocess.label", {"column": "type", "letter": 1}, [{"id": "x"}])
    with pytest.raises(DataError, match=r"label\.test: no row has a label \(1 value not in map\)"):
        label(run_kind, {"map": {"a": 1}}, {"train": ["a"], "test": ["b"]})


@given(value=st.floats(-8, 8))
@settings(max_examples=50, deadline=None)
def test_the_normal_curve_is_the_error_functions(run_kind, value):
    (found,) = labels(label(run_kind, {"normal": True}, [value]))
    assert found == pytest.approx((1 + math.erf(value / math.sqrt(2))) / 2, abs=1e-12)
