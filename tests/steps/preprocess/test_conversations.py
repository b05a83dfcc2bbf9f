from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.step import Prompt

START = datetime(2024, 1, 31, 15, 0)


def said(*lines: tuple[float, str, str], channel: str = "c1", me: str = "ann") -> list[dict[str, Any]]:
    """(minute, speaker, text) as rows."""
    return [
        {
            "id": f"{channel}-{number}",
            "source": f"x.json#{number}",
            "conversation": channel,
            "speaker": speaker,
            "text": text,
            "time": (START + timedelta(minutes=minute)).isoformat(),
            "role": "assistant" if speaker == me else "user",
        }
        for number, (minute, speaker, text) in enumerate(lines)
    ]


def contents(row: dict[str, Any]) -> list[str]:
    return [f"{message['role'][0]}: {message['content']}" for message in row["messages"]]


def test_messages_become_turns_that_alternate(run_kind):
    rows = said(
        (0, "bob", "hi"),
        (1, "bob", "there?"),
        (2, "ann", "yes"),
        (3, "ann", "what is it"),
        (4, "bob", "lunch"),
        (5, "ann", "ok"),
    )
    (row,) = run_kind("preprocess.conversations", {}, rows).rows()
    assert contents(row) == ["u: hi\nthere?", "a: yes\nwhat is it", "u: lunch", "a: ok"]
    assert row | {"messages": 0} == {
        "id": "c1-0",
        "conversation": "c1-0",
        "time": "2024-01-31T15:00:00",
        "source": "x.json#0",
        "messages": 0,
        "turns": 4,
        "speakers": ["bob", "ann"],
    }


def test_a_pause_inside_a_turn_is_an_empty_line(run_kind):
    rows = said((0, "bob", "hi"), (20, "bob", "hello?"), (21, "ann", "hi"), (27, "ann", "was away"))
    (row,) = run_kind("preprocess.conversations", {}, rows).rows()
    assert contents(row) == ["u: hi\n\nhello?", "a: hi\n\nwas away"]


def test_a_longer_silence_starts_a_new_conversation(run_kind):
    rows = said((0, "bob", "hi"), (60, "ann", "hi"), (121, "bob", "again"), (122, "ann", "yes"))
    found = run_kind("preprocess.conversations", {}, rows).rows()
    assert [contents(row) for row in found] == [["u: hi", "a: hi"], ["u: again", "a: yes"]]
    assert [row["conversation"] for row in found] == ["c1-0", "c1-2"]


def test_channels_never_mix_and_rows_may_come_in_any_order(run_kind):
    one, two = said((0, "bob", "1"), (2, "ann", "2")), said((1, "eve", "3"), (3, "ann", "4"), channel="c2")
    found = run_kind("preprocess.conversations", {}, [two[1], one[1], one[0], two[0]]).rows()
    assert [contents(row) for row in found] == [["u: 3", "a: 4"], ["u: 1", "a: 2"]]


def test_several_others_keep_their_names(run_kind):
    rows = said((0, "bob", "hi"), (1, "bob", "all"), (2, "eve", "hey"), (3, "ann", "hi you two"))
    (row,) = run_kind("preprocess.conversations", {}, rows).rows()
    assert contents(row) == ["u: bob: hi\nall\neve: hey", "a: hi you two"]
    (row,) = run_kind("preprocess.conversations", {"names": "never"}, rows).rows()
    assert contents(row) == ["u: hi\nall\nhey", "a: hi you two"]


def test_a_single_other_is_named_only_on_demand(run_kind):
    rows = said((0, "bob", "hi"), (9, "bob", "you"), (10, "ann", "hi"))
    (row,) = run_kind("preprocess.conversations", {"names": "always"}, rows).rows()
    assert contents(row) == ["u: bob: hi\nbob: you", "a: hi"]


