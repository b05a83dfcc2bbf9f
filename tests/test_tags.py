from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runner import tags
from runner.chat import complete, encode, end_ids, pieces, prompt_ids, render
from tests.conftest import make_tokenizer

ROLES = {"system": "<SYSTEM>", "user": "<SEEKER>", "assistant": "<SUPPORTER>"}
TALK = [
    {"role": "system", "content": "You are Holmes."},
    {"role": "user", "content": "Has the letter come?"},
    {"role": "assistant", "content": "Yes. Observe the mud."},
    {"role": "user", "content": "Who was it?"},
    {"role": "assistant", "content": "Elementary!"},
]
END = "<|im_end|>"


def tagged(begins: bool = False, **keys: Any) -> Any:
    made = make_tokenizer(None)
    made.chat_template = tags.jinja({**ROLES, "end": "answers", **keys}, begins)
    return made


def learned(tokenizer: Any, learn: str = "assistant", prefill: str = "") -> list[str]:
    return [text for text, kept in pieces(tokenizer, encode(tokenizer, TALK, learn, prefill)) if kept]


def test_tags_stand_before_turns_and_the_end_token_after_answers() -> None:
    text = (
        "<SYSTEM>You are Holmes.<SEEKER>Has the letter come?<SUPPORTER>Yes. Observe the mud.<|im_end|>"
        "<SEEKER>Who was it?<SUPPORTER>Elementary!<|im_end|>"
    )
    assert render(tagged(), TALK) == text
    assert render(tagged(), TALK[:2], asks=True) == "<SYSTEM>You are Holmes.<SEEKER>Has the letter come?<SUPPORTER>"
    assert learned(tagged()) == [f"Yes. Observe the mud.{END}", f"Elementary!{END}"]


def test_the_end_token_stands_after_all_turns_or_the_last_answer_alone() -> None:
    assert render(tagged(end="turns", after="\n"), TALK[1:3]) == (
        "<SEEKER>Has the letter come?<|im_end|>\n<SUPPORTER>Yes. Observe the mud.<|im_end|>\n"
    )
    assert learned(tagged(end="last", after="\n")) == ["Yes. Observe the mud.\n", f"Elementary!{END}"]
    last = tagged(end="last")
    assert render(last, TALK[1:]).count(END) == 1 and render(last, TALK[1:]).endswith(f"Elementary!{END}")
    assert learned(last, "completion") == [f"Elementary!{END}"]
    assert learned(last) == ["Yes. Observe the mud.", f"Elementary!{END}"]
    assert end_ids(last) == [last.eos_token_id]


def test_the_begin_token_is_the_tokenizers_own_or_what_the_recipe_says() -> None:
    assert render(tagged(begins=True), TALK[1:2]).startswith("<SEEKER>")  # this one has no begin token
    held = tagged(begins=True)
    held.bos_token = "<|endoftext|>"
    assert render(held, TALK[1:2]) == "<|endoftext|><SEEKER>Has the letter come?"
    assert render(tagged(begins=True, begin=""), TALK[1:2]) == "<SEEKER>Has the letter come?"
    assert render(tagged(begin="###\n"), TALK[1:2]) == "###\n<SEEKER>Has the letter come?"


@pytest.mark.parametrize("tag", ['a "quoted" tag: ', "{{ user }}: ", "back\\slash\n", "🔍 ", "l'autre: ", "%} "])
def test_any_text_is_a_tag(tag: str) -> None:
    held = tagged(user=tag)
    assert render(held, TALK[1:2]) == f"{tag}Has the letter come?"


def test_a_space_after_the_assistants_tag_is_the_answers() -> None:
    held = tagged(user="User: ", assistant="Assistant: ", after="\n")
    assert render(held, TALK[1:3]) == "User: Has the letter come?\nAssistant: Yes. Observe the mud.<|im_end|>\n"
    asked = prompt_ids(held, TALK[1:2])
    made = encode(held, TALK[1:3])
    assert held.decode(asked).endswith("Assistant:")
    assert made["input_ids"][: len(asked)] == asked and made["labels"][len(asked)] != -100
    assert made["labels"][len(asked) - 1] == -100 and learned(held)[0] == f" Yes. Observe the mud.{END}"


def test_a_model_is_asked_with_the_tokens_it_learned_after_even_where_words_would_join() -> None:
    held = tagged(user="?", assistant="Elem")
    talk = [TALK[1], {"role": "assistant", "content": "entary"}]
    asked = prompt_ids(held, talk[:1])
    made = encode(held, talk)
    assert made["input_ids"][: len(asked)] == asked
    assert [text for text, kept in pieces(held, made) if kept] == [f"entary{END}"]


def test_the_folder_of_a_model_keeps_the_template(tmp_path: Path) -> None:
    held = complete(tagged(user="User:\n"))
    held.save_pretrained(tmp_path)
    again = complete(AutoTokenizer.from_pretrained(tmp_path))
    assert render(again, TALK, asks=True) == render(held, TALK, asks=True)
    assert encode(again, TALK) == encode(held, TALK)


@pytest.mark.parametrize("prefill", ["Elem", "Elementary!", "Elementary", ""])
def test_a_prefill_is_not_learned(prefill: str) -> None:
    for learn in ("assistant", "completion"):
        assert learned(tagged(), learn, prefill)[-1] == f"Elementary!{END}".removeprefix(prefill)
    whole = "".join(learned(tagged(), "all", prefill))
    assert whole == render(tagged(), TALK).replace("Elementary!", "Elementary!".removeprefix(prefill))
