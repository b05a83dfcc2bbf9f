"""Other models' scores in one model's decoding.

Models on the base's own weights go through its network as further blocks of rows, in the same pass and the same cache;
others (`Companion`) keep a cache of their own and take one token a step. Either way a model sees its own prompt and then
the answer's tokens so far.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

from runner.decoding._adapters import acting, share
from runner.decoding._processors import TopP
from runner.models import Loaded, Weights

Prompts = Sequence[list[int]]


@dataclass(frozen=True)
class Term:
    """One model in the sum: how much of its scores is added, and what it is asked, a prompt for each row."""

    loaded: Loaded
    prompts: Prompts
    weight: float

    def same(self, other: Term) -> bool:
        mine, theirs = self.loaded, other.loaded
        alike = mine.weights is theirs.weights and mine.adapter == theirs.adapter
        return alike and list(self.prompts) == list(other.prompts)


def padded(prompts: Prompts, pad: int, on: torch.device) -> tuple[Any, Any]:
    """Token ids and mask (rows, width), padded on the left."""
    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[pad] * (width - len(one)) + one for one in prompts], device=on)
    return ids, torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=on)


class Steer:
    """The scores of the base and of all terms, summed; without terms, the base's.

    terms: what is added to the base's own scores; after: from which new token on; filter_p: see `impossible`.
    """

    def __init__(
        self, base: Loaded, prompts: Prompts, terms: Sequence[Term] = (), after: int = 0, filter_p: float | None = None
    ) -> None:
        own, others = _gathered(Term(base, prompts, 1.0), terms)
        first, *rest = _passes([own, *others])
        self.adapters = [term.loaded.adapter for term in first]
        self.prompts = [ids for term in first for ids in term.prompts]
        self.copies, self.own, self.rows = len(first), first.index(own), len(prompts)
        self.weights = torch.tensor([term.weight for term in first], device=base.weights.device)
        self.elsewhere = [Companion(held, base.tokenizer.pad_token_id) for held in rest]
        self.after, self.top = after, TopP(filter_p) if filter_p and filter_p < 1 else None
        self.cut: Any = None
        self.width = 0

    @property
    def room(self) -> int:
        """How many new tokens fit into what the other models can read."""
        return min((one.room for one in self.elsewhere), default=2**31)

    @property
    def is_plain(self) -> bool:
        return self.copies == 1 and not self.elsewhere and self.top is None

    def open(self, until: ExitStack, width: int) -> None:
        """Ready the other networks, until the stack closes; width: the tokens of the padded prompts."""
        self.width = width
        for one in self.elsewhere:
            one.open(until)

    def around(self, inner: LogitsProcessorList) -> LogitsProcessor:
        """A processor for all blocks, which all get the choice that `inner` makes of the summed scores."""
        return Together(self, inner)

    def __call__(self, scores: Any, new: Any) -> Any:
        """Summed scores (rows, vocabulary) from those of the blocks (blocks, rows, vocabulary); new: tokens so far."""
        base = scores[self.own]
        self.cut = None
        if new.shape[1] < self.after:
            return base
        if self.top:
            self.cut = self.top.cut(base)
        made = torch.tensordot(self.weights, scores, dims=1)
        for one in self.elsewhere:
            theirs = one(new).to(made.device)
            both = min(made.shape[-1], theirs.shape[-1])
            made[:, :both] += theirs[:, :both]
            made[:, both:] = -torch.inf  # rows of padding that one of the models has beyond its tokens
        return made

    def impossible(self) -> Any:
        """Which tokens (rows, vocabulary) the base's own scores rule out: all but its likeliest that make up filter_p."""
        return self.cut


def _gathered(own: Term, terms: Sequence[Term]) -> tuple[Term, list[Term]]:
    """The base and the terms, each model with the same prompts once, and none that adds nothing."""
    made = [own]
    for term in terms:
        at = next((at for at, one in enumerate(made) if one.same(term)), None)
        if at is None:
            made.append(term)
        else:
            made[at] = replace(made[at], weight=made[at].weight + term.weight)
    return made[0], [term for term in made[1:] if term.weight]


class Together(LogitsProcessor):
    """Sums the blocks' scores, has the next token chosen from that, and gives the choice to every block."""

    def __init__(self, steer: Steer, inner: LogitsProcessorList) -> None:
        self.steer, self.inner = steer, inner

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        steer = self.steer
        if steer.is_plain:
            return self.inner(input_ids, scores)
        own = input_ids[steer.own * steer.rows :][: steer.rows]
        summed = steer(scores.view(steer.copies, steer.rows, -1), own[:, steer.width :])
        return self.inner(own, summed).repeat(steer.copies, 1)


def _passes(terms: Sequence[Term]) -> list[list[Term]]:
    """Terms that share a forward pass, those without an adapter first; the first term is in the first pass."""
    by_pass: dict[Any, list[Term]] = {}
    for term in terms:
        weights = term.loaded.weights
        adapters = {one.loaded.adapter for one in terms if one.loaded.weights is weights and one.loaded.adapter}
        key = (id(weights), None if share(weights, adapters) else term.loaded.adapter)
        by_pass.setdefault(key, []).append(term)
    return [sorted(held, key=lambda term: term.loaded.adapter is not None) for held in by_pass.values()]


class Companion:
    """Terms that cannot go through the base's pass: one forward pass a step for all of them, with a cache of its own."""

    def __init__(self, terms: Sequence[Term], pad: int) -> None:
        self.shared: Weights = terms[0].loaded.weights
        self.adapters = [term.loaded.adapter for term in terms]
        on = self.shared.device
        self.weights = torch.tensor([term.weight for term in terms], device=on)
        self.ids, self.mask = padded([ids for term in terms for ids in term.prompts], pad, on)
        self.room = min(term.loaded.context for term in terms) - self.ids.shape[1]
        self.rows = len(terms[0].prompts)

    def open(self, until: ExitStack) -> None:
        """Ready for the first step. The adapters of several terms are put on once: no other pass uses their weights."""
        if len(set(self.adapters)) > 1:
            until.enter_context(acting(self.shared, self.adapters, self.rows))
        network = self.shared.network
        plain = network.get_base_model() if isinstance(network, PeftModel) else network
        known = inspect.signature(plain.forward).parameters
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.cache, self.positions = DynamicCache(config=plain.config), "position_ids" in known

    def __call__(self, new: Any) -> Any:
        """What the terms add (rows, vocabulary) after the new tokens (rows, new tokens) of each row."""
        if len(set(self.adapters)) > 1:
            return self._next(self.shared.network, new)
        with self.shared.worn(self.adapters[0]) as network:
            return self._next(network, new)

    def _next(self, network: Any, new: Any) -> Any:
        held = self.cache.get_seq_length()
        ids = torch.cat([self.ids, new.to(self.ids.device).repeat(len(self.adapters), 1)], 1)
        mask = torch.cat([self.mask, self.mask.new_ones(len(ids), new.shape[1])], 1)
        given = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, held:]} if self.positions else {}
        made = network(
            input_ids=ids[:, held:],
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            **given,
            **self.options,
        )
        scores = made.logits[:, -1].float().view(len(self.adapters), self.rows, -1)
        return torch.tensordot(self.weights, scores, dims=1)
