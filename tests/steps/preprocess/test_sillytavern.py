from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError
from runner.step import Prompt

HEADER = {
    "user_name": "Ann",
    "character_name": "Seraphina",
    "create_date": "2024-6-5 @14h 56m 50s 682ms",
    "chat_metadata": {},
}


def say(text: Any, user: bool = False, name: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name or ("Ann" if user else "Seraphina"), "is_user": user, "is_system": False, "mes": text, **more}


TALK = [say("Welcome."), say("Hi", True), say("Hello"), say("Bye", True)]


@pytest.fixture
def read(run_kind, tmp_path):
    """`read({"a.jsonl": [HEADER, say("Hi", True), …]})` writes the chats and runs the step on them."""

    def run(written: dict[str, Any], /, **params: Any):
        for name, content in written.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            lines = content if isinstance(content, list) else [content]
            raw = [line if isinstance(line, str | bytes) else json.dumps(line) + "\n" for line in lines]
            (tmp_path / name).write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() for line in raw))
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, prompts: Any = None, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return run_kind(
        "preprocess.sillytavern", {"folder": "datasets/x", **params}, folder=folder, files=files, prompts=prompts or {}
    )


def failure(read, written: dict[str, Any], /, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def said(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def test_a_chat_gives_a_conversation_from_the_users_first_turn_to_the_last_answer(read):
    ran = read({"Seraphina/a.jsonl": [HEADER, *TALK]})
    assert ran.rows() == [
        {
            "id": "Seraphina/a",
            "source": "Seraphina/a.jsonl:2",
            "conversation": "Seraphina/a",
            "character": "Seraphina",
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        }
    ]
    assert ran.facts["metrics"] == {
        "chats": 1,
        "hidden_messages": 0,
        "cut_before_a_user_turn": 1,
        "cut_after_the_last_answer": 1,
    }


def test_the_greeting_can_be_kept(read):
    (row,) = read({"a.jsonl": [HEADER, *TALK]}, ends="keep").rows()
    assert said(row["messages"])[0] == ("assistant", "Welcome.")
    with pytest.raises(DataError, match="no conversation with a user turn"):
        read({}, ends="reject")


def test_a_chat_without_header_is_read(read):
    assert len(read({"a.jsonl": TALK}).rows()) == 1


def test_hidden_messages_are_left_out_and_narration_is_kept(read):
    hidden = say("secret", is_system=True)
    narrated = say("Night falls.", is_system=True, extra={"type": "narrator"}, name="Seraphina")
    ran = read({"a.jsonl": [HEADER, say("Hi", True), hidden, narrated, say("Hello")]})
    assert [role for role, _ in said(ran.rows()[0]["messages"])] == ["user", "assistant"]
    assert "Night falls." in ran.rows()[0]["messages"][0]["content"]
    assert ran.facts["metrics"]["hidden_messages"] == 1


def test_a_text_wrapped_in_an_object_is_read(read):
    (row,) = read({"a.jsonl": [HEADER, say("Hi", True), say({"message": "Hello"})]}).rows()
    assert said(row["messages"])[-1] == ("assistant", "Hello")


def test_in_a_group_one_voice_is_learned_and_the_others_are_named(read):
    lines = [HEADER, say("Hi", True), say("Hey", name="Rex"), say("Hello")]
    assert "several characters answer: Rex (1), Seraphina (1). Say whose voice is learned: speaker: …" in failure(
        read, {"a.jsonl": lines}
    )
    (row,) = read({}, speaker="Seraphina").rows()
    assert said(row["messages"]) == [("user", "Ann: Hi\nRex: Hey"), ("assistant", "Hello")]
    assert "'Zoe' says nothing. Set speaker to one of: Rex (1), Seraphina (1)" in failure(read, {}, speaker="Zoe")


def test_answers_swiped_away_become_preferences(read):
    swiped = say("Hello", swipes=["Yo", "Hello", "What?", "Yo", " "], swipe_id=1)
    ran = read({"a.jsonl": [HEADER, say("Welcome."), say("Hi", True), swiped]}, rows="preferences")
    first, second = ran.rows()
    assert first == {
        "id": "a.jsonl:4-1",
        "source": "a.jsonl:4",
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "assistant", "content": "Yo"}],
        "conversation": "a",
        "character": "Seraphina",
    }
    assert second["rejected"][0]["content"] == "What?"


