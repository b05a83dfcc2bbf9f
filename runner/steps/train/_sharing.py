"""One pass for what a pair's two sequences have in common: the prompt goes through the network once, not twice."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# How far the two ways may lie apart, as a share of the largest value, by the type of the weights
NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


@contextmanager
def sharing(network: Any, probe: dict[str, torch.Tensor]) -> Iterator[bool]:
    """The body of `network` takes batches of chosen (first half) and rejected sequences, and runs what a pair begins
    with once. Gives whether it does so.

    Only where the results are the same: `probe`, a batch of one pair, goes through it both ways. Attention that is no
    plain function of mask and positions (a sliding window, a recurrent state) shows there.
    """
    body = network.base_model
    plain = body.forward
    attention = network.config._attn_implementation  # noqa: SLF001 -- it has no public name
    if attention != "sdpa" or "position_ids" not in inspect.signature(plain).parameters:
        yield False
        return

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **named: Any) -> Any:
        ids, positions, mask, places = _folded(input_ids, attention_mask)
        made = plain(input_ids=ids, attention_mask=mask, position_ids=positions, **named)
        hidden = made.last_hidden_state[torch.arange(len(ids), device=ids.device).repeat(2)[:, None], places]
        made.last_hidden_state = hidden
        return made

    with torch.no_grad():
        both = [run(**probe, use_cache=False).last_hidden_state for run in (plain, forward)]
    there = probe["attention_mask"].bool()
    apart, largest = (both[0] - both[1])[there].abs().max(), both[0][there].abs().max()
    alike = bool(apart <= NEAR[both[0].dtype] * largest)
    if alike:
        body.forward = forward
    try:
        yield alike
    finally:
        body.forward = plain


def _folded(ids: torch.Tensor, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """From (2 × pairs, width), padded on the right, to one row a pair: what is common, the rest of one, of the other.

    Returns its ids and positions (pairs, wider), who sees whom (pairs, 1, wider, wider), and where each token of the
    given rows lies in it (2 × pairs, width).
    """
    chosen, rejected = ids.chunk(2)
    lengths, others = there.sum(1).chunk(2)
    same = (chosen == rejected) & there.chunk(2)[0].bool() & there.chunk(2)[1].bool()
    common = same.long().cumprod(1).sum(1)
    at = torch.arange(int((lengths + others - common).max()), device=ids.device)[None]
    second = at >= lengths[:, None]  # the rest of the rejected sequence comes after the whole chosen one
    positions = torch.where(second, at - lengths[:, None] + common[:, None], at)
    real = at < (lengths + others - common)[:, None]
    source = positions.clamp(max=ids.shape[1] - 1)
    made = torch.where(second, rejected.gather(1, source), chosen.gather(1, source))
    seen = (at[:, :, None] >= at[:, None, :]) & real[:, None, :]
    apart = second[:, :, None] & ~second[:, None, :] & (at[:, None, :] >= common[:, None, None])
    width = torch.arange(ids.shape[1], device=ids.device)[None]
    moved = torch.where(width < common[:, None], width, width - common[:, None] + lengths[:, None])
    places = torch.cat([width.expand(len(chosen), -1), moved]).clamp(max=at.shape[1] - 1)
    mask = seen & ~apart | torch.eye(at.shape[1], dtype=torch.bool, device=ids.device)
    return made, source, mask[:, None], places
