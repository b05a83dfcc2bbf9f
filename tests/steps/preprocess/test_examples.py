from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.step import Prompt

VOICE = {"system": "{{ me.statement }}", "prefill": "[INFO-{{ memory }}]", "assistant": "{{ utterance }}"}
PERSONA = {"user": "You are {{ level }}.\n{{ opening }}", "assistant": "{{ reply }}"}
MEMORIES = {"hobby": "You play chess.", "job": "You sell ads.", "worry": "You worry."}


def talk(*said: tuple[str, str, str], **columns: Any) -> dict[str, Any]:
    turns = [
        {"turn": at, "speaker": speaker, "memory": memory, "utterance": text}
        for at, (speaker, text, memory) in enumerate(said)
    ]
    people = {name: {"statement": f"You are the {name}.", "aspects": MEMORIES} for name in ("seeker", "supporter")}
    return {"id": "t", "source": "a.json:1", **people, "turns": turns, **columns}


TALK = talk(
    ("seeker", "Hello", ""),
    ("supporter", "How are you?", "You play chess."),
    ("seeker", "Bad.", "You worry."),
    ("supporter", "Tell me.", ""),
    ("seeker", "It's work.", "You sell ads."),
)


def examples(run_kind, params: dict[str, Any], rows: Any, prompt: Any = None, **more: Any) -> Any:
    turns = tuple(prompt) if isinstance(prompt, list) else (prompt,)
    prompts = {"prompt": Prompt("voice", turns)} if prompt else {}
    return run_kind(
        "preprocess.examples",
        params,
        rows if isinstance(rows, dict) and "train" in rows else list(rows),
        prompts=prompts,
        **more,
    )


def told(row: dict[str, Any]) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in row["messages"]]


# Plain rows


def test_a_plain_row_and_a_prompt_make_a_conversation(run_kind):
    row = {"id": "1", "source": "a.csv:2", "level": "high", "opening": "Hi.", "reply": "  Oh, hi!\n", "topic": 7}
    assert examples(run_kind, {}, [row], PERSONA).rows() == [
        {
            "id": "1",
            "conversation": "1",
            "source": "a.csv:2",
            "messages": [
                {"role": "user", "content": "You are high.\nHi."},
                {"role": "assistant", "content": "Oh, hi!"},
            ],
        }
    ]


def test_kept_columns_texts_and_matrix_values_come_along(run_kind):
    prompt = {"system": "{{ texts.when[stage] }} You are {{ who }}.", "user": "{{ q }}", "assistant": "{{ a }}"}
    rows = [{"id": "1", "conversation": "c", "q": "Who?", "a": "Me.", "stage": "early", "topic": None}]
    ran = examples(
        run_kind, {"keep": ["topic", "stage"]}, rows, prompt, texts={"when": {"early": "<I>"}}, matrix={"who": "newton"}
    )
    (row,) = ran.rows()
    assert told(row) == ["system: <I> You are newton.", "user: Who?", "assistant: Me."]
    assert (row["topic"], row["stage"], row["conversation"]) == (None, "early", "c")


def test_a_chain_makes_a_conversation_of_several_turns(run_kind):
    prompt = [
        {"system": "S", "user": "{{ a }}", "assistant": "{{ b }}"},
        {"user": "{{ c }}", "prefill": "So: ", "assistant": "{{ d }}"},
    ]
    (row,) = examples(run_kind, {}, [{"id": "1", "a": "1", "b": "2", "c": "3", "d": "4"}], prompt).rows()
    assert told(row) == ["system: S", "user: 1", "assistant: 2", "user: 3", "assistant: So: 4"]
    assert row["prefill"] == "So: "


def test_a_row_without_an_answer_is_dropped(run_kind):
    rows = [{"id": str(at), "level": "low", "opening": "Hi.", "reply": reply} for at, reply in enumerate(["ok", " \n"])]
    ran = examples(run_kind, {}, rows, PERSONA)
    assert [row["id"] for row in ran.rows()] == ["0"]
    assert ran.rejected == [("nothing to learn", rows[1])]
    assert ran.facts["tables"] == [{"title": "Examples", "columns": ["part", "examples"], "rows": [["all", 1]]}]


def test_a_whole_split_keeps_its_parts(run_kind):
    rows = {part: [{"id": part, "level": "low", "opening": "Hi.", "reply": part}] for part in ("train", "test")}
    ran = examples(run_kind, {}, rows, PERSONA)
    assert [told(ran.rows(part)[0])[-1] for part in rows] == ["assistant: train", "assistant: test"]


# Dialogues


