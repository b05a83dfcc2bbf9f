"""Pairs of a chosen and a rejected answer to one prompt, as token ids, and how they look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from runner import chat
from runner.chat import IGNORED, Message
from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import Out, Step
from runner.steps.train import _lessons

Pair = dict[str, list[int]]
COLUMNS = ("prompt", "chosen", "rejected")
EQUAL = "both answers are the same"
EMPTY = "an answer is empty"


def pairs(step: Step, tokenizer: Any, part: str | None, out: Out | None = None) -> Iterator[Pair]:
    """{"prompt_ids", "chosen_ids", "rejected_ids"} of each row of a part, in TRL's names; the prompt and the longer
    answer have at most `room` tokens together. What is left out goes to out.reject.

    Messages are written by the chat template, three texts as they stand (TRL's conversational and standard formats).
    Raises DataError, naming the row, where it is neither.
    """
    length = _lessons.room(step, tokenizer)
    for row in step.rows(part):
        made, lost = _encoded(tokenizer, *_said(row), length, step.params["too_long"])
        if made:
            yield made
        elif out:
            out.reject(row, lost)


def _said(row: Row) -> tuple[Any, Any, Any]:
    """Three texts; or the prompt's messages and the assistant's two answers to it, as messages."""
    prompt, chosen, rejected = (row.get(name) for name in COLUMNS)
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        return prompt, chosen, rejected
    asked = _messages(row, "prompt", "user")
    liked, other = _messages(row, "chosen", "assistant"), _messages(row, "rejected", "assistant")
    if (
        not liked
        or not other
        or liked[:-1] != other[:-1]
        or any(one[-1]["role"] != "assistant" for one in (liked, other))
    ):
        raise _wrong(row, "chosen and rejected must end in an answer of the assistant, and differ in that alone")
    lead = liked[:-1]  # data sets that repeat the prompt in the answers, with or without it in a column of its own
    asked = lead if isinstance(prompt, str) and lead else asked if lead == asked else [*asked, *lead]
    if not asked:
        raise _wrong(row, "its prompt is empty, and so nothing is answered")
    return asked, liked[-1], other[-1]


def _messages(row: Row, name: str, role: str) -> list[Message]:
    value = row.get(name)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    try:
        return chat.conversation({"messages": value}) if value != [] else []
    except DataError as error:
        raise _wrong(row, f"{name} must be a text or a list of {{role, content}}") from error


def _wrong(row: Row, what: str) -> DataError:
    return DataError(f"{where(row)}: {what}. Mend the row, or drop it before.")


def _encoded(
    tokenizer: Any, prompt: Any, chosen: Any, rejected: Any, length: int, too_long: str
) -> tuple[Pair | None, str]:
    """The pair, or None and the reason why there is none."""
    texts = [one if isinstance(one, str) else one["content"] for one in (chosen, rejected)]
    if not all(text.strip() for text in texts):
        return None, EMPTY
    if chosen == rejected:
        return None, EQUAL
    made: Pair | None = _tokens(tokenizer, prompt, chosen, rejected)
    if made and size(made) > length and too_long == "cut":
        made = _cut(tokenizer, prompt, chosen, rejected, made, length)
    if made is None:
        return None, f"an answer alone is longer than {length} tokens"
    if not all(made.values()):
        return None, EMPTY if made["prompt_ids"] else "the prompt is empty"
    return (made, "") if size(made) <= length else (None, f"longer than {length} tokens")


def size(pair: Pair) -> int:
    """Tokens of the prompt and the longer answer."""
    return len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))


def _cut(tokenizer: Any, prompt: Any, chosen: Any, rejected: Any, made: Pair, length: int) -> Pair | None:
    """With less of the prompt: its oldest exchanges go, then the start of the question; of a text its start."""
    if isinstance(prompt, str):
        head = made["prompt_ids"][:1] if chat.begins(tokenizer) else []
        room = length - (size(made) - len(made["prompt_ids"])) - len(head)
        return {**made, "prompt_ids": [*head, *made["prompt_ids"][-room:]]} if room > 0 else None
    longer = chosen if len(made["chosen_ids"]) > len(made["rejected_ids"]) else rejected
    kept, _ = chat.shorten(tokenizer, [*prompt, longer], length, "cut")
    return _tokens(tokenizer, kept[0][:-1], chosen, rejected) if kept else None


def _tokens(tokenizer: Any, prompt: Any, chosen: Any, rejected: Any) -> Pair:
    """What is asked, and the two answers with the token that ends each; nothing of what a template writes after it."""
    one, other = (_answered(tokenizer, prompt, answer) for answer in (chosen, rejected))
    same = next((at for at, (here, there) in enumerate(zip(one[0], other[0], strict=False)) if here != there), None)
    start = min(one[1], other[1], one[1] if same is None else same)
    return {"prompt_ids": one[0][:start], "chosen_ids": one[0][start:], "rejected_ids": other[0][start:]}


def _answered(tokenizer: Any, prompt: Any, answer: Any) -> tuple[list[int], int]:
    """The tokens up to the end of the answer, and how many of them are the prompt's."""
    if isinstance(prompt, str):
        head = [tokenizer.bos_token_id] if chat.begins(tokenizer) else []
        tokens = chat.cut_at(tokenizer, prompt + answer.removesuffix(tokenizer.eos_token), [len(prompt)])
        asked = len(head) + sum(first < len(prompt) for _, first, _ in tokens)
        return [*head, *(one for one, _, _ in tokens), tokenizer.eos_token_id], asked
    made = chat.encode(tokenizer, [*prompt, answer], "completion")
    learned = [at for at, label in enumerate(made["labels"]) if label != IGNORED]
    return (
        (made["input_ids"][: learned[-1] + 1], learned[0]) if learned else (made["input_ids"], len(made["input_ids"]))
    )


def show(step: Step, limit: int) -> dict[str, Any]:
    """As for sft: the first pairs as (text, learned) pieces, the lengths of all, the tokens learned and in all."""
    tokenizer = _lessons.load_tokenizer(step)
    part = _lessons.parts(step)["train"]
    samples = [_pieces(tokenizer, pair) for pair in islice(pairs(step, tokenizer, part), limit)]
    lengths, answers = [], 0
    for pair in pairs(step, tokenizer, part):
        lengths.append(sum(map(len, pair.values())))
        answers += lengths[-1] - len(pair["prompt_ids"])
    if not lengths:
        raise StepError(f"{step.name}: there is no pair to learn from. Raise max_length, or look at its rows.")
    return {"samples": samples, "lengths": lengths, "trained_tokens": answers, "tokens": sum(lengths)}


def _pieces(tokenizer: Any, pair: Pair) -> list[tuple[str, bool]]:
    asked, chosen, rejected = (
        tokenizer.decode(pair[f"{name}_ids"], clean_up_tokenization_spaces=False) for name in COLUMNS
    )
    return [(asked, False), (chosen, True), ("\n--- and not\n", False), (rejected, True)]
