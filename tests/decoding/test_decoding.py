from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from runner import chat, models, schema
from runner.decoding import answers, batch_of, greedy, stream
from runner.decoding._generate import Draw
from runner.errors import StepError
from runner.models import Loaded
from runner.step import Decoding, Model

ASKED = [
    [{"role": "user", "content": text}]
    for text in [
        "Who was it?",
        "Has the letter come? " * 6,
        "Mud",
        "🔍 犯人は誰ですか",
        "a",
        "Observe the mud. " * 3,
        "Yes.",
        "Good",
        "Rain?",
    ]
]


def how(mode: str = "greedy", **params: Any) -> Decoding:
    return Decoding("talk", mode, schema.defaults(schema.mode(mode), {"max_new_tokens": 24, **params}))


def load(folder: Path) -> Loaded:
    """A random model repeats one token: louder weights make it say different things. Weights stay in memory: once."""
    [made] = models.load([Model("tiny", {"load": str(folder)})], folder)
    network = made.weights.network
    if not getattr(network, "is_loud", False):
        network.is_loud = True
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "layers" in name or ".h." in name:
                    weight.mul_(6)
    return made


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Loaded:
    return load(tiny_model)


def plain(loaded: Loaded, messages: Any, **options: Any) -> str:
    """What transformers' own generate gives for one row without padding."""
    ids = torch.tensor([chat.prompt_ids(loaded.tokenizer, messages)])
    ends = chat.end_ids(loaded.tokenizer)
    config = GenerationConfig(max_new_tokens=24, eos_token_id=ends, pad_token_id=0, do_sample=False, **options)
    made = loaded.weights.network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return str(loaded.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def test_greedy_in_a_padded_batch_is_what_transformers_gives_row_by_row(loaded: Loaded) -> None:
    made = answers(loaded, ASKED, how(), 0)
    assert made == [plain(loaded, messages) for messages in ASKED]
    assert len(set(made)) > 5


def test_padding_does_not_shift_absolute_positions(bare_model: Path) -> None:
    bare = load(bare_model)
    made = answers(bare, ASKED, how(), 0)
    assert made == [plain(bare, messages) for messages in ASKED] and len(set(made)) > 3


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}])
def test_penalties_do_not_see_the_padding(loaded: Loaded, options: dict[str, Any]) -> None:
    ours = {"no_repeat_ngram" if name.startswith("no") else name: value for name, value in options.items()}
    assert answers(loaded, ASKED, how(**ours), 0) == [plain(loaded, messages, **options) for messages in ASKED]


def test_a_sampled_answer_depends_on_seed_and_prompt_and_not_on_the_batch(loaded: Loaded) -> None:
    talk = how("sample", temperature=1.5, top_k=50, top_p=0.95, min_p=0.001)
    together = answers(loaded, ASKED, talk, 7)
    assert together == [answers(loaded, [messages], talk, 7)[0] for messages in ASKED]
    assert together == answers(loaded, ASKED, talk, 7) != answers(loaded, ASKED, talk, 8)
    assert answers(loaded, list(reversed(ASKED)), talk, 7) == list(reversed(together))


def test_the_same_prompt_twice_gives_two_samples(loaded: Loaded) -> None:
    one, two = answers(loaded, [ASKED[0], ASKED[0]], how("sample", temperature=1.5), 0)
    assert one != two


def test_draws_follow_the_probabilities() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.2, 0.0]])).expand(4000, 4)
    picked = Draw(range(4000))(None, scores).argmax(-1)
    shares = torch.bincount(picked, minlength=4) / 4000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.03) and shares[3] == 0


def test_greedy_is_the_limit_of_sampling(loaded: Loaded) -> None:
    assert answers(loaded, ASKED, how("sample", top_k=1), 0) == answers(loaded, ASKED, how(), 0)


@pytest.mark.parametrize("talk", [how(), how("sample", temperature=2.0)])
def test_what_is_streamed_is_what_is_answered(loaded: Loaded, talk: Decoding) -> None:
    for messages in ASKED:
        assert "".join(stream(loaded, messages, talk, 3)) == answers(loaded, [messages], talk, 3)[0]


def test_a_stop_string_ends_the_answer_and_is_not_shown(loaded: Loaded) -> None:
    whole = answers(loaded, ASKED, how(), 0)
    stop = whole[0][5:8]
    talk = how(stop=[stop, "never said"])
    made = answers(loaded, ASKED, talk, 0)
    assert made == [text.split(stop)[0].strip() for text in whole] and made[0] != whole[0]
    assert "".join(stream(loaded, ASKED[0], talk, 0)) == made[0]


def test_the_token_that_ends_a_turn_ends_the_answer(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = loaded.tokenizer(plain(loaded, ASKED[0]), add_special_tokens=False).input_ids
    monkeypatch.setattr(chat, "end_ids", lambda tokenizer: [ids[3]])
    made = answers(loaded, [ASKED[0]], how(), 0)
    assert made == [loaded.tokenizer.decode(ids[: ids.index(ids[3])]).strip()]


def test_a_prompt_without_room_for_an_answer_is_an_error(loaded: Loaded) -> None:
    with pytest.raises(StepError, match="leaves no room in its context of 512"):
        answers(loaded, [[{"role": "user", "content": "Mud. " * 400}]], how(), 0)


def test_an_answer_never_outgrows_the_context(loaded: Loaded) -> None:
    long = [{"role": "user", "content": "#" * 480}]
    used = len(chat.prompt_ids(loaded.tokenizer, long))
    [made] = greedy.generate(loaded, batch_of(loaded, [long], 0), how(max_new_tokens=5000))
    assert 512 - 30 < used < 512 and len(made) <= 512 - used


def test_no_question_no_answer(loaded: Loaded) -> None:
    assert answers(loaded, [], how(), 0) == []


def test_an_error_while_streaming_reaches_the_reader(loaded: Loaded) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"runner\.decoding\.nothing"):
        list(stream(loaded, ASKED[0], Decoding("talk", "nothing", {"max_new_tokens": 3}), 0))


def test_closing_the_stream_stops_the_work(loaded: Loaded) -> None:
    before = threading.active_count()
    pieces = stream(loaded, ASKED[0], how("sample", max_new_tokens=490, temperature=3.0), 0)
    next(pieces)
    started = time.monotonic()
    pieces.close()
    assert time.monotonic() - started < 0.5 and threading.active_count() == before
