"""Beam search, the best of several answers, and the cuts, against transformers and against what is counted by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopPLogitsWarper

from runner import chat
from runner.decoding import _processors, answers, batch_of, beam, greedy, sample, stream, together
from runner.decoding._processors import Cut, TopP
from runner.models import Loaded
from tests.decoding.test_decoding import ASKED, how, load, plain

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/data/big5chat"


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Loaded:
    return load(tiny_model)


# The cuts


@pytest.mark.parametrize("p", [0.001, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.0, 0.3, 5.0])
def test_top_p_is_that_of_transformers_for_flat_and_for_steep_scores(p: float, spread: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 3000) * spread + torch.rand(5, 3000) * 1e-3
    assert torch.equal(TopP(p)(None, scores).isneginf(), TopPLogitsWarper(p)(None, scores).isneginf())


def test_top_p_heeds_what_is_already_impossible() -> None:
    scores = torch.full((2, 3000), -torch.inf)
    scores[0, 7], scores[1, :5] = 0.0, torch.arange(5.0)
    made = TopP(0.9)(None, scores)
    assert made[0].isfinite().nonzero().flatten().tolist() == [7]
    assert torch.equal(made[1].isneginf(), TopPLogitsWarper(0.9)(None, scores)[1].isneginf())


def test_a_cut_that_would_leave_nothing_is_not_made() -> None:
    scores = torch.tensor([[1.0, -torch.inf, 2.0], [1.0, 2.0, 3.0]])
    impossible = torch.tensor([[True, False, True], [True, False, True]])
    assert Cut(lambda: impossible)(None, scores).tolist() == [
        [1.0, -torch.inf, 2.0],
        [-torch.inf, 2.0, -torch.inf],
    ]


# Sampling, from the equations


def drawn(loaded: Loaded, prompt: list[int], seed: int, params: dict[str, Any]) -> list[int]:
    """The tokens of one sampled answer, step by step and without a cache."""
    generator = torch.Generator().manual_seed(seed)
    new: list[int] = []
    while len(new) < params["max_new_tokens"]:
        with torch.no_grad():
            scores = loaded.weights.network(torch.tensor([prompt + new]), use_cache=False).logits[0, -1].double()
        scores = scores / params["temperature"]
        order = scores.sort(descending=True).indices
        kept = order[: params["top_k"]]
        shares = scores[kept].softmax(-1)
        kept = kept[(shares.cumsum(-1) - shares) < params["top_p"]]
        shares = scores[kept].softmax(-1)
        kept = kept[shares >= params["min_p"] * shares.max()].sort().values
        shares = scores[kept].softmax(-1).cumsum(-1)
        point = torch.rand((1,), generator=generator, dtype=torch.float64)
        token = int(kept[min(int((shares <= point * shares[-1]).sum()), len(kept) - 1)])
        if token in chat.end_ids(loaded.tokenizer):
            break
        new.append(token)
    return new


def test_sampled_tokens_are_those_of_the_equations(loaded: Loaded) -> None:
    talk = how("sample", temperature=1.3, top_k=60, top_p=0.9, min_p=0.01, max_new_tokens=10)
    batch = batch_of(loaded, ASKED, 5)
    made = sample.generate(loaded, batch, talk)
    assert made == [drawn(loaded, ids, seed, talk.params) for ids, seed in zip(batch.prompts, batch.seeds, strict=True)]
    assert len({tuple(ids) for ids in made}) > 5


# Beams


@pytest.mark.parametrize("penalty", [1.0, -1.0])
def test_beams_in_a_padded_batch_are_what_transformers_gives_row_by_row(loaded: Loaded, penalty: float) -> None:
    made = answers(loaded, ASKED, how("beam", beams=3, length_penalty=penalty), 0)
    assert made == [plain(loaded, messages, num_beams=3, length_penalty=penalty) for messages in ASKED]
    assert made != answers(loaded, ASKED, how(), 0)


def test_beams_know_penalties_stop_strings_and_schemas(loaded: Loaded) -> None:
    pytest.importorskip("llguidance")
    made = answers(loaded, ASKED, how("beam", no_repeat_ngram=2), 0)
    assert made == [plain(loaded, messages, num_beams=4, no_repeat_ngram_size=2) for messages in ASKED]
    stopped = answers(loaded, ASKED, how("beam", stop=[made[0][3:5]]), 0)
    assert not any(made[0][3:5] in text for text in stopped)
    batch = replace(batch_of(loaded, ASKED[:2], 0), schemas=[{"enum": ["mud", "boots"]}, None])
    first, _ = beam.generate(loaded, batch, how("beam"))
    assert json.loads(loaded.tokenizer.decode(first)) in ("mud", "boots")


def test_what_beams_answer_is_streamed_at_the_end(loaded: Loaded) -> None:
    talk = how("beam", beams=2)
    assert list(stream(loaded, ASKED[0], talk, 0)) == answers(loaded, ASKED[:1], talk, 0)


# The best of several


def likelihood(loaded: Loaded, prompt: list[int], new: list[int], most: int) -> float:
    """The mean log-probability of an answer's tokens, its end included, from one pass over the whole text."""
    whole = [*prompt, *new, *([] if len(new) == most else [chat.end_ids(loaded.tokenizer)[0]])]
    with torch.no_grad():
        logs = loaded.weights.network(torch.tensor([whole])).logits[0].log_softmax(-1)
    picked = [float(logs[at - 1, whole[at]]) for at in range(len(prompt), len(whole))]
    return sum(picked) / len(picked)


