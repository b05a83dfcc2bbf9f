"""What a training step learns from: its rows as token ids and labels, and how they look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from runner import chat, models, tags, vocabulary
from runner.chat import IGNORED, Example, Message
from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.places import nothing
from runner.step import Out, Step

Made = tuple[list[Example], list[str]]  # examples, and why parts of a row make none
SILENT = "no answer to learn"


def parts(step: Step) -> dict[str, str | None]:
    """Role → part: a whole split gives train and validation (never test), plain rows are all for training."""
    found = step.parts()
    if not found:
        return {"train": None}
    if "train" not in found:
        raise StepError(f"{step.name}.from: there are no training rows in it (it has: {', '.join(found)}).")
    return {part: part for part in ("train", "validation") if part in found}


def load_tokenizer(step: Step, out: Out | None = None) -> Any:
    """The model's tokenizer with what the step adds to it: `template:` and `special_tokens:`; no weights are read."""
    made = models.load_tokenizer(step.models["model"][0], step.artifacts, out.log if out else nothing)
    if "template" in step.params:
        made.chat_template = tags.jinja(step.params["template"], chat.begins(made))
    vocabulary.add(made, None, step.params.get("special_tokens", ()))
    return made


def room(step: Step, tokenizer: Any) -> int:
    """The most tokens of an example: `max_length`, or what the model can read where that is less."""
    return min(int(step.params["max_length"]), models.context(step.models["model"][0], step.artifacts, tokenizer))


def examples(step: Step, tokenizer: Any, part: str | None, out: Out | None = None) -> Iterator[Example]:
    """What training sees of a part, each example at most `room` long; what is left out goes to out.reject.

    A row has `messages`, with a `prefill` where its last answer begins with words that are not learned; or `prompt` and
    `completion`, both messages or both texts; or `text` alone. Raises DataError, naming the row, for anything else.
    """
    length = room(step, tokenizer)
    for row in step.rows(part):
        try:
            made, lost = _encoded(step, tokenizer, row, length)
        except StepError as error:
            raise StepError(f"{step.name}: {error}") from error
        for example in made:
            if any(label != IGNORED for label in example["labels"][1:]):  # nothing comes before the first token
                yield example
            else:
                lost.append(SILENT)
        if out:
            for reason in lost:
                out.reject(row, reason)


def _encoded(step: Step, tokenizer: Any, row: Row, length: int) -> Made:
    too_long, learn = step.params["too_long"], step.params.get("loss")
    if "messages" in row:
        prefill = row.get("prefill") or ""
        return _talk(tokenizer, chat.conversation(row), prefill, length, too_long, learn or "assistant")
    pair = "completion" in row
    prompt, answer = (row.get("prompt"), row["completion"]) if pair else ("", row.get("text"))
    if isinstance(prompt, list) and isinstance(answer, list):
        talk, prefill = _joined(row, prompt, answer)
        return _talk(tokenizer, talk, prefill, length, too_long, learn or "completion")
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise DataError(
            f"{where(row)}: needs messages, or prompt and completion (both messages or both texts), or text."
        )
    if learn == "assistant" or (learn == "completion" and not pair):
        raise StepError("loss: rows of plain text have no turns. Leave loss out, or say all.")
    return _plain(tokenizer, prompt, answer, length, too_long, learn == "all")


def _joined(row: Row, prompt: list[Any], answer: list[Any]) -> tuple[list[Message], str]:
    """One conversation of both, and its prefill: the answer that the prompt begins, as TRL's data sets have it."""
    asked = chat.conversation({**row, "messages": prompt}) if prompt else []
    said = chat.conversation({**row, "messages": answer})
    if not asked or asked[-1]["role"] != "assistant" or said[0]["role"] != "assistant":
        return [*asked, *said], ""
    begun = asked[-1]["content"]
    return [*asked[:-1], {"role": "assistant", "content": begun + said[0]["content"]}, *said[1:]], begun


def _talk(tokenizer: Any, talk: list[Message], prefill: str, length: int, too_long: str, learn: str) -> Made:
    """Of a long talk whose last answer alone is learned there is one example: it is cut, not split."""
    if learn == "completion" and too_long == "split":
        too_long = "cut"
    kept, lost = chat.shorten(tokenizer, talk, length, too_long)
    return [chat.encode(tokenizer, one, learn, prefill if one[-1] is talk[-1] else "") for one in kept], lost


def _plain(tokenizer: Any, prompt: str, answer: str, length: int, too_long: str, whole: bool) -> Made:
    """Text as it stands, with the end token after it: the answer is learned, the prompt only where the `whole` is."""
    head = [tokenizer.bos_token_id] if chat.begins(tokenizer) else []
    tokens = chat.cut_at(tokenizer, prompt + answer, [len(prompt)])
    asked = [one for one, first, _ in tokens if first < len(prompt)]
    said = [*[one for one, first, _ in tokens if first >= len(prompt)], tokenizer.eos_token_id]
    over = len(head) + len(asked) + len(said) - length
    if over > 0 and (too_long == "drop" or (asked and over > len(asked)) or (not asked and too_long == "cut")):
        return [], [f"longer than {length} tokens"]
    if over > 0 and not asked:
        size = length - len(head)
        return [_labelled(head, [], said[at : at + size], whole) for at in range(0, len(said), size)], []
    return [_labelled(head, asked[max(0, over) :], said, whole)], []


def _labelled(head: list[int], asked: list[int], said: list[int], whole: bool) -> Example:
    ids = [*head, *asked, *said]
    unlearned = 0 if whole else len(head) + len(asked)
    return {"input_ids": ids, "labels": [IGNORED] * unlearned + ids[unlearned:]}


def show(step: Step, limit: int) -> dict[str, Any]:
    """The first examples as (text, learned) pieces, the lengths of all, and the tokens learned and in all.

    Loads the tokenizer and no weights. Raises StepError where no token would be learned.
    """
    tokenizer = load_tokenizer(step)
    part = parts(step)["train"]
    samples = [chat.pieces(tokenizer, example) for example in islice(examples(step, tokenizer, part), limit)]
    lengths, learned = [], 0
    for example in examples(step, tokenizer, part):
        lengths.append(len(example["input_ids"]))
        learned += sum(label != IGNORED for label in example["labels"])
    if not learned:
        raise StepError(f"{step.name}: no token would be learned. Its rows need turns of the assistant.")
    return {"samples": samples, "lengths": lengths, "trained_tokens": learned, "tokens": sum(lengths)}
