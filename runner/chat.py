"""Messages and tokens: what training learns of a conversation, what a model is asked, and what fits.

The trained tokens are found by position in the rendered text, never by token id: the token that ends an answer is
learned even where the pad token is the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

from runner.errors import StepError
from runner.rendering import (
    GENERATION,
    IGNORED,
    PLAIN,
    ROLES,
    Example,
    Message,
    begins,
    complete,
    conversation,
    defused,
    prompt_ids,
    render,
    said,
)

__all__ = [
    "IGNORED",
    "PLAIN",
    "ROLES",
    "Example",
    "Message",
    "begins",
    "complete",
    "conversation",
    "cut_at",
    "encode",
    "end_ids",
    "fit",
    "pieces",
    "prompt_ids",
    "render",
    "shorten",
    "split_long",
]


def encode(tokenizer: Any, messages: Sequence[Message], learn: str = "assistant", prefill: str = "") -> Example:
    """{"input_ids", "labels"}: labels are the ids that are learned, else IGNORED.

    learn:   `assistant`, where the assistant speaks, end tokens included; `completion`, its last answer alone; `all`
    prefill: what the last answer begins with and is not learned, whatever `learn` says
    The template's own `{% generation %}` marks are used where it has them; else the answers are located by rendering
    the conversation up to each. Raises StepError where the template writes earlier turns anew as more follow.
    """
    text = render(tokenizer, messages)
    answers = list(_located(tokenizer, messages, text, learn)) if learn != "all" or prefill else []
    given = _given(tokenizer, messages, text, answers, prefill)
    tokens = cut_at(tokenizer, text, [start for start, _ in answers] + [end for _, end in given])
    special = _special(tokenizer)
    labels = [one for one, _, _ in tokens] if learn == "all" else [IGNORED] * len(tokens)
    for start, end in answers if learn != "all" else ():
        inside = [at for at, (_, first, last) in enumerate(tokens) if start <= first < end and last > first]
        ends = [at for at in inside if tokens[at][0] in special]
        for at in inside:
            if not ends or at <= ends[-1]:
                labels[at] = tokens[at][0]
    for start, end in given:
        for at, (_, first, _) in enumerate(tokens):
            labels[at] = IGNORED if start <= first < end else labels[at]
    return {"input_ids": [one for one, _, _ in tokens], "labels": labels}


def cut_at(tokenizer: Any, text: str, places: Sequence[int]) -> list[tuple[int, int, int]]:
    """The tokens of a text as (id, first letter, letter after the last), none of them across one of these places.

    What a model is asked ends at such a place: a token across it would be learned and never asked for.
    """
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = [(one, first, last) for one, (first, last) in zip(made["input_ids"], made["offset_mapping"], strict=True)]
    ends = {last for _, _, last in tokens}
    across = sorted({place for place in places if 0 < place < len(text)} - ends)
    if not across:
        return tokens
    pieces = []
    for start, end in pairwise([0, *across, len(text)]):
        piece = tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True)
        offsets = zip(piece["input_ids"], piece["offset_mapping"], strict=True)
        pieces += [(one, start + first, start + last) for one, (first, last) in offsets]
    return pieces


def _given(
    tokenizer: Any, messages: Sequence[Message], text: str, answers: Sequence[tuple[int, int]], prefill: str
) -> list[tuple[int, int]]:
    """Where the prefill stands in the text; a space that ends it belongs to the word after it, which is learned."""
    if not prefill.strip():
        return []
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].startswith(prefill):
        raise StepError(f"an answer does not begin with its prefill {prefill[:40]!r}. Make both in the same step.")
    start, end = answers[-1]
    begun = defused(tokenizer, prefill.strip())
    at = text.find(begun, start, end)
    if at < 0:
        raise StepError(f"the chat template changes what an answer begins with ({prefill[:40]!r}). Use another one.")
    return [(start, at + len(begun))]


def _special(tokenizer: Any) -> set[int]:
    return {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}


def _located(tokenizer: Any, messages: Sequence[Message], text: str, learn: str) -> Iterator[tuple[int, int]]:
    """Where the answers stand in the text, in letters; the last one alone unless all of them are learned."""
    speaks = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    wanted = speaks if learn == "assistant" else speaks[-1:]
    if wanted and GENERATION.search(tokenizer.chat_template):
        marked = list(_marked(tokenizer, messages, text))
        yield from marked if learn == "assistant" else marked[-1:]
        return
    for at in wanted:
        asked = render(tokenizer, messages[:at], asks=True) if at else _first_asked(tokenizer, messages, text)
        answered = render(tokenizer, messages[: at + 1])
        if not text.startswith(answered):  # a template may end the last answer alone
            before, _, after = answered.rpartition(tokenizer.eos_token)
            answered = before + after
        if not (text.startswith(answered) and answered.startswith(asked)):
            raise StepError(
                "the chat template writes earlier turns anew when more follow, so what is learned cannot be located. "
                "Use a model whose template only appends, or one with {% generation %} marks."
            )
        yield len(asked), len(answered)


def _marked(tokenizer: Any, messages: Sequence[Message], text: str) -> Iterator[tuple[int, int]]:
    """By the template's own marks; the end token right after a marked answer counts as part of it."""
    made = tokenizer.apply_chat_template(
        said(tokenizer, messages),
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    mask, offsets = [0, *made["assistant_masks"], 0], made["offset_mapping"]
    starts = [at for at, (before, here) in enumerate(pairwise(mask)) if here and not before]
    ends = [at for at, (before, here) in enumerate(pairwise(mask)) if before and not here]
    for first, after in zip(starts, ends, strict=True):
        end = offsets[after - 1][1]
        yield offsets[first][0], end + len(tokenizer.eos_token) * text.startswith(tokenizer.eos_token, end)


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
