"""Ratings: means and their intervals, agreement against published values, wins whatever stands first."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import DataError, StepError
from runner.steps.evaluate import _agreement


def rated(*values: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"id": str(at), "rating": value, **more} for at, value in enumerate(values)]


def test_numbers_have_a_mean_with_an_interval_around_it(run_kind: Any) -> None:
    made = run_kind("evaluate.judge", {}, rated(1, 2, 3, 4, 5, 3, 3)).facts["metrics"]["all"]["rating"]
    assert (made["n"], made["mean"]) == (7, 3.0)
    assert made["interval"][0] < 3.0 < made["interval"][1]
    assert made["shares"]["3"] == 3 / 7


def test_the_interval_is_the_published_one_for_a_known_sample() -> None:
    # For 100 draws of 0 and 1, half of each, the normal interval is 0.5 ± 1.96·√(0.25/100) = 0.402 to 0.598
    low, high = _agreement.interval([0.0, 1.0] * 50, 0) or (0, 0)
    assert (low, high) == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))
    assert _agreement.interval([2.0, 2.0, 2.0], 0) == (2.0, 2.0)
    assert _agreement.interval([2.0], 0) is None


def test_words_are_shares_by_group(run_kind: Any) -> None:
    held = [*rated("knowledge", "neither", who="a"), *rated("knowledge", who="b")]
    metrics = run_kind("evaluate.judge", {"by": "who"}, held).facts["metrics"]
    assert metrics["a"]["rating"]["shares"] == {"knowledge": 0.5, "neither": 0.5}
    assert "mean" not in metrics["b"]["rating"]


def test_krippendorffs_alpha_of_his_own_example() -> None:
    # Krippendorff (2011), example C: nominal 0.743, interval 0.849; four observers, twelve units, missing data
    observers = [
        "1 2 3 3 2 1 4 1 2 * * *",
        "1 2 3 3 2 2 4 1 2 5 * 3",
        "* 3 3 3 2 3 4 2 2 5 1 *",
        "1 2 3 3 2 4 4 1 2 5 1 *",
    ]
    columns = zip(*(line.split() for line in observers), strict=True)
    units = [[int(value) for value in column if value != "*"] for column in columns]
    assert _agreement.alpha(units, numbers=False) == pytest.approx(0.743, abs=0.0005)
    assert _agreement.alpha(units, numbers=True) == pytest.approx(0.849, abs=0.0005)
    assert _agreement.alpha([[1], [2]], numbers=True) is None


def test_things_rated_twice_show_how_far_the_ratings_agree(run_kind: Any) -> None:
    held = [{"rating": value, "talk": talk} for talk, value in [("a", 1), ("a", 1), ("b", 5), ("b", 5)]]
    facts = run_kind("evaluate.judge", {"rated": "talk"}, held).facts
    assert facts["metrics"]["all"]["rating"]["agreement"] == 1.0
    assert facts["tables"][0]["columns"][-1] == "agreement"


def test_a_judge_who_likes_the_first_place_prefers_nobody(run_kind: Any) -> None:
    held = [{"rating": "first", "swapped": at % 2 == 1} for at in range(40)]
    facts = run_kind("evaluate.judge", {"pair": ["voice", "base"]}, held).facts
    made = facts["metrics"]["all"]
    assert (made["rate"], made["first_shown"], facts["notes"]) == (0.5, 1.0, [])


def test_who_wins_is_counted_whichever_side_it_stood_on(run_kind: Any) -> None:
    held = [{"rating": "second" if at % 2 else "first", "swapped": bool(at % 2)} for at in range(20)]
    held += [{"rating": "tie", "swapped": False}] * 4
    made = run_kind("evaluate.judge", {"pair": ["voice", "base"]}, held).facts["metrics"]["all"]
    assert made["rate"] == (20 + 2) / 24
    assert made["ties"] == 4 / 24
    assert made["p"] == pytest.approx(2 * 0.5**20)


def test_one_order_only_is_said(run_kind: Any) -> None:
    facts = run_kind("evaluate.judge", {"pair": ["voice", "base"]}, rated("first", "tie")).facts
    assert facts["notes"][0].startswith("Every pair was shown in one order only")


def test_what_is_no_rating_is_told(run_kind: Any) -> None:
    with pytest.raises(DataError, match="0: rating is neither a number nor a word"):
        run_kind("evaluate.judge", {}, rated(None))
    with pytest.raises(DataError, match="'better' is none of first, second, tie"):
        run_kind("evaluate.judge", {"pair": ["a", "b"]}, rated("better"))
    with pytest.raises(StepError, match="no ratings"):
        run_kind("evaluate.judge", {}, [])
