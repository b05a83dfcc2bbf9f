from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.files import RowWriter
from runner.step import Input, Model, Out, Step
from runner.steps.preprocess import _cells, _near, dedup

MINILM = Model("minilm", {"load": "minilm"})
LETTERS = random.Random(0)
WORDS = ["".join(LETTERS.choices("abcdefghijklmnopqrstuvwxyz", k=LETTERS.randint(2, 9))) for _ in range(3000)]


def told(*texts: str, **columns: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "text": text, **columns} for number, text in enumerate(texts)]


def ids(ran: Any, part: str = "rows") -> list[str]:
    return [row["id"] for row in ran.rows(part)]


def sentence(seed: int, words: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def test_the_first_of_equal_texts_is_kept_and_the_others_name_it(run_kind):
    ran = run_kind("preprocess.dedup", {}, told("yes", "no", "yes", "Yes", "yes"))
    assert ids(ran) == ["r0", "r1", "r3"]
    assert [(reason, row["id"], row["repeats"]) for reason, row in ran.rejected] == [
        ("the same text as an earlier row", "r2", "r0"),
        ("the same text as an earlier row", "r4", "r0"),
    ]
    assert ran.facts["metrics"] == {"groups": 1, "repeats": 2, "repeats_share": 0.4}
    assert ran.facts["tables"][0]["rows"] == [["r0", 3]]


def test_rows_come_out_as_they_went_in(run_kind):
    rows = told("a  b\u2003🚬", more={"x": [1, None]})
    assert run_kind("preprocess.dedup", {}, rows).rows() == rows


def test_only_rows_with_equal_values_in_same_are_compared(run_kind):
    rows = [{"id": number, "text": "yes", "who": who} for number, who in enumerate("abab")]
    for method in ("exact", "near"):
        assert ids(run_kind("preprocess.dedup", {"same": ["who"], "method": method}, rows)) == [0, 1]


def test_messages_are_compared_by_what_is_said_and_by_whom(run_kind):
    def talk(identity: str, role: str) -> dict[str, Any]:
        return {"id": identity, "messages": [{"role": role, "content": "yes"}]}

    rows = [talk("a", "user"), talk("b", "assistant"), talk("c", "user")]
    assert ids(run_kind("preprocess.dedup", {}, rows)) == ["a", "b"]


def test_another_column_may_be_compared(run_kind):
    rows = [{"id": number, "question": text, "text": "yes"} for number, text in enumerate(("who?", "what?", "who?"))]
    assert ids(run_kind("preprocess.dedup", {"columns": {"text": "question"}}, rows)) == [0, 1]


def test_rows_of_several_steps_are_compared_in_their_order(run_kind):
    ran = run_kind("preprocess.dedup", {}, [told("yes", "no"), told("maybe", "yes")])
    assert [row["text"] for row in ran.rows()] == ["yes", "no", "maybe"]
    assert ran.facts["metrics"]["repeats"] == 1


def test_a_text_with_a_word_changed_is_nearly_the_same(run_kind):
    text = sentence(1)
    rows = told(text, text.replace(text.split()[3], "umbrella"), sentence(2), text.upper(), sentence(3))
    ran = run_kind("preprocess.dedup", {"method": "near"}, rows)
    assert ids(ran) == ["r0", "r2", "r4"]
    assert {row["repeats"] for _, row in ran.rejected} == {"r0"}
    assert {reason for reason, _ in ran.rejected} == {"nearly the same text as an earlier row"}


def test_texts_without_spaces_are_compared_too(run_kind):
    text = "犯人はこの中にいると名探偵は静かに言ったので部屋の中の誰もが息をのんで顔を見合わせた"
    rows = told(text, text.replace("静かに", "急に"), "霧の深い夜に馬車が止まり扉を叩く音がした")
    assert ids(run_kind("preprocess.dedup", {"method": "near", "above": 0.7}, rows)) == ["r0", "r2"]


def test_nothing_is_dropped_that_is_less_alike_than_asked(run_kind):
    text = sentence(5)
    half = " ".join(text.split()[:25] + sentence(6).split()[:5])
    alike = _near.likeness(text, half)
    assert 0.55 < alike < 0.95
    assert len(run_kind("preprocess.dedup", {"method": "near", "above": alike + 0.01}, told(text, half)).rows()) == 2
    assert len(run_kind("preprocess.dedup", {"method": "near", "above": alike - 0.01}, told(text, half)).rows()) == 1


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    seed=st.integers(0, 999),
    method=st.sampled_from(["exact", "near"]),
)
def test_exactly_one_of_each_planted_group_is_kept(run_kind, groups, seed, method):
    rows = []
    for group, size in enumerate(groups):
        text = sentence(1000 * seed + group, 60)
        for copy in range(size):
            changed = text if method == "exact" else text + "!" * copy
            rows.append({"id": f"{group}-{copy}", "text": changed, "group": group})
    random.Random(seed).shuffle(rows)
    ran = run_kind("preprocess.dedup", {"method": method}, rows)
    kept = ran.rows()
    assert sorted(row["group"] for row in kept) == list(range(len(groups)))
    firsts = {row["group"]: row["id"] for row in reversed(rows)}
    assert {row["group"]: row["id"] for row in kept} == firsts
    assert all(firsts[row["group"]] == row["repeats"] for _, row in ran.rejected)
    assert kept == [row for row in rows if row["id"] in firsts.values()]


