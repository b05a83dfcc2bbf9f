"""Texts, or pairs of texts, as token ids for a model that judges them whole; those that are too long are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Encoded = dict[
    str, list[int]
]  # input_ids, token_type_ids where the tokenizer has them; of two towers input_ids, pair_ids
BETWEEN = "\n\n"  # stands between the texts of a pair where the tokenizer puts nothing there


def encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, length: int, keep: str = "start"
) -> tuple[list[Encoded], int]:
    """Token ids of each text, or of each text and its pair in one, and how many were longer than `length`.

    Of one that is too long the start is kept, or the end; of a pair the longer text is cut first. Never empty.
    """
    if not texts:
        return [], 0
    both = list(pairs) if pairs is not None else None
    if both is not None and tokenizer.num_special_tokens_to_add(True) == tokenizer.num_special_tokens_to_add(False):
        both = [BETWEEN + text for text in both]
    made = _rows(tokenizer, tokenizer(list(texts), both))
    long = [at for at, one in enumerate(made) if len(one["input_ids"]) > length]
    if long:
        tokenizer.truncation_side = "right" if keep == "start" else "left"
        second = [both[at] for at in long] if both is not None else None
        cut = tokenizer([texts[at] for at in long], second, truncation="longest_first", max_length=length)
        for at, one in zip(long, _rows(tokenizer, cut), strict=True):
            made[at] = one
    for one in made:
        if not one["input_ids"]:  # nothing but padding: a model must see at least one token
            one["input_ids"].append(tokenizer.pad_token_id)
    return made, len(long)


def columns(tokenizer: Any) -> list[str]:
    """What the tokenizer makes of a text: input_ids, and token_type_ids where its model knows them."""
    return [name for name in ("input_ids", "token_type_ids") if name in tokenizer.model_input_names]


def _rows(tokenizer: Any, batch: Any) -> list[Encoded]:
    names = columns(tokenizer)
    return [dict(zip(names, values, strict=True)) for values in zip(*(batch[name] for name in names), strict=True)]


def encode_apart(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str], length: int, keep: str = "start"
) -> tuple[list[Encoded], int]:
    """The texts of each pair on their own, for two towers, and how many texts were longer than `length`."""
    left, cut = encode(tokenizer, texts, None, length, keep)
    right, also_cut = encode(tokenizer, pairs, None, length, keep)
    both = zip(left, right, strict=True)
    return [{"input_ids": one["input_ids"], "pair_ids": other["input_ids"]} for one, other in both], cut + also_cut


def size(encoded: Encoded) -> int:
    """Tokens that go through the network for it."""
    return len(encoded["input_ids"]) + len(encoded.get("pair_ids", ()))


def pad(encoded: Sequence[Encoded], filler: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    """A batch padded on the right, with its masks: input_ids, attention_mask, …; of two towers pair_ids, pair_mask too."""
    made = {}
    for name, mask in (("input_ids", "attention_mask"), ("pair_ids", "pair_mask"), ("token_type_ids", None)):
        if name in encoded[0]:
            rows = [one[name] for one in encoded]
            width = max(map(len, rows))
            blank = filler if mask else 0
            made[name] = torch.tensor([[*row, *[blank] * (width - len(row))] for row in rows], device=device)
            if mask:
                kept = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
                made[mask] = torch.tensor(kept, device=device)
    return made
