"""`mode: dexperts`: a base steered by experts at every token (Liu et al. 2021, DExperts; Li et al. 2024, BIG5-CHAT).

With b, e and a the scores (logits) of base, expert and anti-expert for the next token, and f(b) the base's after
`filter_p` (the tokens that its likeliest ones, together of probability filter_p, leave over are impossible):

    both            z = f(b) + alpha·(e - a)
    expert only     z = f(b) + alpha·(e - b)        missing: base, as DExperts; alpha 1 is the expert alone
                    z = f(b) + alpha·e              missing: nothing, as BIG5-CHAT: p ∝ p_base · p_expert^alpha
    anti only       z = f(b) + alpha·(b - a)        missing: base
                    z = f(b) - alpha·a              missing: nothing
    several         z = f(b) + Σ of these, each with its own alpha

b stands for the unfiltered scores wherever it is not in f, so no infinity is ever subtracted from another. The first
`start_after` tokens of an answer are the base's own, z = b. Penalties and sampling settings work on z; without
temperature, top_p, top_k and min_p the most likely token is taken. An expert sees its own prompt (else the base's
conversation in its own template), with what the answer is made to begin with, and then the same answer as the base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner import chat, prompts
from runner.chat import Message
from runner.decoding._best import drawn
from runner.decoding._generate import Batch, run
from runner.decoding._processors import Cut, Draw, warpers
from runner.decoding._steer import Steer, Term
from runner.models import Loaded
from runner.step import Decoding, Prompt

SAMPLED = ("temperature", "top_p", "top_k", "min_p")


def generate(
    loaded: Loaded, batch: Batch, decoding: Decoding, streamer: Any = None, cancelled: Any = None
) -> list[list[int]]:
    """The new token ids of each row."""
    params = decoding.params

    def once(rows: Batch, draw: Draw | None, stream: Any) -> list[list[int]]:
        steer = Steer(
            loaded, rows.prompts, list(terms(loaded, rows, decoding)), params["start_after"], params.get("filter_p")
        )
        choose = [Cut(steer.impossible), *(warpers(params) if draw else ()), *((draw,) if draw else ())]
        return run(loaded, rows, params, choose, stream, cancelled, steer)

    if any(params.get(key) is not None for key in SAMPLED) or (params.get("best_of") or 1) > 1:
        return drawn(loaded, batch, params, once, streamer)
    return once(batch, None, streamer)


def terms(loaded: Loaded, batch: Batch, decoding: Decoding) -> Iterator[Term]:
    """What is added to the base's scores."""
    params = decoding.params
    for path, alpha in alphas(decoding).items():
        for role, sign in (("expert", 1), ("anti_expert", -1)):
            key = f"{path}{role}"
            if alpha and key in loaded.others:
                [other] = loaded.others[key]
                yield Term(other, _asked(other, batch, decoding.prompts.get(f"{key}_prompt")), sign * alpha)
            elif alpha and params["missing"] == "base":
                yield Term(loaded, batch.prompts, sign * alpha)


def alphas(decoding: Decoding) -> dict[str, float]:
    """How strongly each expert steers, by what the keys of its models begin with: '' or 'experts.<name>.'."""
    params = decoding.params
    single = {"": params["alpha"]} if params.get("expert") or params.get("anti_expert") else {}
    named = (params.get("experts") or {}).items()
    return single | {f"experts.{name}.": held.get("alpha", params["alpha"]) for name, held in named}


def _asked(other: Loaded, batch: Batch, prompt: Prompt | None) -> list[list[int]]:
    """What another model is asked in each row, as token ids."""
    if prompt is None:
        return [chat.prompt_ids(other.tokenizer, messages) for messages in batch.conversations]
    rows = zip(batch.conversations, batch.variables, strict=True)
    return [chat.prompt_ids(other.tokenizer, _told(prompt, variables, messages)) for messages, variables in rows]


def _told(prompt: Prompt, variables: dict[str, Any], messages: Any) -> list[Message]:
    """An expert's prompt for one row; the answer begins as its own `prefill` says, else as the base's does."""
    texts = variables.get("texts") or {}
    asks = {role: text for role, text in prompt.turns[0].items() if role in ("system", "user")}
    told = prompts.messages(replace(prompt, turns=(asks,)), variables, texts)
    begun = prompt.turns[0].get("prefill")
    if begun:
        text = prompts.render(begun, {**variables, "texts": texts}, prompt.includes)
        return [*told, {"role": "assistant", "content": text}]
    return told + [one for one in messages[-1:] if one["role"] == "assistant"]
