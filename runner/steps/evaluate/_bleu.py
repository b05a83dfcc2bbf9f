"""How alike texts are, by sentence BLEU: within a group, between groups, and each text against all the others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean

from sacrebleu.metrics.bleu import BLEU

Texts = Sequence[str]

_METRIC = BLEU(effective_order=True)  # texts shorter than four words have no 4-grams


def bleu(text: str, references: Texts) -> float:
    """Sentence BLEU, 0 to 100 (sacrebleu: 13a tokens, exponential smoothing)."""
    return float(_METRIC.sentence_score(text, list(references)).score)


def self_bleu(texts: Texts) -> float | None:
    """The mean BLEU of each text against all others (Zhu et al. 2018, Texygen); high means little variety."""
    if len(texts) < 2:
        return None
    return fmean(bleu(text, [*texts[:at], *texts[at + 1 :]]) for at, text in enumerate(texts))


def between(first: Texts, second: Texts, pairs: int, draw: random.Random) -> float | None:
    """The mean BLEU over pairs of a text of each, at most `pairs` of them, drawn; within one group of different ones."""
    same = first is second
    held = [(a, b) for a in range(len(first)) for b in range(len(second)) if not (same and a == b)]
    if not held:
        return None
    if len(held) > pairs:
        held = draw.sample(held, pairs)
    return fmean(bleu(first[a], [second[b]]) for a, b in held)
