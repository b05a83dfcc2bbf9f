"""Conversations as text: a row's messages, a tokenizer ready for chatting, what a model is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from runner.errors import DataError, StepError
from runner.files import where

Message = dict[str, str]
Example = dict[str, list[int]]
IGNORED = -100
ROLES = ("system", "user", "assistant")

# For base models that have no template: the role, a line break, the text, the end token, a line break. Nothing ends in
# a space, so that a prompt and the answer after it are cut into the same tokens as the whole.
PLAIN = (
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
JOINER = "\u2060"
GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")


def conversation(row: dict[str, Any]) -> list[Message]:
    """A row's messages. Raises DataError, naming the row, where they are not a list of {role, content} with text."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(one) for one in messages):
        raise DataError(
            f"{where(row)}: messages must be a list of {{role, content}}, the role one of {', '.join(ROLES)}."
        )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)


def complete(tokenizer: Any) -> Any:
    """The tokenizer with what chatting needs: PLAIN where it has no template, its end token as pad where it has none.

    What is added is saved with the tokenizer. Raises StepError for a tokenizer without an end token or without offsets.
    """
    name = getattr(tokenizer, "name_or_path", "") or "the model"
    if tokenizer.eos_token_id is None:
        raise StepError(f"{name}: its tokenizer has no end token, so no answer could end. Set eos_token in its files.")
    if not tokenizer.is_fast:
        raise StepError(f"{name}: its tokenizer has no tokenizer.json, so the trained tokens cannot be located.")
    if not tokenizer.chat_template:
        tokenizer.chat_template = ("{{ bos_token }}" if begins(tokenizer) else "") + PLAIN
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def begins(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its begin token before every text by itself."""
    return bool(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])


def render(tokenizer: Any, messages: Sequence[Message], asks: bool = False) -> str:
    """The conversation as text; with `asks` up to where the assistant's next answer begins.

    What somebody writes is never read as a token that opens or ends a turn. Raises StepError in one line where the
    template refuses the messages.
    """
    try:
        text = tokenizer.apply_chat_template(said(tokenizer, messages), tokenize=False, add_generation_prompt=asks)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise StepError(f"the chat template refuses a conversation of {roles}: {error}") from error
    return str(text)


def said(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """Messages as they go into a template, their contents `defused`."""
    return [{**message, "content": defused(tokenizer, message["content"])} for message in messages]


def defused(tokenizer: Any, content: str) -> str:
    """A content in which the tokenizer's own tokens, and those of its template, are text: a word joiner, which nobody
    sees, stands after their first letter. Tokens that a recipe adds are meant where they stand."""
    for token in _own(tokenizer, tokenizer.chat_template):
        if token in content:
            content = content.replace(token, f"{token[0]}{JOINER}{token[1:]}")
    return content


@lru_cache(maxsize=16)
def _own(tokenizer: Any, template: str) -> tuple[str, ...]:
    """The special tokens but those that a recipe adds and its template does not write; the longest first."""
    added = {token for token in tokenizer.extra_special_tokens if token not in template}
    known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    named = {token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    held = (known | named) - added
    return tuple(sorted((token for token in held if len(token) > 1), key=lambda token: (-len(token), token)))


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids that ask for the next answer; a last message of the assistant is what that answer begins with.

    The blank after such a beginning belongs to the word that follows it, as in training.
    """
    begun = messages[-1]["content"].strip() if messages and messages[-1]["role"] == "assistant" else ""
    text = render(tokenizer, messages[:-1] if begun else messages, asks=True) + defused(tokenizer, begun)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
