"""A questionnaire answered by likelihood: which option's tag the model would most likely reply with."""

from __future__ import annotations

from typing import Any

import torch

from runner import chat, models
from runner.chat import Message
from runner.inventories import Asked
from runner.models import Loaded
from runner.step import Model, Out, Step

Answer = tuple[str | None, dict[str, Any]]
TOGETHER = 16


def choose(step: Step, model: Model, questions: list[tuple[Asked, list[Message]]], out: Out) -> list[Answer]:
    """(tag, {chances}) for each question; chances are those of the options among themselves, by their own tags."""
    loaded = models.load([model], step.artifacts, out.log)[0]
    # Items of like length together: less padding
    order = sorted(range(len(questions)), key=lambda at: len(questions[at][0].text))
    made: list[Answer] = [(None, {})] * len(questions)
    with out.progress(f"{model.name} chooses", len(questions)) as advance:
        for start in range(0, len(order), TOGETHER):
            batch = order[start : start + TOGETHER]
            asked = [questions[at] for at in batch]
            for at, (one, _), chances in zip(batch, asked, _chances(loaded, asked), strict=True):
                shares = dict(zip((option.tag for option in one.options.values()), chances, strict=True))
                made[at] = max(shares, key=lambda tag: shares[tag]), {"chances": shares}
            advance(len(batch))
    return made


def _chances(loaded: Loaded, asked: list[tuple[Asked, list[Message]]]) -> list[list[float]]:
    prompts, answers = [], []
    for one, messages in asked:
        prompts.append(chat.prompt_ids(loaded.tokenizer, messages))
        answers.append([loaded.tokenizer(tag, add_special_tokens=False).input_ids for tag in one.options])
    flat = [(prompt, answer) for prompt, held in zip(prompts, answers, strict=True) for answer in held]
    scores = iter(log_likelihoods(loaded, flat))
    return [torch.tensor([next(scores) for _ in held]).softmax(0).tolist() for held in answers]


@torch.inference_mode()
def log_likelihoods(loaded: Loaded, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    """log p(answer | prompt), summed over the answer's tokens, for pairs of token ids.

    Pairs that differ in the answer's last token only go through the network once.
    """
    stems = list(dict.fromkeys((*prompt, *answer[:-1]) for prompt, answer in pairs))
    most, width = max(len(answer) for _, answer in pairs), max(map(len, stems))
    pad, device = loaded.tokenizer.pad_token_id, loaded.weights.device
    ids = torch.tensor([[pad] * (width - len(stem)) + list(stem) for stem in stems], device=device)
    mask = torch.tensor([[0] * (width - len(stem)) + [1] * len(stem) for stem in stems], device=device)
    with loaded.active() as network:
        made = network(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=most,
            use_cache=False,
        ).logits
    logs = made.float().log_softmax(-1)
    scores = []
    for prompt, answer in pairs:
        row = logs[stems.index((*prompt, *answer[:-1]))]
        scores.append(sum(float(row[at - len(answer), token]) for at, token in enumerate(answer)))
    return scores