def test_the_best_of_several_is_the_likeliest_of_them(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[list[int]]] = []
    run = sample.run

    def keep(*given: Any, **keys: Any) -> list[list[int]]:
        made.append(run(*given, **keys))
        return made[-1]

    monkeypatch.setattr(sample, "run", keep)
    talk = how("sample", temperature=2.5, best_of=4, top_k=100, max_new_tokens=9)
    batch = batch_of(loaded, ASKED, 0)
    best = sample.generate(loaded, batch, talk)
    assert len(made[0]) == 4 * len(ASKED)
    for at, prompt in enumerate(batch.prompts):
        several = made[0][4 * at : 4 * at + 4]
        assert len({tuple(ids) for ids in several}) == 4
        assert best[at] == max(several, key=lambda ids: likelihood(loaded, prompt, ids, 9))


def test_the_first_of_several_is_what_is_drawn_without(loaded: Loaded) -> None:
    one, several = how("sample", temperature=1.5), how("sample", temperature=1.5, best_of=3, best_by="longest")
    alone, best = answers(loaded, ASKED, one, 0), answers(loaded, ASKED, several, 0)
    assert all(len(a.split()) <= len(b.split()) for a, b in zip(alone, best, strict=True)) and alone != best
    assert best == answers(loaded, ASKED, several, 0) == [answers(loaded, [each], several, 0)[0] for each in ASKED]
    assert "".join(stream(loaded, ASKED[0], several, 0)) == best[0]


@pytest.mark.parametrize("by", ["shortest", "varied"])
def test_other_scores_choose_by_words(loaded: Loaded, by: str) -> None:
    texts = defaultdict(set)
    for best in ("shortest", "longest", "varied", "likelihood"):
        texts[best] = set(answers(loaded, ASKED, how("sample", temperature=2.0, best_of=4, best_by=best), 0))
    assert sum(map(len, texts["shortest"])) < sum(map(len, texts["longest"])) and texts[by]


# How many at once


def test_as_many_rows_go_together_as_fit_into_memory(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    import runner.decoding as module

    cache = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, numbers of a head, bytes
    monkeypatch.setattr(module, "free_memory", lambda: 2 * 5 * 100 * cache)
    assert together(loaded, how(), 100) == 5
    assert together(loaded, how("sample", best_of=4), 100) == 1
    monkeypatch.setattr(module, "free_memory", lambda: 0)
    assert together(loaded, how(), 100) == 1
    whole = greedy.generate(loaded, batch_of(loaded, ASKED, 0), how())
    assert answers(loaded, ASKED, how(), 0) == [
        loaded.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in whole
    ]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(1, 3))
def test_a_top_p_keeps_the_likeliest_token_and_no_more_than_needed(p: float, rows: int) -> None:
    scores = torch.randn(rows, 40) * 3
    made = TopP(p)(None, scores)
    for before, after in zip(scores, made, strict=True):
        shares, kept = before.softmax(-1), after.isfinite()
        assert kept[before.argmax()] and shares[kept].sum() >= p - 1e-5
        assert shares[kept].sum() - shares[kept].min() < p + 1e-5


def test_few_likely_tokens_are_enough_or_all_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    scores = torch.randn(4, 500)
    whole = TopP(0.7)(None, scores)
    monkeypatch.setattr(_processors, "LIKELY", 3)
    assert torch.equal(TopP(0.7)(None, scores), whole)


# What was published


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published replies are not here")
@pytest.mark.parametrize("trait", ["e", "o"])
def test_published_replies_begin_alike_at_every_alpha(trait: str) -> None:
    said: dict[tuple[int, str], set[str]] = defaultdict(set)
    for path in sorted(PUBLISHED.glob(f"alpha_*_trait_{trait}.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            first = row["response"] if row["turn"] == 0 else row["response"].split()[0]
            said[row["env_idx"], row.get("personality", "")].add(first)
    assert len(said) == 60 and all(len(each) == 1 for each in said.values())
