from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.step import Prompt

REAL = Path(__file__).resolve().parents[4] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the published data is not beside the checkout")
TALK = [("user", "Hi"), ("assistant", "Hello")]


@pytest.fixture
def read(run_kind, tmp_path):
    """`read({"a.json": [...]}, join=True)` writes the files (JSON Lines for .jsonl) and runs the step on them."""

    def run(written: dict[str, Any], /, **params: Any):
        for name, content in written.items():
            if isinstance(content, str | bytes):
                raw = content if isinstance(content, bytes) else content.encode()
            elif name.endswith(".jsonl"):
                raw = "".join(json.dumps(row) + "\n" for row in content).encode()
            else:
                raw = json.dumps(content).encode()
            (tmp_path / name).write_bytes(raw)
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, prompts: Any = None, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return run_kind(
        "preprocess.messages", {"folder": "datasets/x", **params}, folder=folder, files=files, prompts=prompts or {}
    )


def failure(read, written: dict[str, Any], /, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def talks(ran) -> list[list[tuple[str, str]]]:
    return [[(message["role"], message["content"]) for message in row["messages"]] for row in ran.rows()]


def why(ran) -> list[tuple[str, str]]:
    return [(row["source"], reason) for reason, row in ran.rejected]


OPENAI = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


@pytest.mark.parametrize(
    "row",
    [
        OPENAI,
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                OPENAI["messages"][1],
            ]
        },
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "output": "Hello", "history": None},
        {"data": ["Hi", "Hello"]},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": OPENAI["messages"][:1], "completion": OPENAI["messages"][1:]},
        {
            "dialog": [{"speaker": "seeker", "content": "Hi"}, {"speaker": "supporter", "content": "Hello"}],
            "situation": "x",
        },
        {"dialog": [{"speaker": "usr", "content": "Hi"}, {"speaker": "sys", "content": "Hello"}]},
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_every_format_gives_the_same_messages(read, row, name):
    assert talks(read({name: [row]})) == [TALK]


def test_a_system_text_of_the_row_comes_first(read):
    row = {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        "system": "Be brief.",
    }
    assert talks(read({"a.json": [row]})) == [[("system", "Be brief."), *TALK]]


def test_an_alpaca_row_with_input_and_history_becomes_turns(read):
    row = {"instruction": "Sum up", "input": "this", "output": "ok", "history": [["Hi", "Hello"]]}
    assert talks(read({"a.json": [row]})) == [[*TALK, ("user", "Sum up\nthis"), ("assistant", "ok")]]


def test_an_alpaca_table_is_read_too(read):
    assert talks(read({"a.csv": "instruction,input,output\nHi,,Hello\n"})) == [TALK]


def test_the_rows_know_where_they_come_from_and_keep_what_is_asked(read):
    rows = [{"id": 5, **OPENAI, "topic": "tea"}, OPENAI]
    assert [(row["id"], row["source"], row["topic"]) for row in read({"a.jsonl": rows}, keep="topic").rows()] == [
        ("5", "a.jsonl:1", "tea"),
        ("a.jsonl:2", "a.jsonl:2", None),
    ]


EMPATHETIC = """\
conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags
hit:0_conv:1,1,sentimental,I remember_comma_ once.,1,"I saw it_comma_ and went,5|5|5_2|2|5,
hit:0_conv:1,2,sentimental,I remember_comma_ once.,0,Oh?,5|5|5_2|2|5,
hit:1_conv:2,1,afraid,A noise,3,Boo,5|5|5_2|2|5
hit:1_conv:2,3,afraid,A noise,3,Boo,5|5|5_2|2|5,
hit:2_conv:4,1,afraid,A noise,3,Boo,5|5|5_2|2|5,
hit:2_conv:4,2,afraid,A noise,4,Who's there?,5|5|5_2|2|5,<HI>_<LO>
"""


def test_empathetic_dialogues_are_read_without_quotes_and_with_their_commas(read):
    ran = read({"train.csv": EMPATHETIC}, rejects=0.5, keep=["context", "prompt"])
    assert talks(ran) == [
        [("user", '"I saw it, and went'), ("assistant", "Oh?")],
        [("user", "Boo"), ("assistant", "Who's there?")],
    ]
    assert {key: ran.rows()[0][key] for key in ("id", "source", "context", "prompt")} == {
        "id": "hit:0_conv:1",
        "source": "train.csv:2",
        "context": "sentimental",
        "prompt": "I remember, once.",
    }
    assert why(ran) == [("train.csv:4", "an utterance is missing")]