def test_the_system_text_comes_from_the_prompt(run_kind):
    prompt = Prompt("me", ({"system": "You are {{ who }}, {{ texts.mood[who] }}."},))
    rows = said((0, "bob", "hi"), (1, "ann", "hi"))
    more = {"prompts": {"prompt": prompt}, "matrix": {"who": "Ann"}, "texts": {"mood": {"Ann": "calm"}}}
    (row,) = run_kind("preprocess.conversations", {"prompt": "me"}, rows, **more).rows()
    assert contents(row) == ["s: You are Ann, calm.", "u: hi", "a: hi"]
    assert row["turns"] == 2


def test_a_prompt_without_a_system_text_is_refused(run_kind):
    with pytest.raises(StepError, match="'me' has no system text"):
        run_kind(
            "preprocess.conversations", {}, said((0, "bob", "hi")), prompts={"prompt": Prompt("me", ({"user": "x"},))}
        )


def test_what_leads_and_trails_is_cut_and_counted(run_kind):
    rows = said((0, "ann", "anyone?"), (1, "bob", "me"), (2, "ann", "hi"), (3, "bob", "bye"))
    ran = run_kind("preprocess.conversations", {}, rows)
    assert contents(ran.rows()[0]) == ["u: me", "a: hi"]
    assert ran.rows()[0]["id"] == "c1-1"
    assert ran.facts["metrics"] == {"cut_before_a_user_turn": 1, "cut_after_the_last_answer": 1}


def test_every_dropped_conversation_has_its_reason(run_kind):
    chats = {
        "the speaker says nothing": [(0, "bob", "hi"), (1, "eve", "hi")],
        "nobody else speaks": [(0, "ann", "hi")],
        "the speaker answers nobody": [(0, "ann", "hi"), (1, "bob", "hi")],
        "shorter than min_turns": [(0, "bob", "a b c"), (1, "ann", "d e f")],
        "fewer than min_words": [(0, "bob", "a"), (1, "ann", "b"), (2, "bob", "c"), (3, "ann", "d")],
        "more than max_words": [(0, "bob", "a a a a a a a a a"), (1, "ann", "b"), (2, "bob", "c"), (3, "ann", "d")],
        "": [(0, "bob", "a a a"), (1, "ann", "b"), (2, "bob", "c"), (3, "ann", "d")],
    }
    rows = [row for reason, lines in chats.items() for row in said(*lines, channel=reason)]
    ran = run_kind("preprocess.conversations", {"min_turns": 4, "min_words": 6, "max_words": 11}, rows)
    assert [reason for reason, _ in ran.rejected] == list(chats)[:-1]
    assert all(row["messages"] and row["source"] for _, row in ran.rejected)
    assert len(ran.rows()) == 1


def test_a_long_conversation_is_cut_into_even_pieces_without_loss(run_kind):
    rows = said(*[(number, "bob" if number % 2 == 0 else "ann", f"t{number}") for number in range(14)])
    found = run_kind("preprocess.conversations", {"window": 7, "min_turns": 8}, rows).rows()
    assert [row["turns"] for row in found] == [4, 4, 6]
    assert [text[3:] for row in found for text in contents(row)] == [f"t{number}" for number in range(14)]
    assert {row["conversation"] for row in found} == {"c1-0"}
    assert [row["id"] for row in found] == ["c1-0", "c1-4", "c1-8"]


def test_the_speaker_may_be_chosen_here_by_name_or_id(run_kind):
    rows = [
        {**row, "author": {"ann": "17", "bob": "18"}[row["speaker"]], "role": None}
        for row in said((0, "ann", "x"), (1, "bob", "y"))
    ]
    for speaker in ("bob", "18"):
        (row,) = run_kind("preprocess.conversations", {"speaker": speaker}, rows).rows()
        assert contents(row) == ["u: x", "a: y"]


def test_a_name_of_two_authors_is_refused(run_kind):
    rows = [{**row, "author": str(number)} for number, row in enumerate(said((0, "bob", "x"), (1, "bob", "y")))]
    with pytest.raises(DataError, match="'bob' is the name of several authors: 0, 1"):
        run_kind("preprocess.conversations", {"speaker": "bob"}, rows)


