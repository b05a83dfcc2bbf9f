from __future__ import annotations

from typing import Any

import pytest

from runner.chat import (
    IGNORED,
    PLAIN,
    complete,
    cut_at,
    encode,
    end_ids,
    fit,
    pieces,
    prompt_ids,
    render,
    shorten,
)
from runner.errors import StepError
from tests.conftest import CHATML, make_tokenizer

TALK = [
    {"role": "system", "content": "You are Holmes."},
    {"role": "user", "content": "Has the letter come?"},
    {"role": "assistant", "content": "Yes. Observe the mud."},
    {"role": "user", "content": "Who was it?"},
    {"role": "assistant", "content": "Elementary!"},
]
MARKED = CHATML.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}",
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}"
    "{{ '<|im_end|>\n' }}",
)
FORGETFUL = CHATML.replace("message['content']", "(message['content'] if loop.last else 'gone')")


def learned(tokenizer: Any, messages: list[dict[str, str]]) -> list[str]:
    return [text for text, kept in pieces(tokenizer, encode(tokenizer, messages)) if kept]


def test_only_the_answers_and_their_end_token_are_learned(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert learned(tokenizer, TALK) == ["Yes. Observe the mud.<|im_end|>", "Elementary!<|im_end|>"]


def test_every_token_is_accounted_for_by_position(tokenizer: Any) -> None:
    made = encode(tokenizer, TALK)
    assert tokenizer.decode(made["input_ids"]) == render(tokenizer, TALK)
    for one, label in zip(made["input_ids"], made["labels"], strict=True):
        assert label in (one, IGNORED)
    ends = [at for at, one in enumerate(made["input_ids"]) if one == tokenizer.eos_token_id]
    assert [made["labels"][at] != IGNORED for at in ends] == [False, False, True, False, True]


def test_an_answer_without_system_message_is_learned(tokenizer: Any) -> None:
    assert learned(tokenizer, TALK[1:3]) == ["Yes. Observe the mud.<|im_end|>"]


def test_an_answer_that_opens_the_conversation_is_learned(tokenizer: Any) -> None:
    assert learned(tokenizer, [TALK[2], *TALK[1:3]]) == ["Yes. Observe the mud.<|im_end|>"] * 2


@pytest.mark.parametrize("text", ["🔍🚬", "naïve 🔍", "犯人", "a\n\nb", "  spaced", "e\u0301"])
def test_letters_that_take_several_tokens_are_learned_whole(tokenizer: Any, text: str) -> None:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    made = encode(tokenizer, messages)
    assert learned(tokenizer, messages) == [text + "<|im_end|>"]
    first = next(at for at, label in enumerate(made["labels"]) if label != IGNORED)
    assert made["input_ids"][:first] == prompt_ids(tokenizer, messages[:1])


def test_a_model_is_asked_with_the_very_tokens_it_learned_after(tokenizer: Any) -> None:
    made = encode(tokenizer, TALK)
    asked = prompt_ids(tokenizer, TALK[:4])
    assert made["input_ids"][: len(asked)] == asked
    assert made["labels"][len(asked)] != IGNORED


def test_the_templates_own_marks_are_used_and_the_end_token_added() -> None:
    marked = make_tokenizer(MARKED)
    assert encode(marked, TALK) == encode(make_tokenizer(), TALK)


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(StepError, match="writes earlier turns anew"):
        encode(make_tokenizer(FORGETFUL), TALK)


def test_a_template_that_refuses_a_role_is_named_in_one_line() -> None:
    refuses = make_tokenizer("{{ raise_exception('no system here') }}")
    with pytest.raises(StepError, match="conversation of system, user: no system here"):
        prompt_ids(refuses, TALK[:2])


def test_a_base_model_gets_a_plain_template_that_its_folder_keeps(tmp_path: Any) -> None:
    bare = make_tokenizer(None)
    bare.pad_token = None
    complete(bare).save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (again.chat_template, again.pad_token) == (PLAIN, "<|im_end|>")
    assert render(again, TALK[1:3], asks=True) == (
        "user:\nHas the letter come?<|im_end|>\nassistant:\nYes. Observe the mud.<|im_end|>\nassistant:\n"
    )
    assert learned(again, TALK) == ["Yes. Observe the mud.<|im_end|>", "Elementary!<|im_end|>"]


def test_a_tokenizer_without_end_token_is_refused() -> None:
    bare = make_tokenizer()
    bare.eos_token = None
    with pytest.raises(StepError, match="no end token"):
        complete(bare)


def test_an_answer_ends_where_its_template_says(tokenizer: Any) -> None:
    assert end_ids(tokenizer) == [tokenizer.eos_token_id]
    other = make_tokenizer(CHATML.replace("<|im_end|>", "<|endoftext|>"))
    assert end_ids(other) == [other.convert_tokens_to_ids("<|endoftext|>"), other.eos_token_id]


def test_the_oldest_turns_give_way_and_the_system_message_stays(tokenizer: Any) -> None:
    asks = [*TALK, {"role": "user", "content": "Then?"}]
    whole = len(prompt_ids(tokenizer, asks))
    assert fit(tokenizer, asks, whole) == asks
    assert fit(tokenizer, asks, whole - 1) == [asks[0], *asks[3:]]
    assert fit(tokenizer, asks, 0) == [asks[0], asks[5]]


def size(tokenizer: Any, messages: list[dict[str, str]]) -> int:
    return len(encode(tokenizer, messages)["input_ids"])


def test_a_long_conversation_becomes_several_and_no_turn_is_lost(tokenizer: Any) -> None:
    long = [TALK[0], *(TALK[1:] * 5)]
    most = size(tokenizer, TALK) + 5
    made, lost = shorten(tokenizer, long, most, "split")
    assert lost == []
    assert [turn for one in made for turn in one[1:]] == long[1:]
    assert all(one[0] == TALK[0] and one[1]["role"] == "user" and size(tokenizer, one) <= most for one in made)


def test_an_exchange_too_long_by_itself_is_left_out_and_reported(tokenizer: Any) -> None:
    huge = [{"role": "user", "content": "Why? " * 200}, {"role": "assistant", "content": "Well."}]
    most = size(tokenizer, TALK)
    made, lost = shorten(tokenizer, [*TALK, *huge, *TALK[1:3]], most, "split")
    assert (made, lost) == ([TALK, TALK[:3]], [f"one exchange is longer than {most} tokens"])


def test_drop_leaves_the_whole_conversation_out(tokenizer: Any) -> None:
    assert shorten(tokenizer, TALK, 10, "drop") == ([], ["longer than 10 tokens"])


def test_cut_shortens_the_question_and_never_the_answer(tokenizer: Any) -> None:
    talk = [TALK[0], *TALK[1:3], {"role": "user", "content": "Mud? " * 100 + "Who was it?"}, TALK[4]]
    made, lost = shorten(tokenizer, talk, 60, "cut")
    assert lost == [] and len(made) == 1
    system, question, answer = made[0]
    assert (system, answer) == (TALK[0], TALK[4])
    assert question["content"].endswith("Mud? Who was it?") and 50 < size(tokenizer, made[0]) <= 60


def test_cut_leaves_out_what_is_too_long_by_its_answer(tokenizer: Any) -> None:
    talk = [TALK[1], {"role": "assistant", "content": "Mud. " * 100}]
    assert shorten(tokenizer, talk, 60, "cut") == ([], ["the answer alone is longer than 60 tokens"])


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_the_last_answer_alone_is_learned_or_everything(template: str) -> None:
    held = make_tokenizer(template)
    last = encode(held, TALK, "completion")
    assert [text for text, kept in pieces(held, last) if kept] == ["Elementary!<|im_end|>"]
    whole = encode(held, TALK, "all")
    assert whole["labels"] == whole["input_ids"] == last["input_ids"]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_what_an_answer_is_given_to_begin_with_is_not_learned(template: str) -> None:
    held = make_tokenizer(template)
    talk = [*TALK[:4], {"role": "assistant", "content": "[mud] You see, but you do not observe."}]
    for prefill in ("[mud]", "[mud] "):
        made = encode(held, talk, "completion", prefill)
        assert [text for text, kept in pieces(held, made) if kept] == [" You see, but you do not observe.<|im_end|>"]
    assert learned(held, talk)[-1] == "[mud] You see, but you do not observe.<|im_end|>"


def test_a_prefill_that_the_answer_does_not_begin_with_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(StepError, match="an answer does not begin with its prefill 'Well'"):
        encode(tokenizer, TALK, "assistant", "Well")
    with pytest.raises(StepError, match="does not begin with its prefill"):
        encode(tokenizer, TALK[:4], "assistant", "Well")


def test_no_token_lies_across_a_place(tokenizer: Any) -> None:
    text = "The rain has not stopped since Tuesday."
    for place in range(len(text) + 1):
        tokens = cut_at(tokenizer, text, [place])
        assert tokenizer.decode([one for one, _, _ in tokens]) == text
        assert not any(first < place < last for _, first, last in tokens)
