"""Text health by hand: distinct-n, repetition, BLEU within and between groups."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runner.errors import DataError, StepError
from runner.steps.evaluate import _bleu
from runner.steps.evaluate.text import repeated

MUD = "Observe the mud on his boots before you say another word"
TEA = "I should like a cup of tea and a quiet evening by the fire"


def rows(*texts: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": str(at), "text": text, **more} for at, text in enumerate(texts)]


def test_lengths_variety_and_repetition_are_those_counted_by_hand(run_kind: Any) -> None:
    ran = run_kind("evaluate.text", {}, rows("a b a b a b", "a b", ""))
    made = ran.facts["metrics"]["groups"]["all"]
    assert (made["texts"], made["empty"], made["words"], made["words_sd"]) == (3, 1, 4.0, 2.0)
    assert made["distinct_1"] == 2 / 8  # a, b
    assert made["distinct_2"] == 2 / 8  # ab, ba
    assert made["distinct_3"] == 2 / 8  # aba, bab
    assert made["repeated_trigrams"] == (2 / 4 + 0) / 2  # aba bab aba bab; the other has none
    assert repeated(["x", "y"], 3) == 0.0


def test_a_text_repeated_is_a_duplicate_and_a_refusal_is_counted(run_kind: Any) -> None:
    ran = run_kind("evaluate.text", {}, rows(MUD, MUD, TEA, "As an AI language model, I cannot do that."))
    made = ran.facts["metrics"]["groups"]["all"]
    assert (made["duplicates"], made["refusals"]) == (0.25, 0.25)
    assert made["languages"]["en"] == 1.0


def test_the_same_text_has_bleu_100_and_others_less() -> None:
    assert _bleu.bleu(MUD, [MUD]) == pytest.approx(100)
    assert _bleu.self_bleu([MUD, MUD, MUD]) == pytest.approx(100)
    assert _bleu.self_bleu([MUD]) is None
    assert 0 <= (_bleu.self_bleu([MUD, TEA]) or 0) < 10


def test_a_group_is_not_compared_with_the_same_text_of_its_own() -> None:
    held = [MUD, TEA]
    assert _bleu.between(held, held, 100, random.Random(0)) == pytest.approx(
        (_bleu.bleu(MUD, [TEA]) + _bleu.bleu(TEA, [MUD])) / 2
    )


def test_two_voices_are_alike_within_and_unlike_between(run_kind: Any) -> None:
    held = [*rows(MUD, f"{MUD} again", who="holmes"), *rows(TEA, f"{TEA} again", who="watson")]
    ran = run_kind("evaluate.text", {"by": "who"}, held)
    assert ran.facts["metrics"]["bleu_within"] > 80 > 10 > ran.facts["metrics"]["bleu_between"]
    [plot] = ran.facts["plots"]
    assert plot["rows"] == ["holmes", "watson"]


def test_equal_seeds_draw_equal_samples(run_kind: Any) -> None:
    held = rows(*(f"{MUD} {at} {TEA[at % 20 :]}" for at in range(60)))
    first, again = (run_kind("evaluate.text", {"sample": 5, "seed": 3}, held).facts for _ in range(2))
    assert first == again


def test_a_row_without_text_and_no_rows_at_all_are_told(run_kind: Any) -> None:
    with pytest.raises(DataError, match="0: text is not a text"):
        run_kind("evaluate.text", {}, [{"id": "0", "text": None}])
    with pytest.raises(StepError, match="no rows to look at"):
        run_kind("evaluate.text", {}, [])