def test_an_unknown_speaker_is_told_who_speaks(run_kind):
    rows = said((0, "ann", "x"), (1, "bob", "y"), (2, "bob", "z"))
    with pytest.raises(DataError) as caught:
        run_kind("preprocess.conversations", {"speaker": "rob"}, rows)
    assert (
        str(caught.value)
        == "conversations: no message by 'rob'. Set speaker to one of: bob (2 messages), ann (1 messages)."
    )


def test_nothing_left_says_why(run_kind):
    with pytest.raises(DataError, match=r"no conversation is left \(1 shorter than min_turns\)"):
        run_kind("preprocess.conversations", {"min_turns": 4}, said((0, "bob", "x"), (1, "ann", "y")))


def test_rows_without_times_stay_in_the_order_of_the_file(run_kind):
    rows = [{**row, "time": None} for row in said((9, "bob", "1"), (500, "ann", "2"), (3, "bob", "3"), (0, "ann", "4"))]
    (row,) = run_kind("preprocess.conversations", {}, rows).rows()
    assert contents(row) == ["u: 1", "a: 2", "u: 3", "a: 4"]


def test_a_row_without_a_time_stays_after_the_row_before_it(run_kind):
    rows = said((9, "ann", "2"), (9, "bob", "3"), (10, "ann", "4"), (5, "bob", "1"))
    rows[1]["time"] = None
    (row,) = run_kind("preprocess.conversations", {}, rows).rows()
    assert contents(row) == ["u: 1", "a: 2", "u: 3", "a: 4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "2024-01-31T15:00:00+00:00"}, "differ in having an offset"),
        ({"time": "yesterday"}, "x.json#1: time 'yesterday' is not an ISO 8601 time"),
        ({"role": "narrator"}, "x.json#1: role is 'narrator', neither assistant nor user"),
    ],
)
def test_a_row_that_cannot_be_placed_is_named(run_kind, change, message):
    rows = said((0, "bob", "x"), (1, "ann", "y"))
    rows[1] |= change
    with pytest.raises(DataError, match=message):
        run_kind("preprocess.conversations", {}, rows)


def test_a_whole_split_keeps_its_parts(run_kind):
    rows = {
        "train": said((0, "bob", "x"), (1, "ann", "y")),
        "test": said((0, "bob", "p"), (1, "ann", "q"), channel="c2"),
    }
    ran = run_kind("preprocess.conversations", {}, rows)
    assert contents(ran.rows("train")[0]) == ["u: x", "a: y"]
    assert contents(ran.rows("test")[0]) == ["u: p", "a: q"]
    assert not (ran.folder / "rows.jsonl").exists()


def test_blank_messages_are_dropped(run_kind):
    rows = said((0, "bob", "x"), (1, "bob", " "), (2, "ann", "y"))
    ran = run_kind("preprocess.conversations", {}, rows)
    assert contents(ran.rows()[0]) == ["u: x", "a: y"]
    assert [reason for reason, _ in ran.rejected] == ["no text"]


CHAT = st.lists(st.tuples(st.integers(0, 90), st.sampled_from(["ann", "bob", "eve"])), min_size=1, max_size=40)


@given(chat=CHAT, window=st.integers(2, 9), names=st.sampled_from(["auto", "never"]))
@settings(max_examples=60, deadline=None)
def test_every_message_is_in_one_conversation_or_accounted_for(run_kind, chat, window, names):
    minute, lines = 0, []
    for number, (gap, speaker) in enumerate(chat):
        minute += gap
        lines.append((minute, speaker, f"<{number}>"))
    try:
        ran = run_kind("preprocess.conversations", {"window": window, "names": names}, said(*lines))
    except DataError as error:
        assert "no conversation is left" in str(error)
        return
    texts = "".join(message["content"] for row in ran.rows() for message in row["messages"])
    kept = [number for number in range(len(chat)) if f"<{number}>" in texts]
    assert texts.count("<") == len(kept), "a message is there twice"
    for row in ran.rows():
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(roles) <= window
    assert kept == sorted(kept)