def test_runs_of_one_side_are_joined_where_asked(read):
    runs = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": "you"},
            {"role": "assistant", "content": "Hello"},
        ]
    }
    assert talks(read({"a.json": [runs]}, join=True)) == [[("user", "Hi\nyou"), ("assistant", "Hello")]]
    assert "set join: true" in failure(read, {"a.json": [runs]})


def test_turns_without_an_answer_are_cut_and_counted(read):
    row = {"data": ["Hi", "Hello", "Bye"]}
    opened = {"messages": [{"role": "assistant", "content": "Welcome"}, *OPENAI["messages"]]}
    ran = read({"a.json": [row], "b.json": [opened]})
    assert talks(ran) == [TALK, TALK]
    assert ran.facts["metrics"] == {"files": 2, "cut_before_a_user_turn": 1, "cut_after_the_last_answer": 1}
    assert [len(talk) for talk in talks(read({}, ends="keep"))] == [3, 3]
    assert why(read({"c.json": [OPENAI]}, ends="reject", rejects=0.9)) == [
        ("a.json:1", "ends without an answer"),
        ("b.json:1", "begins with an answer"),
    ]


def test_a_prompt_begins_conversations_that_have_no_system_text(read):
    own = {"messages": [{"role": "developer", "content": "Mine."}, *OPENAI["messages"]]}
    prompts = {"prompt": Prompt("p", ({"system": "Be brief."},))}
    ran = read({"a.jsonl": [OPENAI, own]}, prompts=prompts)
    assert [talk[0] for talk in talks(ran)] == [("system", "Be brief."), ("system", "Mine.")]
    with pytest.raises(StepError, match="'p' has no system text"):
        read({}, prompts={"prompt": Prompt("p", ({"user": "x"},))})


def test_roles_can_be_named(read):
    row = {"conversations": [{"from": "Watson", "value": "Hi"}, {"from": "Holmes", "value": "Hello"}]}
    said = failure(read, {"a.json": [row]})
    assert "Unknown roles: Watson. Say who is who: roles: {user: …, assistant: …}." in said
    assert talks(read({}, roles={"user": ["Watson", "Lestrade"], "assistant": "Holmes"})) == [TALK]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " "}], "an empty turn"),
        ([{"role": "user", "content": "Hi"}], "no answer to learn"),
        ([], "no answer to learn"),
        ([*OPENAI["messages"], {"role": "system", "content": "x"}], "a system message after the first turn"),
        ([*OPENAI["messages"], {"role": "tool", "content": "x"}], "uses tools"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "uses tools"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "content that is not text"),
        (["Hi"], "not in the file's format"),
        ("Hi", "not in the file's format"),
        (None, "not in the file's format"),
    ],
)
def test_what_cannot_be_learned_from_is_set_aside_with_its_line(read, messages, reason):
    ran = read({"a.jsonl": [OPENAI, {"messages": messages}]}, rejects=0.5)
    assert (len(ran.rows()), why(ran)) == (1, [("a.jsonl:2", reason)])


def test_half_a_character_is_set_aside(read):
    text = json.dumps(OPENAI) + "\n" + json.dumps(OPENAI).replace("Hello", "\\ud83d") + "\n"
    assert why(read({"a.jsonl": text}, rejects=0.5)) == [("a.jsonl:2", "a number or a character that JSON cannot hold")]


# Preferences


def pair(**more: Any) -> dict[str, Any]:
    return {"chosen": "good", "rejected": "bad", **more}


@pytest.mark.parametrize(
    "row",
    [
        pair(prompt="Hi"),
        {
            "prompt": OPENAI["messages"][:1],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
        {
            "chosen": [OPENAI["messages"][0], {"role": "assistant", "content": "good"}],
            "rejected": [OPENAI["messages"][0], {"role": "assistant", "content": "bad"}],
        },
        {
            "prompt": "Hi",
            "chosen": [OPENAI["messages"][0], {"role": "assistant", "content": "good"}],
            "rejected": [OPENAI["messages"][0], {"role": "assistant", "content": "bad"}],
        },
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        pair(instruction="Hi", input=""),
    ],
)
def test_preferences_give_prompt_chosen_and_rejected(read, row):
    (made,) = read({"a.json": [row]}, format="preference").rows()
    assert made == {
        "id": "a.json#1",
        "source": "a.json:1",
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pair(), "no question before the answers"),
        (pair(prompt="Hi", rejected="good"), "chosen and rejected are the same"),
        (pair(prompt="Hi", chosen=OPENAI["messages"]), "answers of more than one turn"),
        (pair(prompt="Hi", chosen=3), "not in the file's format"),
    ],
)
def test_useless_preferences_are_set_aside(read, row, reason):
    assert why(read({"a.jsonl": [pair(prompt="Hi"), row]}, format="preference", rejects=0.5)) == [("a.jsonl:2", reason)]


