from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError
from runner.step import Model
from runner.steps.preprocess._words import cut_after, word_count

DATA = Path(__file__).resolve().parents[4] / "shared/data/persllm"
FACTS = [
    "Holmes keeps his tobacco in the toe of a Persian slipper.",
    "Watson was wounded at Maiwand and walks with care.",
    "The Baker Street rooms have seventeen steps up to them.",
    "Moriarty is a professor of mathematics.",
]
MANNER = ["You see, but you do not observe.", "The game is afoot."]


def passages(texts: list[str], **columns: Any) -> list[dict[str, Any]]:
    return [{"id": number, "source": f"k.txt:{number}", "text": text, **columns} for number, text in enumerate(texts)]


def retrieved(run_kind: Any, rows: Any, take: dict[str, tuple[Any, int]], **params: Any) -> Any:
    keys = {
        "take": {name: {"from": name, "words": words} for name, (_, words) in take.items()},
        "model": "minilm",
        **params,
    }
    inputs = {f"take.{name}.from": texts for name, (texts, _) in take.items()}
    models = {"model": (Model("minilm", {"load": "minilm"}),)}
    return run_kind("preprocess.retrieve", keys, rows, inputs, models=models)


def retrieve(*args: Any, **params: Any) -> list[dict[str, Any]]:
    return retrieved(*args, **params).rows()


def test_the_nearest_passages_come_first_and_the_rows_stay(run_kind):
    rows = [{"id": "q", "query": "Where is the tobacco?", "more": [1]}]
    (row,) = retrieve(run_kind, rows, {"facts": (passages(FACTS), 1300), "manner": (passages(MANNER), 4)})
    taken = row["facts"].split("\n\n")
    assert taken[0] == FACTS[0]
    assert sorted(taken) == sorted(FACTS)
    assert row["manner"] == MANNER[1], "a passage that does not fit is passed over"
    assert row | {"facts": 0, "manner": 0} == {**rows[0], "facts": 0, "manner": 0}


def test_columns_are_mapped_for_the_rows_and_not_for_the_passages(run_kind):
    rows = [{"id": "q", "question": "Where is the tobacco?", "text": FACTS[3]}]
    columns = {"query": "question", "first": "text"}
    (row,) = retrieve(run_kind, rows, {"facts": (passages(FACTS), 20)}, columns=columns)
    assert row["facts"].split("\n\n") == [FACTS[3], FACTS[0]]


def test_the_first_passage_opens_the_column_whose_source_holds_it(run_kind):
    rows = [{"id": "q", "query": "Where is the tobacco?", "first": MANNER[1]}]
    (row,) = retrieve(run_kind, rows, {"facts": (passages(FACTS), 12), "manner": (passages(MANNER), 100)})
    assert row["facts"] == FACTS[0]
    assert row["manner"].split("\n\n") == [MANNER[1], MANNER[0]]


def test_a_first_passage_from_elsewhere_opens_the_first_column(run_kind):
    rows = [{"id": "q", "query": "Where is the tobacco?", "first": "A text borrowed from elsewhere."}]
    (row,) = retrieve(run_kind, rows, {"facts": (passages(FACTS), 17), "manner": (passages(MANNER), 4)}, between=" … ")
    assert row["facts"] == f"A text borrowed from elsewhere. … {FACTS[0]}"


def test_only_passages_of_the_same_person_are_taken(run_kind):
    source = passages(FACTS[:2], who="holmes") + passages(FACTS[2:], who="watson")
    rows = [{"id": 1, "query": "Where is the tobacco?", "who": "watson"}, {"id": 2, "query": "Steps?", "who": "holmes"}]
    first, second = retrieve(run_kind, rows, {"facts": (source, 100)}, same=["who"])
    assert sorted(first["facts"].split("\n\n")) == sorted(FACTS[2:])
    assert sorted(second["facts"].split("\n\n")) == sorted(FACTS[:2])


def test_a_passage_longer_than_the_budget_is_cut_and_never_left_out(run_kind):
    rows = [{"id": "q", "query": "tobacco in a slipper"}]
    (row,) = retrieve(run_kind, rows, {"facts": (passages(FACTS), 3)})
    assert row["facts"] == "Holmes keeps his"


def test_parts_stay_parts(run_kind):
    rows = {part: [{"id": part, "query": "Where?"}] for part in ("train", "test")}
    ran = retrieved(run_kind, rows, {"facts": (passages(FACTS), 20)})
    assert sorted(path.name for path in ran.folder.glob("*.jsonl")) == ["test.jsonl", "train.jsonl"]


@settings(max_examples=12, deadline=None)
@given(
    budget=st.integers(1, 40),
    query=st.sampled_from(["Where?", "Who walks with care?"]),
    first=st.sampled_from([None, FACTS[1], "犯人は誰だ " * 9]),
)
def test_the_budget_is_kept_and_nothing_is_taken_twice(run_kind, budget, query, first):
    rows = [{"id": "q", "query": query, **({"first": first} if first else {})}]
    (row,) = retrieve(run_kind, rows, {"facts": (passages([*FACTS, *FACTS]), budget)})
    assert 1 <= word_count(row["facts"]) <= budget
    taken = row["facts"].split("\n\n")
    assert len(taken) == len(set(taken))


@given(st.text(), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_a_cut_text_is_a_beginning_with_that_many_words(text, words):
    cut = cut_after(text, words)
    assert text.startswith(cut)
    assert word_count(cut) == min(words, word_count(text))


def test_characters_of_scripts_without_spaces_are_words():
    assert word_count("犯人は誰ですか") == 7
    assert word_count("Holmes 犯人 said") == 4


@pytest.mark.parametrize(
    ("rows", "take", "params", "message"),
    [
        ([{"id": "q"}], (passages(FACTS), 9), {}, "q: no value in column 'query', which retrieve: needs."),
        ([{"id": "q", "query": "?"}], ([], 9), {}, "retrieve.take.facts: its source has no passages."),
        (
            [{"id": "q", "query": "?"}],
            ([{"id": "p", "body": "x"}], 9),
            {},
            "p: a passage for retrieve.take.facts has no text.",
        ),
        (
            [{"id": "q", "query": "?", "who": "x"}],
            (passages(FACTS, who="y"), 9),
            {"same": ["who"]},
            "q: retrieve.take.facts has no passage with who: x.",
        ),
        ([{"id": "q", "query": "?", "first": 7}], (passages(FACTS), 9), {}, "q: 'first' is no text."),
        ([], (passages(FACTS), 9), {}, "retrieve: no rows came in to find passages for."),
    ],
)
def test_what_cannot_be_retrieved_is_said_in_one_line(run_kind, rows, take, params, message):
    with pytest.raises(DataError) as caught:
        retrieve(run_kind, rows, {"facts": take}, **params)
    assert str(caught.value).startswith(message)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not at {DATA}")
def test_the_published_passages_on_newton_answer_a_question(run_kind):
    lines = [line for line in (DATA / "wiki_Newton.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    (row,) = retrieve(
        run_kind,
        [{"id": "q", "query": "What did Newton find out about light and colours?"}],
        {"facts": (passages(lines), 350)},
    )
    assert "coloured light" in row["facts"].split("\n\n")[0]
    assert 250 < word_count(row["facts"]) <= 350