def test_nearly_all_planted_pairs_among_many_are_found(run_kind):
    plain = [sentence(number, 25) for number in range(3000)]
    changed = [text[:60] + "x" + text[61:] for text in plain[:1000]]
    ran = run_kind("preprocess.dedup", {"method": "near", "above": 0.8}, told(*plain, *changed))
    assert 990 <= len(ran.rejected) <= 1000


def test_train_loses_what_the_test_part_holds(run_kind):
    parts = {"train": told("yes", "no"), "validation": told("no", "maybe"), "test": told("yes", "yes")}
    ran = run_kind("preprocess.dedup", {}, {**parts, "train": [*parts["train"], {"id": "r9", "text": "never"}]})
    assert (ids(ran, "test"), ids(ran, "validation"), ids(ran, "train")) == (["r0"], ["r0", "r1"], ["r9"])


def test_a_part_with_nothing_of_its_own_is_an_error(run_kind):
    with pytest.raises(DataError, match=r"dedup\.train: no row is left: its rows all repeat rows of held-out parts"):
        run_kind("preprocess.dedup", {}, {"train": told("yes"), "test": told("yes")})


def test_ready_vectors_need_no_model(run_kind):
    vectors = [[1, 0, 0], [0.99, 0.05, 0], [0, 2, 0], [0, 0, 0], [3, 0.1, 0]]
    rows = [{"id": number, "embedding": vector} for number, vector in enumerate(vectors)]
    ran = run_kind("preprocess.dedup", {"method": "meaning"}, rows)
    assert ids(ran) == [0, 2, 3]
    assert [(row["id"], row["repeats"]) for _, row in ran.rejected] == [(1, "0"), (4, "0")]


def test_likeness_is_not_passed_on_from_row_to_row(run_kind):
    rows = [
        {"id": number, "embedding": [angle[0], angle[1]]} for number, angle in enumerate([(10, 0), (10, 3), (10, 6.5)])
    ]
    assert ids(run_kind("preprocess.dedup", {"method": "meaning"}, rows)) == [0, 2]


def test_many_vectors_are_found_by_cells(run_kind):
    source = np.random.default_rng(3)
    plain = source.standard_normal((9000, 32), dtype=np.float32)
    changed = plain[:1000] + 0.1 * source.standard_normal((1000, 32), dtype=np.float32)
    vectors = np.concatenate([plain, changed])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = _cells.first_alike(vectors, 0.95)
    assert (first[:9000] == np.arange(9000)).all()
    assert (first[9000:] == np.arange(1000)).mean() > 0.95
    assert ((first[9000:] == np.arange(1000)) | (first[9000:] == np.arange(9000, 10000))).all()


def test_sentences_that_mean_the_same_are_found_by_the_bundled_encoder(run_kind, tmp_path):
    rows = told("What is your age?", "What age are you?", "The rain has stopped.", "It is no longer raining.")
    ran = run_kind(
        "preprocess.dedup", {"method": "meaning", "model": "minilm", "above": 0.8}, rows, models={"model": (MINILM,)}
    )
    assert ids(ran) == ["r0", "r2"]
    assert ran.facts["metrics"]["repeats"] == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"above": 0.9}, "dedup.above: method: exact has no use for it. Set method: near or meaning."),
        (
            {"method": "near", "model": "minilm"},
            "dedup.model: method: near has no use for it. Set method: meaning.",
        ),
    ],
)
def test_keys_that_do_not_fit_the_method_are_refused(run_kind, params, message):
    with pytest.raises(StepError) as caught:
        run_kind("preprocess.dedup", params, told("yes"))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        (
            {},
            [{"source": "a.csv:1"}],
            "a.csv:1: neither text nor messages. Map the column to compare: columns: {text: …}.",
        ),
        (
            {"same": "who"},
            [{"source": "a.csv:1", "text": "yes"}],
            "a.csv:1: no value in column 'who', which same: needs. Fill it, or drop such rows before.",
        ),
        (
            {"method": "meaning"},
            [{"source": "a.csv:1", "text": "yes"}],
            "a.csv:1: column 'embedding' is no list of numbers. Fill it, or name a model.",
        ),
        (
            {"method": "meaning"},
            [{"id": "a", "embedding": [1, 2]}, {"id": "b", "embedding": [1, 2, 3]}],
            "b: 3 numbers in 'embedding', 2 in rows before. Use one model for all.",
        ),
        ({}, [], "dedup: no row is left: no rows came in. Split after dedup, or by group."),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(run_kind, params, rows, message):
    with pytest.raises(DataError) as caught:
        run_kind("preprocess.dedup", params, rows)
    assert str(caught.value) == message


def test_memory_does_not_hold_the_rows(tmp_path: Path):
    with RowWriter(tmp_path / "rows.jsonl") as rows:
        rows.write_all({"id": number, "text": sentence(number, 800)} for number in range(1500))
    (tmp_path / "out").mkdir()
    out = Out(tmp_path / "out")
    params = {"method": "exact"}
    tracemalloc.start()
    dedup.run(Step("kept", "preprocess", "dedup", params, tmp_path, inputs={"from": (Input("before", tmp_path),)}), out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    out.close()
    assert peak < (tmp_path / "rows.jsonl").stat().st_size / 10


def test_long_texts_are_compared_a_few_at_a_time():
    batches = list(_near._batches([("x" * 60_000, number) for number in range(5)]))
    assert [len(batch) for batch in batches] == [2, 2, 1]
