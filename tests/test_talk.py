from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import chat, decoding, models, schema, talk
from runner.models import Loaded
from runner.step import Decoding, Model

SYSTEM = {"role": "system", "content": "You are Holmes."}


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Loaded:
    return models.load([Model("tiny", {"load": str(tiny_model)})], tiny_model)[0]


def how(**params: Any) -> Decoding:
    return Decoding("talk", "sample", schema.defaults(schema.mode("sample"), {"max_new_tokens": 8, **params}))


def typed(*lines: str) -> Any:
    waiting = list(lines)

    def read() -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


def held(loaded: Loaded, *lines: str, **keys: Any) -> tuple[str, list[dict[str, str]]]:
    said: list[str] = []
    messages = talk.session(loaded, how(), SYSTEM["content"], typed(*lines), said.append, **keys)
    return "".join(said), messages


def test_a_conversation_is_remembered_turn_by_turn(loaded: Loaded) -> None:
    said, messages = held(loaded, "Who was it?", "", "And then?")
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert said == f"{messages[2]['content']}\n{messages[4]['content']}\n"
    assert messages[4]["content"] == decoding.answers(loaded, [messages[:4]], how(), 0)[0]


def test_one_message_gets_one_answer(loaded: Loaded) -> None:
    whole = "".join(talk.single(loaded, how(), None, "Who was it?", 5))
    assert whole == decoding.answers(loaded, [[{"role": "user", "content": "Who was it?"}]], how(), 5)[0]


def test_reset_forgets_and_quit_leaves(loaded: Loaded) -> None:
    said, messages = held(loaded, "Mud?", "/reset", "/quit", "never read")
    assert messages == [SYSTEM] and said.endswith("(The conversation begins anew.)\n")


def test_help_and_unknown_commands_say_what_there_is(loaded: Loaded) -> None:
    said, messages = held(loaded, "/help", "/nonsense")
    assert said == talk.HELP * 2 and messages == [SYSTEM]


def test_what_is_typed_is_put_into_the_prompts_user_turn(loaded: Loaded) -> None:
    _, messages = held(loaded, "Mud?", wrap=lambda text: f"Watson asks: {text}")
    assert messages[1]["content"] == "Watson asks: Mud?"


def test_old_turns_give_way_to_the_answer(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[dict[str, str]]] = []
    inner = decoding.stream

    def watched(one: Loaded, messages: Any, *given: Any) -> Iterator[str]:
        asked.append(messages)
        return inner(one, messages, *given)

    monkeypatch.setattr(decoding, "stream", watched)
    _, messages = held(loaded, *(["Has the letter come?"] * 6), context=120)
    assert len(messages) == 13
    for turn in asked:
        assert turn[0] == SYSTEM and turn[1]["role"] == "user" and turn[-1]["content"] == "Has the letter come?"
        assert len(chat.prompt_ids(loaded.tokenizer, turn)) <= 120 - 8
    assert len(asked[-1]) < 12


def test_a_message_beyond_the_context_is_refused_and_the_session_goes_on(loaded: Loaded) -> None:
    said, messages = held(loaded, "Mud. " * 400, "Mud?")
    assert "leaves no room in its context of 512" in said
    assert [message["content"] for message in messages[:2]] == [SYSTEM["content"], "Mud?"]


def test_an_interrupted_answer_is_kept_as_far_as_it_came(loaded: Loaded) -> None:
    said: list[str] = []

    def write(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    messages = talk.session(loaded, how(), None, typed("Who was it?", "/help"), write)
    assert messages == [
        {"role": "user", "content": "Who was it?"},
        {"role": "assistant", "content": "".join(said[:2]).strip()},
    ]
    assert said[2:] == ["\n", talk.HELP]


def test_ctrl_c_at_the_prompt_reaches_the_caller(loaded: Loaded) -> None:
    def read() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.session(loaded, how(), None, read, lambda text: None)