def test_each_turn_of_a_speaker_is_learned_with_the_talk_before_it(run_kind):
    rows = examples(run_kind, {"speaker": "supporter", "opener": False}, [TALK], VOICE).rows()
    assert [told(row) for row in rows] == [
        ["system: You are the supporter.", "assistant: [INFO-You play chess.]How are you?"],
        ["system: You are the supporter.", "assistant: How are you?", "user: Bad.", "assistant: [INFO-]Tell me."],
    ]
    assert [row["prefill"] for row in rows] == ["[INFO-You play chess.]", "[INFO-]"]
    assert [(row["id"], row["conversation"], row["speaker"], row["turn"]) for row in rows] == [
        ("t#1", "t", "supporter", 1),
        ("t#3", "t", "supporter", 3),
    ]


def test_without_the_opener_the_talk_begins_with_the_first_turn_that_is_learned(run_kind):
    rows = examples(run_kind, {"speaker": "seeker", "opener": False}, [TALK], VOICE).rows()
    assert [told(row)[1:] for row in rows] == [
        ["assistant: [INFO-You worry.]Bad."],
        ["assistant: Bad.", "user: Tell me.", "assistant: [INFO-You sell ads.]It's work."],
    ]


def test_with_the_opener_all_is_told_and_from_turn_says_what_is_learned(run_kind):
    rows = examples(run_kind, {"speaker": "both", "from_turn": 3}, [TALK], {"system": "S"}).rows()
    assert told(rows[0]) == ["system: S", "user: Hello", "assistant: How are you?", "user: Bad.", "assistant: Tell me."]
    assert [row["turn"] for row in rows] == [3, 4]
    assert examples(run_kind, {"speaker": "seeker"}, [TALK], {"system": "S"}).rows()[0]["turn"] == 0


def test_a_user_text_takes_the_place_of_what_was_last_heard(run_kind):
    prompt = {
        "user": "{{ heard }} ({{ role }}, you may use: {{ memory }}; you said: {{ said }}; of {{ other.statement }})",
        "assistant": "{{ utterance }}!",
    }
    rows = examples(run_kind, {"speaker": "seeker"}, [TALK], prompt).rows()
    assert told(rows[2]) == [
        "assistant: Hello",
        "user: How are you?",
        "assistant: Bad.",
        "user: Tell me. (seeker, you may use: You sell ads.; you said: Bad.; of You are the supporter.)",
        "assistant: It's work.!",
    ]


def test_prompt_and_completion_are_written_on_demand_with_the_prefill_in_the_prompt(run_kind):
    (row, *_) = examples(run_kind, {"speaker": "seeker", "opener": False, "completion": True}, [TALK], VOICE).rows()
    assert row["prompt"] == [
        {"role": "system", "content": "You are the seeker."},
        {"role": "assistant", "content": "[INFO-You worry.]"},
    ]
    assert row["completion"] == [{"role": "assistant", "content": "Bad."}]
    assert told(row)[-1] == "assistant: [INFO-You worry.]Bad."


def test_columns_instead_of_messages_with_the_history_as_told(run_kind):
    params = {"speaker": "supporter", "opener": False, "keep": ["seeker"]}
    rows = examples(
        run_kind, {**params, "history": {"from": "{{ speaker }}", "value": "{{ utterance }}"}}, [TALK]
    ).rows()
    assert rows[0]["history"] == []
    assert rows[1]["history"] == [{"from": "supporter", "value": "How are you?"}, {"from": "seeker", "value": "Bad."}]
    assert (rows[1]["memory"], rows[1]["utterance"], rows[1]["seeker"]) == ("", "Tell me.", TALK["seeker"])
    lines = examples(run_kind, {**params, "history": "<{{ speaker | upper }}>{{ utterance }}"}, [TALK]).rows()
    assert lines[1]["history"] == "<SUPPORTER>How are you?<SEEKER>Bad."


def test_memories_chosen_and_not_chosen_become_pairs(run_kind):
    ran = examples(run_kind, {"speaker": "both", "opener": False, "memory": "each"}, [TALK])
    rows = [(row["id"], row["text"], row["text_pair"], row["label"]) for row in ran.rows()]
    assert rows[:3] == [
        ("t#1+", "", "You play chess.", 1),
        ("t#1-job", "", "You sell ads.", 0),
        ("t#1-worry", "", "You worry.", 0),
    ]
    last = "supporter: How are you? seeker: Bad. supporter: Tell me. "
    assert rows[6:] == [
        ("t#4+", last, "You sell ads.", 1),
        ("t#4-hobby", last, "You play chess.", 0),
        ("t#4-worry", last, "You worry.", 0),
    ]
    assert [reason for reason, _ in ran.rejected] == ["no memory was chosen"]
    assert ran.facts["tables"][0] == {
        "title": "Examples",
        "columns": ["part", "label 1", "label 0"],
        "rows": [["all", 3, 6]],
    }