def test_preferences_have_to_be_asked_for(read):
    assert "a.json: pairs of answers, chosen and rejected. To read them, set format: preference." in failure(
        read, {"a.json": [pair(prompt="Hi")]}
    )


# What fails


@pytest.mark.parametrize(
    ("written", "params", "said"),
    [
        ({"a.json": [{"x": 1}]}, {}, "a.json: no conversations in a known format (preference, openai,"),
        (
            {"a.json": [{"x": 1}]},
            {"format": "alpaca"},
            "a.json: not in the format alpaca: its rows lack instruction, output (it has: x).",
        ),
        ({"a.csv": "type,posts\nINFJ,x\n"}, {}, "(it has: type, posts). Read it with preprocess: table."),
        ({"a.txt": "Hi"}, {}, "a.txt: no table."),
        ({"a.json": '[{"messages": []}'}, {}, "a.json:1: cut off: the list has no end."),
        ({"a.jsonl": ""}, {}, "no rows: the files are empty"),
    ],
)
def test_what_holds_no_conversations_is_refused_with_a_sentence(read, written, params, said):
    assert said in failure(read, written, **params)


# Any conversation

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
TALKS = st.lists(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), min_size=1, max_size=4)


def write_as(form: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    said = [one for two in pairs for one in zip(("user", "assistant"), two, strict=True)]
    if form == "openai":
        return {"messages": [{"role": role, "content": text} for role, text in said]}
    if form == "sharegpt":
        return {
            "conversations": [
                {"from": {"user": "human", "assistant": "gpt"}[role], "value": text} for role, text in said
            ]
        }
    if form == "ultrachat":
        return {"data": [text for _, text in said]}
    if form == "esconv":
        return {
            "dialog": [
                {"speaker": {"user": "seeker", "assistant": "supporter"}[role], "content": text} for role, text in said
            ]
        }
    return {"instruction": pairs[-1][0], "output": pairs[-1][1], "history": [list(two) for two in pairs[:-1]]}


@settings(max_examples=60, deadline=None)
@given(made=TALKS, form=st.sampled_from(["openai", "sharegpt", "ultrachat", "esconv", "alpaca"]), lines=st.booleans())
def test_any_conversation_comes_back_as_it_was_written(run_kind, tmp_path_factory, made, form, lines):
    folder = tmp_path_factory.mktemp("talks")
    rows = [write_as(form, pairs) for pairs in made]
    text = "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows, ensure_ascii=False)
    (folder / "a.json").write_text(text, encoding="utf-8")
    assert talks(read_folder(run_kind, folder)) == [
        [one for two in pairs for one in zip(("user", "assistant"), two, strict=True)] for pairs in made
    ]


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() and "_comma_" not in text
)


@settings(max_examples=40, deadline=None)
@given(made=st.lists(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=3), min_size=1, max_size=3))
def test_any_empathetic_dialogue_comes_back(run_kind, tmp_path_factory, made):
    stream = io.StringIO()
    stream.write("conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n")
    for number, pairs in enumerate(made):
        for place, text in enumerate([text for two in pairs for text in two], 1):
            stream.write(f"hit:{number},{place},sad,x,{place % 2},{text.replace(',', '_comma_')},5|5,\n")
    folder = tmp_path_factory.mktemp("empathetic")
    (folder / "a.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    assert [[text for _, text in talk] for talk in talks(read_folder(run_kind, folder))] == [
        [text for two in pairs for text in two] for pairs in made
    ]


# Published data


@real
def test_published_support_dialogues_need_joining_and_then_all_are_read(run_kind):
    folder, files = REAL / "characterchat", "model_base_dataset.json"
    with pytest.raises(DataError, match=r"93 of 100 rows cannot be read.*set join: true"):
        read_folder(run_kind, folder, files=files)
    ran = read_folder(run_kind, folder, files=files, join=True)
    assert len(ran.rows()) == 100
    assert ran.facts["metrics"]["cut_before_a_user_turn"] == 63  # dialogues that the supporter opens
    assert ran.facts["tables"][0]["rows"] == [[files, "sharegpt", 100, 0]]


@real
def test_published_profiles_are_no_conversations(run_kind):
    with pytest.raises(DataError, match=r"profile_output\.json: no conversations in a known format"):
        read_folder(run_kind, REAL / "characterchat", files="profile_output.json")
