"""One dialogue: who is told what, which memory is used, when it ends, and what is left of replies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.asking import Answer, Ask, TooLong, Unanswered
from runner.errors import DataError, StepError
from runner.steps.generate._dialogue_stop import Stop, read_score
from runner.steps.generate._dialogue_talk import Unusable
from tests.steps.generate.dialogues import ASPECTS, MEMORY, STOP, pair, plain, step, talk, utterances


class Listener:
    """Answers as `plain` does, or as told, and keeps what was asked."""

    def __init__(self, **says: Any) -> None:
        self.asked: list[Ask] = []
        self.says = says

    def __call__(self, ask: Ask) -> str | Answer:
        self.asked.append(ask)
        said = self.says.get(ask.to.split()[0].replace(".", "_"), plain)
        if callable(said):
            answer: str | Answer = said(ask)
            return answer
        if isinstance(said, list):
            return said.pop(0) if len(said) > 1 else said[0]
        return str(said)

    def of(self, to: str) -> list[list[dict[str, str]]]:
        return [list(ask.messages) for ask in self.asked if ask.to.split()[0] == to]


# The published rule


@settings(deadline=None, max_examples=60)
@given(scores=st.lists(st.integers(0, 5), min_size=12, max_size=12))
def test_dialogues_have_an_odd_length_from_13_to_21_as_published(scores: list[int]) -> None:
    replies = [str(score) for score in scores]
    made = talk(Listener(stop_ask=replies), stop={**STOP, "scale": "0..5"})
    turns = [turn["speaker"] for turn in made["turns"]]
    assert len(turns) % 2 and 13 <= len(turns) <= 21
    assert turns == (["seeker", "supporter"] * 11)[: len(turns)]
    assert utterances(made)[0] == "Hello"
    held = made["scores"]
    first = next((at for at in range(5, 10) if held[at - 2 : at] >= [4, 4] and min(held[at - 2 : at]) >= 4), None)
    assert made["ended"] == ("score" if first and first < 9 else "turns")
    assert len(turns) == 2 * (first or 9) + 3 if first and first < 9 else len(turns) == 21


def test_a_mood_that_is_good_at_once_still_takes_five_scores() -> None:
    made = talk(Listener(stop_ask="5"), stop={**STOP, "scale": "0..5"})
    assert (len(made["turns"]), made["scores"], made["ended"]) == (13, [5, 5, 5, 5, 5], "score")


def test_replies_without_a_number_on_the_scale_count_for_nothing() -> None:
    replies = ["5", "fine", "", "7", "5", "-1", "5", "5", "5"]
    made = talk(Listener(stop_ask=replies), stop={**STOP, "scale": "0..5"})
    assert made["counts"]["scores: unclear"] == 4
    assert (made["scores"], len(made["turns"])) == ([5, 5, 5, 5], 21)


# What is told


def test_each_side_sees_its_own_turns_as_the_assistants_and_the_reminder_for_one_turn_only() -> None:
    hears = Listener(seeker=["I row.", "Yes."], supporter=["How are you?", "Good."])
    talk(hears, stop={"turns": 4}, goodbye=None)
    assert hears.of("supporter") == [
        [
            {"role": "system", "content": "You are supporter. (supporter)"},
            {"role": "user", "content": "Hello [supporter; ]"},
        ],
        [
            {"role": "system", "content": "You are supporter. (supporter)"},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "How are you?"},
            {"role": "user", "content": "I row. [supporter; ]"},
        ],
    ]
    assert hears.of("seeker")[0] == [
        {"role": "system", "content": "You are seeker. (seeker)"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How are you? [seeker; ]"},
    ]


def test_farewells_are_asked_for_by_their_own_prompt_and_without_memories() -> None:
    hears = Listener(memory_ask="hobby")
    made = talk(hears, stop={"turns": 3}, memory=MEMORY)
    assert [ask.messages[-1]["content"][-5:] for ask in hears.asked[-2:]] == ["[bye]", "[bye]"]
    assert [(turn["speaker"], turn["aspect"], turn["memory"]) for turn in made["turns"][-2:]] == [
        ("supporter", "", ""),
        ("seeker", "", ""),
    ]


def test_without_a_goodbye_there_are_no_farewells() -> None:
    assert len(talk(plain, stop={"turns": 6}, goodbye=None)["turns"]) == 6


def test_a_goodbye_of_one_side_is_that_sides_alone() -> None:
    prompts = {"goodbye": None, "goodbye.supporter": {"user": "bye"}}
    assert len(talk(plain, stop={"turns": 5}, prompts=prompts)["turns"]) == 6
    assert len(talk(plain, stop={"turns": 4}, prompts=prompts)["turns"]) == 4


def test_the_prompt_alone_may_wrap_what_was_heard_and_begin_the_reply_as_in_training() -> None:
    voice = {
        "system": "{{ me.statement }}",
        "user": "<{{ heard }}>",
        "prefill": "[INFO-{{ memory }}]",
        "assistant": "{{ utterance }}",
    }
    hears = Listener(memory_ask="hobby")
    talk(hears, stop={"turns": 2}, goodbye=None, reminder=None, memory=MEMORY, prompts={"prompt": voice})
    assert hears.of("supporter")[0][1:] == [
        {"role": "user", "content": "<Hello>"},
        {"role": "assistant", "content": "[INFO-You row.]"},
    ]


def test_prompts_see_the_talk_and_the_row() -> None:
    said = {"user": "{{ turn }}|{{ said }}|{{ other.name }}|{{ place }}|{{ transcript }}"}
    hears = Listener(seeker="I row.", supporter="Yes?")
    talk(hears, pair(place="a pier"), prompts={"reminder": said}, stop={"turns": 4}, goodbye=None)
    assert hears.of("seeker")[0][-1]["content"] == "2|Hello|Supporter|a pier|seeker: Hello\nsupporter: Yes?"
    assert hears.of("supporter")[1][-1]["content"].startswith("3|Yes?|Seeker|a pier|seeker: Hello")


def test_an_utterance_with_braces_is_told_as_it_is() -> None:
    hears = Listener(supporter="Say {{ me }} or {% if %}", seeker="{x}")
    made = talk(hears, stop={"turns": 4}, goodbye=None)
    assert hears.of("seeker")[0][-1]["content"] == "Say {{ me }} or {% if %} [seeker; ]"
    assert utterances(made)[2] == "{x}"


def test_only_the_last_turns_are_told_where_that_is_asked_for_and_the_system_text_always() -> None:
    hears = Listener(seeker="b", supporter="a")
    talk(hears, stop={"turns": 8}, goodbye=None, last_turns=2)
    assert hears.of("supporter")[-1] == [
        {"role": "system", "content": "You are supporter. (supporter)"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b [supporter; ]"},
    ]


# Who begins


def test_either_side_may_open_it_or_both() -> None:
    assert utterances(talk(plain, opener={"supporter": "Welcome, {{ other.name }}."}))[0] == "Welcome, Seeker."
    both = talk(plain, opener={"seeker": "Hello", "supporter": "Yes?"})["turns"]
    assert [(turn["speaker"], turn["utterance"]) for turn in both[:2]] == [("seeker", "Hello"), ("supporter", "Yes?")]
    assert talk(plain, opener="Hi.")["turns"][0] == {
        "turn": 0,
        "speaker": "seeker",
        "aspect": "",
        "memory": "",
        "utterance": "Hi.",
    }


def test_an_opener_that_comes_out_empty_makes_no_dialogue() -> None:
    with pytest.raises(Unusable, match="an empty opener"):
        talk(plain, pair(greeting=" "), opener="{{ greeting }}")


def test_of_several_openers_each_dialogue_draws_one_by_the_seed() -> None:
    openers = {"seeker": ["Hello", "Good evening", "{{ not a template }}"]}
    drawn = [utterances(talk(plain, pair(str(at)), opener=openers))[0] for at in range(30)]
    assert set(drawn) == set(openers["seeker"])
    assert drawn == [utterances(talk(plain, pair(str(at)), opener=openers))[0] for at in range(30)]
    assert drawn != [utterances(talk(plain, pair(str(at)), opener=openers, seed=1))[0] for at in range(30)]


def test_without_an_opener_the_first_is_asked_to_begin() -> None:
    hears = Listener()
    made = talk(hears, opener=None, stop={"turns": 3}, goodbye=None)
    assert hears.asked[0].to == "seeker"
    assert hears.asked[0].messages[-1] == {"role": "user", "content": "[seeker; ]"}
    assert [turn["speaker"] for turn in made["turns"]] == ["seeker", "supporter", "seeker"]


def test_nothing_to_begin_with_is_an_error() -> None:
    with pytest.raises(StepError, match=r"nothing is said to 'seeker', who begins\. Give opener:"):
        talk(plain, opener=None, reminder=None)


# Memories


def test_the_memory_that_was_chosen_is_told_and_written_down() -> None:
    hears = Listener(memory_ask=["hobby", "NONE", "a family matter"])
    made = talk(hears, stop={"turns": 4}, goodbye=None, memory=MEMORY)
    assert [(turn["aspect"], turn["memory"]) for turn in made["turns"]] == [
        ("", ""),
        ("hobby", "You row."),
        ("", ""),
        ("family", "You have a twin."),
    ]
    assert hears.of("supporter")[0][-1]["content"] == "Hello [supporter; You row.]"
    assert hears.of("memory.ask")[0] == [{"role": "user", "content": "Which? Hello Of: hobby, family, worry"}]


def test_a_speakers_first_own_turn_takes_the_memory_that_is_laid_down() -> None:
    hears = Listener(memory_ask="hobby")
    first = {**MEMORY, "first": {"seeker": "worry"}, "leave_out": {"supporter": ["worry"]}}
    made = talk(hears, stop={"turns": 5}, goodbye=None, memory=first)
    assert [turn["aspect"] for turn in made["turns"]] == ["", "hobby", "worry", "hobby", "hobby"]
    assert [ask.to for ask in hears.asked].count("memory.ask seeker") == 1


@settings(deadline=None, max_examples=60)
@given(names=st.lists(st.sampled_from([*ASPECTS, "NONE", "?"]), min_size=1, max_size=25), seed=st.integers(0, 9))
def test_a_resting_memory_is_not_used_whoever_used_it(names: list[str], seed: int) -> None:
    rules = {**MEMORY, "rest": {"after": 3, "in_last": 5}, "otherwise": {"use": "extra", "chance": 0.5}}
    made = talk(Listener(memory_ask=names), memory=rules, stop={"turns": 19}, seed=seed)
    used = [turn["aspect"] for turn in made["turns"] if turn["aspect"]]
    for at, aspect in enumerate(used):
        assert used[max(0, at - 5) : at].count(aspect) < 3


def test_a_role_without_a_column_of_memories_has_none() -> None:
    hears = Listener(memory_ask="hobby")
    made = talk(hears, stop={"turns": 5}, goodbye=None, memory={**MEMORY, "of": {"seeker": "aspects"}})
    assert [turn["aspect"] for turn in made["turns"]] == ["", "", "hobby", "", "hobby"]


def test_a_person_without_the_first_memory_makes_no_dialogue() -> None:
    row = pair()
    row["seeker"] = {**row["seeker"], "aspects": {"hobby": "You row.", "worry": " "}}
    with pytest.raises(Unusable, match="seeker has no memory 'worry'"):
        talk(plain, row, memory={**MEMORY, "first": {"seeker": "worry"}})


def test_a_person_without_memories_is_named() -> None:
    row = pair(supporter={"name": "B", "statement": "x"})
    with pytest.raises(DataError, match=r"1\+2: supporter: 'aspects' is missing"):
        talk(plain, row, memory=MEMORY)


# Replies


def test_a_reply_is_cleaned_with_both_names_and_what_was_heard_in_mind() -> None:
    rules = ["one-line", "no-name", "no-repeat"]
    row = pair()
    row["supporter"] = {**row["supporter"], "profile": {"name": "d'Arc"}}
    hears = Listener(supporter="d'arc: supporter:\n I row a boat. Do you?", seeker="Seeker: I row a boat. No\nidea.")
    made = talk(hears, row, clean=["no-name", *rules], stop={"turns": 3}, goodbye=None)
    assert utterances(made) == ["Hello", "I row a boat. Do you?", "No idea."]
    assert hears.of("seeker")[0][-1]["content"].startswith("I row a boat. Do you? [")


def test_an_empty_reply_is_asked_for_again_as_another_sample() -> None:
    hears = Listener(supporter=["", "  ", "Yes?"])
    made = talk(hears, stop={"turns": 2}, goodbye=None)
    assert utterances(made) == ["Hello", "Yes?"]
    samples = [ask.sample for ask in hears.asked]
    assert samples == [samples[0], samples[0] + 1, samples[0] + 2]
    assert made["counts"]["empty replies"] == 2


def test_a_filtered_reply_counts_as_none() -> None:
    hears = Listener(supporter=[Answer("I can", finish="content_filter"), Answer("Yes?")])  # type: ignore[list-item]
    assert utterances(talk(hears, stop={"turns": 2}, goodbye=None)) == ["Hello", "Yes?"]


def test_a_speaker_who_stays_silent_ends_the_dialogue() -> None:
    made = talk(Listener(seeker=["I row.", ""]), stop={"turns": 9})
    assert (made["ended"], len(made["turns"])) == ("silence", 4)
    assert made["turns"][-1]["speaker"] == "supporter"


def test_something_may_be_said_in_place_of_silence_until_there_is_too_much_of_it() -> None:
    empty = {"again": 0, "say": "Go on."}
    made = talk(Listener(seeker=""), empty=empty, stop={"turns": 5}, goodbye=None)
    assert [utterances(made)[at] for at in (2, 4)] == ["Go on.", "Go on."]
    quiet = talk(Listener(seeker="", supporter=""), empty=empty, stop={"turns": 9, "silence": 3})
    assert (quiet["ended"], utterances(quiet)) == ("silence", ["Hello", "Go on.", "Go on."])


def short_memory(most: int) -> Listener:
    """Speakers who can read so many messages."""

    def says(ask: Ask) -> str:
        if len(ask.messages) > most:
            raise TooLong("too long")
        return f"I am {ask.to}."

    return Listener(seeker=says, supporter=says)


def test_a_talk_longer_than_the_context_loses_its_oldest_turns_and_never_the_system_text() -> None:
    hears = short_memory(4)
    made = talk(hears, stop={"turns": 12}, goodbye=None)
    assert len(made["turns"]) == 12
    taken = [ask.messages for ask in hears.asked if len(ask.messages) <= 4]
    assert len(taken) == 11
    assert all([one["role"] for one in messages][:2] == ["system", "user"] for messages in taken[2:])
    assert taken[-1][-1]["content"] == "I am seeker. [supporter; ]"
    assert made["counts"]["turns told no more"] == len(hears.asked) - len(taken)


def test_a_system_text_that_leaves_no_room_for_one_turn_is_said_to() -> None:
    with pytest.raises(TooLong):
        talk(short_memory(1), stop={"turns": 12})


def test_a_question_without_an_answer_ends_the_talk_as_failed() -> None:
    def nothing(ask: Ask) -> str:
        raise Unanswered("HTTP 500")

    for to in ({"supporter": nothing}, {"stop_ask": nothing}, {"memory_ask": nothing}):
        with pytest.raises(Unanswered, match="HTTP 500"):
            talk(Listener(**to), stop={**STOP, "scale": "0..5"}, memory=MEMORY)


# Seeds


def test_each_turn_of_each_dialogue_has_answers_of_its_own_by_its_name_and_not_by_its_place() -> None:
    def samples(name: str) -> list[int]:
        hears = Listener()
        talk(hears, pair(name), stop={"turns": 9}, last_turns=1)
        return [ask.sample for ask in hears.asked]

    assert samples("1+2") == samples("1+2")
    assert not set(samples("1+2")) & set(samples("1+3"))
    assert len(set(samples("1+2"))) == len(samples("1+2")) == 10
    assert max(samples("1+2")) < 2**31


# Scores and ends


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("4", 4),
        ("4.", 4),
        ("Score: 3", 3),
        ("4/5", 4),
        ("2 out of 5", 2),
        ("On a scale of 0 to 5, I'd say 3.", 3),
        ("(0-5) 2", 2),
        ("3.5", 3.5),
        ("3,5", 3.5),
        ("**5**", 5),
        ("5/5", 5),
        ("2, maybe 3", 2),
        ("six", None),
        ("", None),
        ("7", None),
        ("-1", None),
        ("55", None),
        ("No5", None),
    ],
)
def test_a_score_is_the_first_number_that_is_not_the_scales_own(reply: str, score: float | None) -> None:
    assert read_score(reply, 0, 5) == score


def test_a_scale_may_lie_below_zero() -> None:
    assert [read_score(text, -2, 2) for text in ("-2", "-2 to 2: -1", "3", "0")] == [-2, -1, None, 0]


def test_enough_scores_and_the_last_ones_high_enough() -> None:
    stop = Stop(turns=9, of="seeker", low=0, high=5, at_least=4, last=2, after=3)
    rows = [([5, 5], False), ([1, 4, 4], True), ([5, 5, 3], False), ([5, 3, 5], False), ([5, 5, 4.5], True)]
    for scores, ends in rows:
        assert stop.by_score(scores) is ends


# Keys that cannot go together


def test_what_is_wrong_with_the_prompts_is_said_together() -> None:
    prompts = {"prompt": [{"system": "x"}, {"user": "y"}], "reminder": {"system": "x"}}
    with pytest.raises(StepError) as error:
        talk(plain, held=step(prompts=prompts, stop={**STOP, "scale": "5..0"}))
    assert error.value.lines == (
        "talks.prompt: 'prompt' is a chain, and a dialogue has turns of its own. Use a single one.",
        "talks.reminder: 'reminder' has no user text, so nothing would be asked. Add one.",
        "talks.stop.scale: its first number must be below its second.",
    )