def test_an_edited_answer_is_not_set_against_its_own_first_wording(read):
    swiped = say("Hello, dear", swipes=["Hello", "Yo"], swipe_id=0)
    ran = read({"a.jsonl": [HEADER, say("Hi", True), swiped]}, rows="preferences")
    assert [row["rejected"][0]["content"] for row in ran.rows()] == ["Yo"]


def test_a_greetings_alternatives_answer_nothing_and_are_set_aside(read):
    lines = [HEADER, say("A", swipes=["A", "B"], swipe_id=0), say("Hi", True), say("C", swipes=["C", "D"], swipe_id=0)]
    ran = read({"a.jsonl": lines}, rows="preferences")
    assert len(ran.rows()) == 1
    assert [reason for reason, _ in ran.rejected] == ["a greeting: nothing before it to answer"]


def test_the_prompt_of_a_preference_has_no_more_messages_than_asked(read):
    lines = [HEADER]
    for turn in range(5):
        lines += [say(f"q{turn}", True), say(f"a{turn}")]
    lines += [say("last", True), say("yes", swipes=["yes", "no"], swipe_id=0)]
    (row,) = read({"a.jsonl": lines}, rows="preferences", context=4).rows()
    assert said(row["prompt"]) == [("user", "q4"), ("assistant", "a4"), ("user", "last")]


def test_a_prompt_gives_the_system_text(read):
    prompts = {"prompt": Prompt("p", ({"system": "You are Seraphina."},))}
    (row,) = read({"a.jsonl": [HEADER, *TALK]}, prompts=prompts).rows()
    assert said(row["messages"])[0] == ("system", "You are Seraphina.")


def test_broken_lines_are_set_aside(read):
    lines = [HEADER, *TALK, "{nope\n", {"x": 1}, say(3), say("\ud83d"), "<<<<<<< a\n", ">>>>>>> b\n"]
    ran = read({"a.jsonl": lines}, rejects=0.9)
    assert [(row["source"], reason) for reason, row in ran.rejected] == [
        ("a.jsonl:6", "not JSON"),
        ("a.jsonl:7", "no message"),
        ("a.jsonl:8", "a text that is none"),
        ("a.jsonl:9", "half a character (a lone surrogate)"),
        ("a.jsonl:10", "a merge conflict"),
        ("a.jsonl:11", "a merge conflict"),
    ]
    assert "6 of 10 rows cannot be read" in failure(read, {})


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"a.json": {"histories": {"histories": []}}}, "it looks like an export of CAI Tools"),
        ({"a.json": {"data_visible": [["a", "b"]]}}, "it looks like a chat of oobabooga's web UI"),
        ({"a.jsonl": {"messages": []}}, "dialogues for training (preprocess: messages)"),
        ({"a.json": {"spec": "chara_card_v2", "data": {}}}, "a character card (preprocess: character_card)"),
        ({"a.jsonl": '{\n "a": 1}'}, "it looks like JSON over several lines"),
        ({"a.jsonl": "hello\n"}, "it looks like other text"),
        ({"a.jsonl": [[1]]}, "it looks like a JSON list"),
        ({"a.txt": "hello"}, "a.txt: no SillyTavern chat. Move it out of the folder."),
        ({"a.png": b"\x89PNG\r\n\x1a\n"}, "a.png: a picture."),
        ({"a.jsonl": [HEADER]}, "no rows: the files are empty"),
    ],
)
def test_what_is_no_chat_is_refused_with_a_sentence(read, written, said):
    assert said in failure(read, written)


def test_chats_without_swipes_have_no_preferences(read):
    assert "no answer in 1 chats has swipes" in failure(read, {"a.jsonl": [HEADER, *TALK]}, rows="preferences")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(made=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), header=st.booleans())
def test_any_chat_comes_back_as_it_was_written(run_kind, tmp_path_factory, made, header):
    folder = tmp_path_factory.mktemp("chats")
    lines = [say(text, user) for pair in made for text, user in zip(pair, (True, False), strict=True)]
    whole = [*([HEADER] if header else []), *lines]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in whole), encoding="utf-8")
    (row,) = read_folder(run_kind, folder).rows()
    assert [content for _, content in said(row["messages"])] == [text for pair in made for text in pair]
