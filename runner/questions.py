"""A question as an endpoint is sent it, and the digest that its answer is kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from runner.asking import Ask
from runner.errors import StepError
from runner.files import digest
from runner.step import Decoding, Model

CHARACTERS = 4  # about so many are a token
LOCAL = 1  # raise it where weights that are loaded here begin to answer otherwise
PARAMETERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop")


def parameters(decoding: Decoding) -> dict[str, Any]:
    """A decoding in the words of the chat completions API. Raises StepError for what an endpoint cannot be asked."""
    if decoding.mode not in ("greedy", "sample"):
        raise StepError(f"decoding.{decoding.name}: mode {decoding.mode} needs the weights, not an endpoint.")
    held = {**({"temperature": 0} if decoding.mode == "greedy" else {}), **decoding.params}
    if held.get("no_repeat_ngram"):
        raise StepError(f"decoding.{decoding.name}: an endpoint cannot be asked for no_repeat_ngram. Leave it out.")
    if (held.get("best_of") or 1) > 1:
        raise StepError(f"decoding.{decoding.name}: best_of needs the weights, not an endpoint. Leave it out.")
    if held.get("repetition_penalty") == 1.0:
        del held["repetition_penalty"]
    made = {key: _plain(held[key]) for key in PARAMETERS if held.get(key) is not None}
    return made | {"max_tokens": held["max_new_tokens"]}


def _plain(value: Any) -> Any:
    """3.0 as 3, so that both are the same question."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def body(model: Model, how: dict[str, Any], ask: Ask, seed: int | None) -> dict[str, Any]:
    """The request for one answer, but for how it is held to a schema; `how` are the `parameters` of the decoding."""
    made = {"model": model.entry["model"], "messages": list(ask.messages), **how}
    if seed is not None:
        made["seed"] = seed_of(seed, ask) >> 33  # some servers take 31 bits
    if ask.messages[-1]["role"] == "assistant":
        made |= {"continue_final_message": True, "add_generation_prompt": False}
    return made


def seed_of(seed: int, ask: Ask) -> int:
    """The seed of one answer, 63 bits: by the step's seed, what is asked, and which sample it is."""
    said = json.dumps([seed, ask.sample, list(ask.messages)])
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big") >> 1


def endpoints(model: Model) -> list[str]:
    """The base URLs of an entry."""
    held = model.entry["endpoint"]
    return [url.rstrip("/") for url in ([held] if isinstance(held, str) else held)]


def asked(model: Model) -> list[str]:
    """The names that answers of this model are kept under: one for each base URL, in an order of their own."""
    return [f"{url} {model.entry['model']}" for url in sorted(endpoints(model))]


def keys(model: Model, request: dict[str, Any], ask: Ask) -> list[str]:
    """The digests of the whole question, one for each name of `asked`; no API key is in them."""
    whole = hashlib.sha256(json.dumps([request, ask.schema, ask.sample], sort_keys=True).encode())
    made = []
    for name in asked(model):
        one = whole.copy()
        one.update(name.encode())
        made.append(one.hexdigest()[:40])
    return made


def identity(model: Model) -> Any:
    """What makes the answers of loaded weights what they are: where they were made, or what a folder holds."""
    if model.folder and model.base and model.files:  # an adapter from elsewhere
        return [identity(model.base), model.files]
    if model.folder:
        return [model.folder.parent.name, model.folder.name]  # store/<key>/<checkpoint>: the key is of the content
    entry = {
        key: value for key, value in model.entry.items() if key != "device_map"
    }  # the same weights, wherever they lie
    return [entry, model.files]


def local_key(model: Model, decoding: Decoding, ask: Ask, seed: int) -> str:
    """The digest that an answer of loaded weights is kept under."""
    others = {name: [identity(one) for one in held] for name, held in decoding.models.items()}
    prompts = {name: [list(prompt.turns), prompt.includes] for name, prompt in decoding.prompts.items()}
    how = [decoding.mode, decoding.params, others, prompts, ask.variables if prompts else {}]
    whole = [LOCAL, identity(model), how, list(ask.messages), ask.schema, ask.sample]
    return digest([*whole, seed if decoding.mode != "greedy" else 0])[:40]


def size(messages: Sequence[dict[str, str]]) -> int:
    """About how many tokens messages are."""
    return sum(len(message["content"]) // CHARACTERS + 4 for message in messages) + 2