@pytest.mark.parametrize("left_out", [["job", "worry"], {"supporter": ["job"], "seeker": ["job", "worry"]}])
def test_aspects_that_are_no_memories_are_left_out(run_kind, left_out):
    ran = examples(run_kind, {"speaker": "seeker", "opener": False, "memory": "each", "leave_out": left_out}, [TALK])
    assert [(row["turn"], row["label"]) for row in ran.rows()] == [(2, 1), (2, 0), (4, 1), (4, 0)]


def test_turns_of_another_shape_are_read_by_their_paths(run_kind):
    row = {"id": "1", "talk": [{"who": "a", "said": {"text": "x"}}, {"who": "b", "said": {"text": "y"}, "info": None}]}
    params = {
        "columns": {"turns": "talk"},
        "speaker": "b",
        "turn": {"speaker": "who", "utterance": "said.text", "memory": "info.text"},
    }
    turns = {"turns": row["talk"], **row}
    (made,) = examples(
        run_kind, {key: held for key, held in params.items() if key != "columns"}, [turns], {"system": "S"}
    ).rows()
    assert told(made) == ["system: S", "user: x", "assistant: y"]


SAID = st.lists(
    st.tuples(st.sampled_from("ab"), st.text(min_size=1, max_size=8).filter(str.strip)), min_size=1, max_size=12
)


@given(said=SAID, opener=st.booleans(), speaker=st.sampled_from(["a", "b", "both"]))
@settings(max_examples=60, deadline=None)
def test_every_turn_of_the_speaker_is_learned_once_after_what_came_before(run_kind, said, opener, speaker):
    row = {"id": "1", "turns": [{"speaker": who, "utterance": text} for who, text in said]}
    wanted = [at for at, (who, _) in enumerate(said) if speaker in (who, "both") and (opener or at)]
    params = {"speaker": speaker, "opener": opener, "history": {"text": "{{ utterance }}"}}
    if not wanted:
        with pytest.raises(DataError, match="no example is left"):
            examples(run_kind, params, [row])
        return
    made = examples(run_kind, params, [row]).rows()
    assert [one["turn"] for one in made] == wanted
    start = 0 if opener else wanted[0]
    for one in made:
        assert [text for _, text in said[start : one["turn"] + 1]] == [
            *(turn["text"] for turn in one["history"]),
            one["utterance"],
        ]


# Mistakes


@pytest.mark.parametrize(
    ("params", "prompt", "message"),
    [
        ({}, None, "plain rows need a prompt: and nothing of turns"),
        ({"memory": "each"}, PERSONA, "plain rows need a prompt:"),
        ({"speaker": "seeker"}, None, "say what to make of a turn"),
        ({"speaker": "seeker", "memory": "each"}, VOICE, "without a prompt:"),
        ({}, {"user": "x"}, "'voice' has no assistant text"),
        ({"speaker": "seeker"}, [VOICE, VOICE], "is a chain"),
        ({"speaker": "seeker", "opener": False, "memory": "each", "history": {"a": "b"}}, None, "needs a text"),
    ],
)
def test_keys_that_make_no_examples_are_refused(run_kind, params, prompt, message):
    with pytest.raises(StepError, match=message):
        examples(run_kind, params, [TALK], prompt)


@pytest.mark.parametrize(
    ("params", "row", "message"),
    [
        ({"speaker": "nobody"}, TALK, r"examples: no example is left \(no turn of that speaker\)"),
        ({"speaker": "seeker"}, {**TALK, "turns": "x"}, "a.json:1: turns is no list of turns"),
        ({"speaker": "seeker"}, {**TALK, "turns": [{"speaker": "seeker"}]}, "a.json:1: turn 0 has no 'utterance'"),
        ({"speaker": "seeker"}, {**TALK, "turns": [{"speaker": "seeker", "utterance": 1}]}, "of turn 0 must be texts"),
        ({"speaker": "seeker", "keep": ["x"]}, TALK, "no column 'x', which keep: names"),
    ],
)
def test_rows_that_are_no_dialogues_are_named(run_kind, params, row, message):
    with pytest.raises(DataError, match=message):
        examples(run_kind, params, [row], {"system": "S"})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"memories": "profile"}, "no memories in 'supporter.profile'"),
        ({"memories": "statement"}, "'supporter.statement' is a str; memories are an object"),
    ],
)
def test_memories_that_are_not_there_are_named(run_kind, params, message):
    with pytest.raises(DataError, match=message):
        examples(run_kind, {"speaker": "both", "opener": False, "memory": "each", **params}, [TALK])
