"""Messages and tokens: what training learns of a conversation, what a model is asked, and what fits.

The trained tokens are found by position in the rendered text, never by token id: the token that ends an answer is
learned even where the pad token is the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

from jinja2 import TemplateError

from runner.errors import DataError, StepError

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
GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")


def conversation(row: dict[str, Any]) -> list[Message]:
    """A row's messages. Raises DataError, naming the row, where they are not a list of {role, content} with text."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(one) for one in messages):
        where = row.get("source") or row.get("id") or "a row"
        raise DataError(f"{where}: messages must be a list of {{role, content}}, the role one of {', '.join(ROLES)}.")
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
        begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def render(tokenizer: Any, messages: Sequence[Message], asks: bool = False) -> str:
    """The conversation as text; with `asks` up to where the assistant's next answer begins.

    Raises StepError in one line where the template refuses the messages.
    """
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise StepError(f"the chat template refuses a conversation of {roles}: {error}") from error
    return str(text)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids that ask for the next answer."""
    ids: list[int] = tokenizer(render(tokenizer, messages, asks=True), add_special_tokens=False).input_ids
    return ids


def encode(tokenizer: Any, messages: Sequence[Message]) -> Example:
    """{"input_ids", "labels"}: labels are the ids where the assistant speaks, its end token included, else IGNORED.

    The template's own `{% generation %}` marks are used where it has them; else the answers are located by rendering
    the conversation up to each. Raises StepError where the template writes earlier turns anew as more follow.
    """
    if not any(message["role"] == "assistant" for message in messages):
        ids = tokenizer(render(tokenizer, messages), add_special_tokens=False).input_ids
        return {"input_ids": ids, "labels": [IGNORED] * len(ids)}
    if GENERATION.search(tokenizer.chat_template):
        return _encode_marked(tokenizer, messages)
    text = render(tokenizer, messages)
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = made["input_ids"], made["offset_mapping"]
    labels = [IGNORED] * len(ids)
    special = _special(tokenizer)
    for start, end in _answers(tokenizer, messages, text):
        inside = [at for at, (first, last) in enumerate(offsets) if start <= first < end and last > first]
        ends = [at for at in inside if ids[at] in special]
        for at in inside:
            if not ends or at <= ends[-1]:
                labels[at] = ids[at]
    return {"input_ids": ids, "labels": labels}


def _special(tokenizer: Any) -> set[int]:
    return {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}


def _encode_marked(tokenizer: Any, messages: Sequence[Message]) -> Example:
    """By the template's own marks; the end token right after a marked answer counts as part of it."""
    made = tokenizer.apply_chat_template(list(messages), return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = list(made["input_ids"]), list(made["assistant_masks"])
    for at, (before, here) in enumerate(pairwise(mask), 1):
        if before and not here and ids[at] == tokenizer.eos_token_id != ids[at - 1]:
            mask[at] = 1
    return {"input_ids": ids, "labels": [one if kept else IGNORED for one, kept in zip(ids, mask, strict=True)]}


def _answers(tokenizer: Any, messages: Sequence[Message], text: str) -> Iterator[tuple[int, int]]:
    """Where each assistant turn begins and ends in the rendered text, in characters."""
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = render(tokenizer, messages[:at], asks=True) if at else _first_asked(tokenizer, messages, text)
        answered = render(tokenizer, messages[: at + 1])
        if not (text.startswith(answered) and answered.startswith(asked)):
            raise StepError(
                "the chat template writes earlier turns anew when more follow, so what is learned cannot be located. "
                "Use a model whose template only appends, or one with {% generation %} marks."
            )
        yield len(asked), len(answered)


def _first_asked(tokenizer: Any, messages: Sequence[Message], text: str) -> str:
    """What comes before an answer that opens the conversation: templates do not render an empty list alike."""
    opening = render(tokenizer, messages[:1], asks=True).removeprefix(render(tokenizer, messages[:1]))
    return text[: text.find(opening) + len(opening)]


def end_ids(tokenizer: Any) -> list[int]:
    """The token ids that end an answer: the tokenizer's end token and what its template puts after an answer."""
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
    learned = [one for one in encode(tokenizer, turn)["labels"] if one != IGNORED]
    last = learned[-1:] if learned and learned[-1] in _special(tokenizer) else []
    return list(dict.fromkeys([*last, tokenizer.eos_token_id]))


def pieces(tokenizer: Any, example: Example) -> list[tuple[str, bool]]:
    """An example as text, cut where it changes between learned (True) and not."""
    runs: list[tuple[list[int], bool]] = []
    for one, label in zip(example["input_ids"], example["labels"], strict=True):
        learned = label != IGNORED
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(one)
    return [(tokenizer.decode(ids, clean_up_tokenization_spaces=False), learned) for ids, learned in runs]


# What fits


def fit(tokenizer: Any, messages: Sequence[Message], room: int) -> list[Message]:
    """The conversation without as many of its oldest turns as it takes for the prompt to fit into `room` tokens.

    System messages and the last message stay, so the result may still be too long where these alone are.
    """
    head, turns = _head(messages)
    while len(turns) > 1 and len(prompt_ids(tokenizer, [*head, *turns])) > room:
        turns = turns[1:]
        while len(turns) > 1 and turns[0]["role"] == "assistant":
            turns = turns[1:]
    return [*head, *turns]


def shorten(
    tokenizer: Any, messages: Sequence[Message], length: int, too_long: str
) -> tuple[list[list[Message]], list[str]]:
    """The examples of at most `length` tokens that a conversation makes, and the reasons why parts of it were left out.

    too_long: `split` cuts it between exchanges into several, each with the system message in front, and leaves out an
    exchange that is too long by itself; `drop` leaves the whole out; `cut` keeps the end: oldest exchanges go first,
    then the start of the last question, and never a part of the last answer.
    """
    if _length(tokenizer, messages) <= length:
        return [list(messages)], []
    if too_long == "drop":
        return [], [f"longer than {length} tokens"]
    return _cut(tokenizer, messages, length) if too_long == "cut" else split_long(tokenizer, messages, length)


def split_long(tokenizer: Any, messages: Sequence[Message], length: int) -> tuple[list[list[Message]], list[str]]:
    """As many exchanges at a time as fit, each time after the system message; no turn is lost but those reported."""
    head, turns = _head(messages)
    made: list[list[Message]] = []
    lost: list[str] = []
    held: list[Message] = []
    for exchange in _exchanges(turns):
        if _length(tokenizer, [*head, *held, *exchange]) <= length:
            held = [*held, *exchange]
            continue
        made.append([*head, *held])
        held = exchange if _length(tokenizer, [*head, *exchange]) <= length else []
        lost += [] if held else [f"one exchange is longer than {length} tokens"]
    made.append([*head, *held])
    return [example for example in made if any(message["role"] == "assistant" for message in example)], lost


def _cut(tokenizer: Any, messages: Sequence[Message], length: int) -> tuple[list[list[Message]], list[str]]:
    head, turns = _head(messages)
    exchanges = list(_exchanges(turns))
    while len(exchanges) > 1 and _length(tokenizer, [*head, *chain(*exchanges)]) > length:
        exchanges = exchanges[1:]
    kept = [*head, *chain(*exchanges)]
    over = _length(tokenizer, kept) - length
    question = next((at for at, message in enumerate(kept) if message["role"] == "user"), None)
    while over > 0 and question is not None and kept[question]["content"]:
        ids = tokenizer(kept[question]["content"], add_special_tokens=False, return_offsets_mapping=True)
        starts = [first for first, _ in ids["offset_mapping"]]
        content = kept[question]["content"][starts[over] :] if over < len(starts) else ""
        kept[question] = {**kept[question], "content": content}
        over = _length(tokenizer, kept) - length
    return ([kept], []) if over <= 0 else ([], [f"the answer alone is longer than {length} tokens"])


def _length(tokenizer: Any, messages: Sequence[Message]) -> int:
    return len(tokenizer(render(tokenizer, messages), add_special_tokens=False).input_ids)


def _head(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    count = next((at for at, message in enumerate(messages) if message["role"] != "system"), len(messages))
    return list(messages[:count]), list(messages[count:])


def _exchanges(turns: Sequence[Message]) -> Iterator[list[Message]]:
    """Turns in groups that begin where the user speaks after the assistant."""
    held: list[Message] = []
    for turn in turns:
        if held and turn["role"] == "user" and held[-1]["role"] == "assistant":
            yield held
            held = []
        held.append(turn)
    if held:
        yield held
