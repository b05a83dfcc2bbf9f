"""Which memory a speaker draws on: what is open, what rests, what an answer names, and what is used otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import memories
from runner.asking import Answer, Ask
from runner.errors import DataError, StepError
from runner.memories import Choice, Rules

HELD = {"hobby": "You row.", "family": "You have a twin.", "growth_experience": "You moved.", "extra": "You sing."}
PUBLISHED = Path(__file__).resolve().parents[2] / "shared/data/characterchat/dial_output.json"


def says(text: str) -> Any:
    return lambda ask: Answer(text)


def question(names: str) -> Ask:
    return Ask("me", [{"role": "user", "content": names}])


def chosen(reply: str, used: tuple[str, ...] = (), rule: Rules | None = None, **more: Any) -> Choice:
    rule = rule or Rules(of="held", leave_out=frozenset({"extra"}))
    return memories.alone(memories.choose(rule, HELD, used, Random(0), question, **more), says(reply))


# What rests

A, B, C = "a", "b", "c"
TABLE = [  # used so far, (uses, among the last), resting
    ([], (3, 5), set()),
    ([A, A], (3, 5), set()),
    ([A, A, A], (3, 5), {A}),
    ([A, B, A, B, A], (3, 5), {A}),
    ([A, A, A, B, C], (3, 5), {A}),
    ([A, A, A, B, C, B], (3, 5), set()),  # the first use is six turns ago
    ([A, A, B, C, B, A], (3, 5), set()),
    ([A, B, A, C, A, B, B], (3, 5), set()),
    ([A, B, A, C, B, A, B, B], (3, 5), {B}),
    ([A, A, A, A, A], (3, 5), {A}),
    ([A, B], (1, 1), {B}),
    ([A, B], (1, 2), {A, B}),
    ([A, B, C, A, B], (2, 4), {B}),
    ([A, B, B, A, C], (2, 4), {B}),
    ([A, A, B, B], (2, 4), {A, B}),
    ([A, A, A], (4, 3), set()),  # can never be
    ([A, A, A], (0, 0), set()),
]


@pytest.mark.parametrize(("used", "rest", "tired"), TABLE)
def test_an_aspect_rests_after_so_many_uses_among_the_last_ones(used: list[str], rest: Any, tired: set[str]) -> None:
    assert memories.resting(used, rest) == tired


names = st.sampled_from(sorted(HELD))


@settings(deadline=None, max_examples=60)
@given(
    left_out=st.frozensets(names),
    otherwise=st.none() | names,
    rest=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    replies=st.lists(st.one_of(names, st.sampled_from(["NONE", "the weather", "hobby or family", ""])), max_size=40),
    by=st.sampled_from(["ask", "score", "chance"]),
    seed=st.integers(0, 99),
)
def test_no_memory_is_ever_used_that_is_left_out_or_that_rests(
    left_out: frozenset[str], otherwise: str | None, rest: tuple[int, int], replies: list[str], by: str, seed: int
) -> None:
    rule = Rules(of="held", leave_out=left_out, otherwise=otherwise, chance=0.5, rest=rest, at_least=0.3)
    chance, used = Random(seed), []
    for reply in replies:
        scores = (lambda texts: [chance.random() for _ in texts]) if by == "score" else None
        script = memories.choose(rule, HELD, used, chance, question if by == "ask" else None, scores)
        choice = memories.alone(script, says(reply))
        if choice.aspect:
            assert choice.text == HELD[choice.aspect]
            assert choice.aspect not in left_out or (choice.aspect == otherwise and choice.how == "otherwise")
            assert used[-rest[1] :].count(choice.aspect) < rest[0]
            used.append(choice.aspect)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"the published data is not there: {PUBLISHED}")
def test_the_published_dialogues_keep_the_window_rule() -> None:
    turns = 0
    for line in PUBLISHED.read_text(encoding="utf-8").splitlines():
        used: list[str] = []
        for turn in json.loads(line)["dial"][1:-2]:  # a farewell repeats the choice before it
            aspect = turn["choose_info"]["aspect"]
            assert aspect not in memories.resting(used, (3, 5))
            used += [aspect] if aspect else []
            turns += bool(aspect)
    assert turns > 1000


# What is chosen


@pytest.mark.parametrize(
    ("reply", "aspect"),
    [
        ("hobby", "hobby"),
        ("Hobby.", "hobby"),
        ('"growth_experience"', "growth_experience"),
        ("**Growth experience**", "growth_experience"),
        ("I would draw on the family here.", "family"),
        ("growth_experience\n\nIt fits better than the hobby.", "growth_experience"),
        ("- family", "family"),
    ],
)
def test_an_answer_that_names_one_aspect_chooses_it(reply: str, aspect: str) -> None:
    assert chosen(reply) == Choice(aspect, HELD[aspect], "chosen")


@pytest.mark.parametrize("reply", ["hobby and family", "the weather", "", "hobbyhorse", "none or hobby", "extra", "😀"])
def test_an_answer_that_names_several_or_nothing_that_is_open_chooses_none(reply: str) -> None:
    assert chosen(reply) == Choice(how="unclear")


@pytest.mark.parametrize("reply", ["NONE", "none.", "None of them"])
def test_none_is_an_answer(reply: str) -> None:
    assert chosen(reply) == Choice(how="nothing")


def test_a_name_inside_a_longer_one_is_not_meant_by_it() -> None:
    assert memories.read("emotional state", ["state", "emotional_state"]) == "emotional_state"
    assert memories.read("state", ["state", "emotional_state"]) == "state"
    assert memories.read("我想用爱好。", ["爱好", "家庭"]) == "爱好"
    assert memories.read("emotional state, or state", ["state", "emotional_state"]) is None


def test_the_first_turn_takes_what_the_recipe_says_without_asking() -> None:
    rule = Rules(of="held", first="extra", leave_out=frozenset(HELD))
    assert chosen("hobby", rule=rule, first=True) == Choice("extra", "You sing.", "first")
    assert chosen("hobby", rule=rule, first=False) == Choice()


def test_only_what_is_open_is_asked_for_and_nothing_where_nothing_is() -> None:
    asked: list[str] = []

    def answer(ask: Ask) -> Answer:
        asked.append(ask.messages[-1]["content"])
        return Answer("NONE")

    rule = Rules(of="held", leave_out=frozenset({"extra"}), rest=(1, 3))
    for used in ([], ["hobby"], ["hobby", "family"], ["hobby", "family", "growth_experience"]):
        memories.alone(memories.choose(rule, HELD, used, Random(0), question), answer)
    assert asked == ["hobby, family, growth_experience", "family, growth_experience", "growth_experience"]


def test_what_is_used_otherwise_comes_as_often_as_its_chance_says_and_the_same_with_a_seed() -> None:
    rule = Rules(of="held", leave_out=frozenset({"extra"}), otherwise="extra", chance=0.5)

    def draws(seed: int) -> list[str]:
        chance = Random(seed)
        scripts = (memories.choose(rule, HELD, [], chance, question) for _ in range(400))
        return [memories.alone(script, says("NONE")).aspect for script in scripts]

    assert draws(1) == draws(1) != draws(2)
    assert 160 < draws(1).count("extra") < 240
    assert set(draws(1)) == {"", "extra"}


def test_what_is_used_otherwise_may_be_missing_from_a_person() -> None:
    assert chosen("NONE", rule=Rules(of="held", otherwise="pets")) == Choice()


def test_the_best_score_chooses_if_it_is_high_enough() -> None:
    def by(scores: list[float], at_least: float | None) -> Choice:
        rule = Rules(of="held", leave_out=frozenset({"extra"}), at_least=at_least)
        return memories.alone(memories.choose(rule, HELD, [], Random(0), scores=lambda texts: scores), says("?"))

    assert by([0.1, 0.9, 0.3], None).aspect == "family"
    assert by([0.5, 0.5, 0.1], None).aspect == "hobby"  # the first of equals
    assert by([-0.1, -0.9, -0.3], 0.0) == Choice()
    assert by([-0.1, -0.9, -0.3], None).aspect == "hobby"


def test_without_a_prompt_and_a_scorer_chance_chooses() -> None:
    rule = Rules(of="held", leave_out=frozenset({"extra"}))
    drawn = [memories.alone(memories.choose(rule, HELD, [], Random(at), None), says("?")).aspect for at in range(50)]
    assert set(drawn) == {"hobby", "family", "growth_experience"}


class Judge:
    """What a trained scorer looks like."""

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self.read: list[tuple[str, str]] = []

    def scores(self, texts: list[str], pairs: list[str]) -> list[dict[str, float]]:
        self.read += zip(texts, pairs, strict=True)
        return [{label: float(len(pair) + at) for at, label in enumerate(self.labels)} for pair in pairs]


def test_a_scorer_reads_the_talk_with_each_memory() -> None:
    judge = Judge("label")
    assert memories.scores_of(judge, "me: Hi ")(["ab", "abc"]) == [2.0, 3.0]
    assert judge.read == [("me: Hi ", "ab"), ("me: Hi ", "abc")]


def test_of_several_labels_one_counts() -> None:
    assert memories.scores_of(Judge("0", "1"), "")(["ab"]) == [3.0]
    assert memories.scores_of(Judge("fits", "not"), "", "fits")(["ab"]) == [2.0]
    with pytest.raises(StepError, match=r"gives fits, not, and no '1'\. Say which counts: score"):
        memories.scores_of(Judge("fits", "not"), "")(["ab"])


def test_the_talk_is_told_as_examples_tells_it() -> None:
    turns = [{"speaker": "seeker", "utterance": "Hi {{ x }}"}, {"speaker": "supporter", "utterance": "Yes?"}]
    assert memories.history(turns) == "seeker: Hi {{ x }} supporter: Yes? "
    assert memories.history([]) == ""


# What a person holds


def test_a_persons_memories_are_texts_and_blank_ones_are_none() -> None:
    person = {"p": {"m": {"a": "x", "b": " ", "c": None, "d": ["y", 1], "e": "", "f": 7}}}
    assert memories.of_person(person, "p.m", "row 1") == {"a": "x", "d": '["y", 1]', "f": "7"}


@pytest.mark.parametrize(
    ("person", "said"), [({}, "is missing"), ({"m": "text"}, "is a str"), ({"m": ["x"]}, "is a list")]
)
def test_a_column_that_holds_no_memories_is_said_to(person: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"row 1: 'm' {said}; memories are an object"):
        memories.of_person(person, "m", "row 1")


def test_keys_may_be_given_by_role() -> None:
    held = {
        "of": {"a": "x"},
        "leave_out": {"a": ["n"], "b": ["m"]},
        "first": {"b": "worry"},
        "otherwise": {"use": "extra", "chance": 0.5},
        "rest": {"after": 3, "in_last": 5},
    }
    assert memories.rules(held, "a") == Rules("x", frozenset({"n"}), None, "extra", 0.5, (3, 5))
    assert memories.rules({"of": "x", "first": "y"}, "b") == Rules("x", first="y")
