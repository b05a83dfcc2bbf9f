"""How models answer; rows, terminal and page share it. A mode is a module with
`generate(loaded, batch, decoding, streamer, cancelled)`.

A mode hands `run` the processors that turn logits into a choice, the most likely token of what the last one gives being
taken. Sampling is such a processor too (`Draw`), with a generator of its own for each row: an answer depends on its
seed and its prompt, not on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch

from runner import chat
from runner.chat import Message
from runner.decoding._generate import Batch
from runner.errors import StepError
from runner.models import Loaded, device, free_memory
from runner.step import Decoding

TOGETHER = {"cpu": 16, "cuda": 128}  # more at a time is hardly faster, and all wait for the longest answer
UNFINISHED = "\ufffd"


def together(loaded: Loaded, decoding: Decoding, length: int) -> int:
    """How many rows of so many tokens, prompt and answer, are best answered at once: their caches fit into half of the
    memory that is free."""
    everyone = [loaded, *(other for held in loaded.others.values() for other in held)]
    tokens = length * (decoding.params.get("best_of") or decoding.params.get("beams") or 1)
    needed = tokens * sum(_cache_of_a_token(one.weights.network) for one in everyone)
    return max(1, min(TOGETHER[device()], int(free_memory() / 2 / needed)))


def _cache_of_a_token(network: Any) -> int:
    """Bytes of keys and values that a network keeps for one token, at most."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * network.dtype.itemsize)


def batch_of(loaded: Loaded, conversations: Sequence[Sequence[Message]], seed: int, variables: Any = None) -> Batch:
    """The batch for these conversations. Raises StepError where a prompt leaves no room for an answer."""
    prompts = [chat.prompt_ids(loaded.tokenizer, messages) for messages in conversations]
    longest = max(len(ids) for ids in prompts)
    if longest >= loaded.context:
        raise StepError(
            f"{loaded.name}: a prompt of {longest} tokens leaves no room in its context of {loaded.context}."
        )
    seen: Counter[tuple[int, ...]] = Counter()
    seeds = []
    for ids in prompts:
        # The same prompt a second time gets another seed: two samples of it are not the same answer
        text = f"{seed} {seen[tuple(ids)]} {ids}"
        seeds.append(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)
        seen[tuple(ids)] += 1
    return Batch(conversations, prompts, seeds, variables or [{}] * len(prompts))


def answers(
    loaded: Loaded,
    conversations: Sequence[Sequence[Message]],
    decoding: Decoding,
    seed: int,
    variables: Sequence[dict[str, Any]] | None = None,
    advance: Callable[..., None] = lambda amount=1, note="": None,
) -> list[str]:
    """The answer to each conversation, in order, without the turn's end, stop strings and blank edges."""
    if not conversations:
        return []
    batch = batch_of(loaded, conversations, seed, variables)
    order = sorted(range(len(batch.prompts)), key=lambda at: -len(batch.prompts[at]))
    made = [""] * len(order)
    while order:
        length = len(batch.prompts[order[0]]) + decoding.params["max_new_tokens"]
        size = together(loaded, decoding, min(length, loaded.context))
        rows, order = order[:size], order[size:]
        for at, ids in zip(rows, _mode(decoding).generate(loaded, batch.rows(rows), decoding), strict=True):
            made[at] = text_of(loaded, ids, decoding.params.get("stop"))
        advance(len(rows))
    return made


@dataclass(frozen=True)
class Ended:
    """How an answer came to its end: tokens read and made, its end token not counted; finish is stop or length."""

    input: int
    output: int
    finish: str


def stream(
    loaded: Loaded, messages: Sequence[Message], decoding: Decoding, seed: int, variables: dict[str, Any] | None = None
) -> Generator[str, None, Ended]:
    """The answer as it is made: pieces that together are what `answers` gives. Closing the iterator stops the work."""
    batch = batch_of(loaded, [messages], seed, [variables or {}])
    tokens, cancelled, stops = _Tokens(), Event(), decoding.params.get("stop") or []
    ids: list[int] = []
    sent = ""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(lambda: _mode(decoding).generate(loaded, batch, decoding, tokens, cancelled)[0])
        made.add_done_callback(lambda future: tokens.queue.put(None))
        try:
            while (one := tokens.queue.get()) is not None:
                ids.append(one)
                ready = _ready(_decode(loaded, ids).lstrip(), stops)
                if len(ready) > len(sent):
                    yield ready[len(sent) :]
                    sent = ready
        finally:
            cancelled.set()
    rest = text_of(loaded, made.result(), stops)[len(sent) :]
    if rest:
        yield rest
    return _ended(loaded, batch.prompts[0], made.result(), decoding)


def _ended(loaded: Loaded, prompt: list[int], ids: list[int], decoding: Decoding) -> Ended:
    most = min(decoding.params["max_new_tokens"], loaded.context - len(prompt))
    stopped = any(stop in _decode(loaded, ids) for stop in decoding.params.get("stop") or ())
    return Ended(len(prompt), len(ids), "length" if len(ids) >= most and not stopped else "stop")


def _mode(decoding: Decoding) -> Any:
    return import_module(f"runner.decoding.{decoding.mode}")


def text_of(loaded: Loaded, ids: Sequence[int], stops: Sequence[str] | None) -> str:
    """An answer's text, cut before the first stop string."""
    text = _decode(loaded, ids)
    ends = [text.find(stop) for stop in stops or () if stop in text]
    return text[: min(ends)].strip() if ends else text.strip()


def _decode(loaded: Loaded, ids: Sequence[int]) -> str:
    text: str = loaded.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _ready(text: str, stops: Sequence[str]) -> str:
    """As much of a growing text as will not change: no half letter, no blank at the end, no beginning of a stop."""
    ends = [text.find(stop) for stop in stops if stop in text]
    text = (text[: min(ends)] if ends else text).rstrip(UNFINISHED).rstrip()
    held = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return text[: len(text) - held].rstrip()


class _Tokens:
    """What transformers calls a streamer: puts the token ids of one row into a queue; the prompt comes first."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[int | None] = SimpleQueue()
        self._begun = False

    def put(self, value: torch.Tensor) -> None:
        if self._begun:
            self.queue.put(int(value.reshape(-1)[0]))
        self._begun = True

    def end(self) -> None:
        """Nothing: `stream` ends the queue itself, errors included."""
