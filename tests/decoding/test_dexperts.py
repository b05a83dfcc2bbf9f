"""Steering against a slow reference written straight from the equations: no cache, no batch, no processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from runner import chat, models, schema
from runner.decoding import _generate as engine
from runner.decoding import answers, batch_of, dexperts, stream
from runner.errors import StepError
from runner.models import Loaded
from runner.step import Decoding, Model, Prompt
from tests.conftest import make_tokenizer

ASKED = [
    [{"role": "user", "content": text}]
    for text in ["Who was it?", "Has the letter come? " * 6, "Mud", "🔍 犯人は誰ですか"]
]
DRIVE = Prompt("drive", ({"user": "Speak {{ level }} of the rain:"},))
AGAINST = Prompt("against", ({"system": "You are Holmes.", "user": "{{ level }}?"},))
ROWS = [{"level": level} for level in ["high", "low", "high " * 9, ""]]
TOKENS = 9


def louder(network: Any) -> None:
    """A random model repeats one token: louder weights make it say different things."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ("layers" in name or ".h." in name) and "lora" not in name:
                weight.mul_(6)


def adapter(folder: Path, under: Model, seed: int, **options: Any) -> Model:
    torch.manual_seed(seed)
    held = {"r": 4, "target_modules": "all-linear", **options}
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, lora_alpha=1, **held)
    network = get_peft_model(models.load_network(under, folder), config)
    network.save_pretrained(folder / f"expert{seed}")
    make_tokenizer().save_pretrained(folder / f"expert{seed}")
    return Model(f"expert{seed}", {}, folder / f"expert{seed}", under)


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return spoken(tiny_model, tmp_path_factory.mktemp("louder"), "base")


def spoken(source: Path, folder: Path, name: str) -> Model:
    """A model's folder anew, with louder weights."""
    network = models.load_network(Model(name, {"load": str(source)}), folder)
    louder(network)
    network.save_pretrained(folder)
    models.load_tokenizer(Model(name, {"load": str(source)}), folder).save_pretrained(folder)
    return Model(name, {"load": str(folder)})


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of another size, with absolute positions, more rows than tokens, and the same tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("wide")
    held = make_tokenizer()
    torch.manual_seed(7)
    sizes = {"n_embd": 48, "n_layer": 1, "n_head": 4, "n_positions": 512, "vocab_size": len(held) + 24}
    network = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=held.eos_token_id))
    louder(network)
    network.save_pretrained(folder)
    held.save_pretrained(folder)
    return Model("wide", {"load": str(folder)})


@pytest.fixture(scope="module")
def experts(base: Model, wide: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("experts")
    return {
        "high": adapter(folder, base, 1),
        "low": adapter(folder, base, 2, r=2, target_modules=["q_proj", "v_proj", "down_proj"]),
        "other": adapter(folder, base, 3, use_dora=True),
        "base": base,
        "wide": wide,
        "wide-high": adapter(folder, wide, 4),
    }


def how(named: dict[str, Model], prompts: dict[str, Prompt] | None = None, **params: Any) -> Decoding:
    """A decoding as the executor hands it over; named: models by the path of the key."""
    held: dict[str, Any] = {"mode": "dexperts", "max_new_tokens": TOKENS, **params}
    for path, model in named.items():
        place = held
        *above, last = path.split(".")
        for key in above:
            place = place.setdefault(key, {})
        place[last] = model.name
    filled = schema.defaults(schema.mode("dexperts"), held)
    assert not list(schema.validator("mode:dexperts").iter_errors(held))
    return Decoding("steered", "dexperts", filled, {path: (one,) for path, one in named.items()}, prompts or {})


def load(base: Model, decoding: Decoding) -> Loaded:
    [made] = models.load([base], Path(), beside=decoding.models, keep=True)
    return made


# The reference


def logits(loaded: Loaded, ids: list[int]) -> torch.Tensor:
    with torch.no_grad(), loaded.active() as network:
        made: torch.Tensor = network(torch.tensor([ids]), use_cache=False).logits[0, -1].float()
    return made


def nucleus(scores: torch.Tensor, p: float | None) -> torch.Tensor:
    """The likeliest tokens that together have probability p; the rest is minus infinity."""
    if not p or p >= 1:
        return scores.clone()
    order = scores.sort(descending=True).indices
    shares = scores.double().softmax(-1)[order]
    kept = order[(shares.cumsum(-1) - shares) < p]
    made = torch.full_like(scores, -torch.inf)
    made[kept] = scores[kept]
    return made


def combined(loaded: Loaded, decoding: Decoding, asked: dict[str, list[int]], new: list[int]) -> torch.Tensor:
    """The sheet's equations for one row after its new tokens; asked: the prompts of base ('') and of the others."""
    params = decoding.params
    base = logits(loaded, asked[""] + new)
    if len(new) < params["start_after"]:
        return base
    made = nucleus(base, params.get("filter_p"))
    for path in sorted({key.removesuffix("anti_expert").removesuffix("expert") for key in loaded.others}):
        held = params["experts"][path.split(".")[1]] if path else params
        alpha = held.get("alpha", params["alpha"])
        sides = []
        for key in (f"{path}expert", f"{path}anti_expert"):
            if key in loaded.others:
                sides.append(logits(loaded.others[key][0], asked[key] + new)[: len(base)])
            else:
                sides.append(base if params["missing"] == "base" else torch.zeros_like(base))
        made = made + alpha * (sides[0] - sides[1])
    return made


def reference(loaded: Loaded, decoding: Decoding, messages: Any, row: dict[str, Any]) -> tuple[list[int], list[Any]]:
    """The tokens and the combined logits of every step."""
    ends = chat.end_ids(loaded.tokenizer)
    asked = {"": chat.prompt_ids(loaded.tokenizer, messages)}
    for key, (other,) in loaded.others.items():
        prompt = decoding.prompts.get(f"{key}_prompt")
        told = messages if prompt is None else spelled(prompt, row)
        asked[key] = chat.prompt_ids(other.tokenizer, told)
    new: list[int] = []
    steps = []
    while len(new) < decoding.params["max_new_tokens"]:
        steps.append(combined(loaded, decoding, asked, new))
        token = int(steps[-1].argmax())
        if token in ends:
            break
        new.append(token)
    return new, steps


def spelled(prompt: Prompt, row: dict[str, Any]) -> list[dict[str, str]]:
    """By hand, for the two prompts here."""
    if prompt is DRIVE:
        return [{"role": "user", "content": f"Speak {row['level']} of the rain:"}]
    system = {"role": "system", "content": "You are Holmes."}
    return [system, {"role": "user", "content": f"{row['level']}?".strip()}]


class Seen:
    """Keeps what the first processor after the sum has seen, step by step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[torch.Tensor] = []
        held = engine.penalties

        def keep(ids: Any, scores: torch.Tensor) -> torch.Tensor:
            self.steps.append(scores.clone())
            return scores

        monkeypatch.setattr(engine, "penalties", lambda *given: [keep, *held(*given)])


def compare(loaded: Loaded, decoding: Decoding, seen: Seen, asked: Any = ASKED, rows: Any = ROWS) -> list[list[int]]:
    """Tokens are equal, and logits too within 1e-4, in one ragged batch against row by row."""
    seen.steps.clear()
    batch = batch_of(loaded, asked, 0, rows)
    made = dexperts.generate(loaded, batch, decoding)
    for at, (messages, row) in enumerate(zip(asked, rows, strict=True)):
        tokens, steps = reference(loaded, decoding, messages, row)
        assert made[at] == tokens, at
        for number, expected in enumerate(steps):
            got = seen.steps[number][at]
            cut = expected.isneginf()
            assert torch.allclose(got[~cut][: len(expected)], expected[~cut], atol=1e-4, rtol=1e-5), (at, number)
    return made


KINDS: dict[str, dict[str, str]] = {
    "expert": {"expert": "high"},
    "anti-expert": {"anti_expert": "low"},
    "both": {"expert": "high", "anti_expert": "low"},
    "another size": {"expert": "wide"},
    "an adapter here, a model there": {"expert": "low", "anti_expert": "wide"},
    "adapters over there": {"expert": "wide-high", "anti_expert": "wide"},
    "dora": {"expert": "other", "anti_expert": "low"},
    "the base with another prompt": {"expert": "base"},
    "several": {"experts.a.expert": "high", "experts.b.expert": "wide", "experts.b.anti_expert": "low"},
}
PROMPTS = {"expert_prompt": DRIVE, "anti_expert_prompt": AGAINST, "experts.b.expert_prompt": AGAINST}


def chosen(experts: dict[str, Model], kind: str, **params: Any) -> Decoding:
    named = {path: experts[name] for path, name in KINDS[kind].items()}
    known = {path: prompt for path, prompt in PROMPTS.items() if path.removesuffix("_prompt") in named}
    made = how(named, {}, **params)
    return replace(made, prompts=known)


@pytest.mark.parametrize("start_after", [0, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_gives_the_tokens_and_logits_of_the_equations(
    base: Model, experts: dict[str, Model], kind: str, start_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    for missing in ("base", "nothing"):
        decoding = chosen(experts, kind, alpha=0.75, start_after=start_after, missing=missing)
        made = compare(load(base, decoding), decoding, seen)
        assert len({tuple(ids) for ids in made}) > 2


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1.0, 1.33, 2.0, 4.0, -0.5, -3.0])
def test_every_alpha_gives_the_tokens_and_logits_of_the_equations(
    base: Model, experts: dict[str, Model], alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    for kind in ("both", "another size"):
        decoding = chosen(experts, kind, alpha=alpha, filter_p=0.9)
        compare(load(base, decoding), decoding, seen)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=3),
    st.floats(-4, 4, width=16),
    st.sampled_from([None, 0.3, 0.99]),
    st.sampled_from(["several", "both"]),
)
def test_random_prompts_and_alphas_give_the_tokens_and_logits_of_the_equations(
    base: Model, experts: dict[str, Model], texts: list[str], alpha: float, p: float | None, kind: str
) -> None:
    asked = [[{"role": "user", "content": text}] for text in texts]
    rows = [{"level": text} for text in texts]
    decoding = chosen(experts, kind, alpha=alpha, max_new_tokens=4, **({"filter_p": p} if p else {}))
    with pytest.MonkeyPatch.context() as patch:
        compare(load(base, decoding), decoding, Seen(patch), asked, rows)


def test_answers_that_end_at_different_times_leave_the_others_as_they_are(
    base: Model, experts: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = chosen(experts, "several", alpha=0.5)
    whole = compare(load(base, decoding), decoding, Seen(monkeypatch))
    ends = [whole[0][2], whole[2][5]]
    monkeypatch.setattr(chat, "end_ids", lambda tokenizer: ends)
    made = compare(load(base, decoding), decoding, Seen(monkeypatch))
    assert len({len(ids) for ids in made}) > 1 and min(map(len, made)) < TOKENS


@pytest.mark.parametrize("sampled", [{}, {"temperature": 0.8, "top_p": 0.9, "top_k": 40}])
def test_alpha_0_is_plain_decoding(base: Model, experts: dict[str, Model], sampled: dict[str, Any]) -> None:
    decoding = chosen(experts, "several", alpha=0, **sampled)
    plain = Decoding(
        "plain", "sample" if sampled else "greedy", {**sampled, "max_new_tokens": TOKENS, "temperature": 0.8}
    )
    loaded = load(base, decoding)
    assert answers(loaded, ASKED, decoding, 3, ROWS) == answers(loaded, ASKED, plain, 3)


def test_the_first_tokens_are_the_bases_own_whatever_alpha_is(base: Model, experts: dict[str, Model]) -> None:
    made = []
    for alpha in (0, 0.25, 1.0, 4.0, -2.0):
        decoding = chosen(experts, "both", alpha=alpha, start_after=5)
        loaded = load(base, decoding)
        made.append(dexperts.generate(loaded, batch_of(loaded, ASKED, 0, ROWS), decoding))
    for row in range(len(ASKED)):
        assert len({tuple(each[row][:5]) for each in made}) == 1 and len({tuple(each[row]) for each in made}) > 1


def test_an_expert_alone_with_a_filter_has_no_nan_and_keeps_to_the_filter(
    base: Model, experts: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    for missing in ("base", "nothing"):
        decoding = chosen(experts, "expert", alpha=2.0, filter_p=0.5, missing=missing)
        compare(load(base, decoding), decoding, seen)
        assert all(step.isfinite().all() for step in seen.steps)


@pytest.mark.parametrize("alpha", [1000.0, -1000.0, 0.0])
def test_filters_and_penalties_together_always_leave_a_token(
    base: Model, experts: dict[str, Model], alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    held = engine.Draw.__call__

    def draw(self: Any, ids: Any, scores: torch.Tensor) -> Any:
        drawn.append(scores.clone())
        return held(self, ids, scores)

    monkeypatch.setattr(engine.Draw, "__call__", draw)
    filters = {"filter_p": 0.01, "top_p": 0.01, "top_k": 1, "min_p": 1.0, "temperature": 0.01}
    decoding = chosen(experts, "several", alpha=alpha, no_repeat_ngram=1, repetition_penalty=5.0, **filters)
    loaded = load(base, decoding)
    dexperts.generate(loaded, batch_of(loaded, ASKED, 0, ROWS), decoding)
    assert drawn and not any(step.isnan().any() or step.isposinf().any() for step in drawn)
    assert all((step > -torch.inf).any(-1).all() for step in drawn)


def test_steered_draws_depend_on_seed_and_prompt_and_not_on_the_batch(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "several", alpha=0.5, temperature=1.5, top_k=50)
    loaded = load(base, decoding)
    together = answers(loaded, ASKED, decoding, 7, ROWS)
    alone = [answers(loaded, [one], decoding, 7, [row])[0] for one, row in zip(ASKED, ROWS, strict=True)]
    assert together == alone != answers(loaded, ASKED, decoding, 8, ROWS)


def test_what_is_streamed_is_what_is_answered(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "several", alpha=0.5, temperature=1.5)
    loaded = load(base, decoding)
    pieces = "".join(stream(loaded, ASKED[0], decoding, 3, ROWS[0]))
    assert pieces == answers(loaded, ASKED[:1], decoding, 3, ROWS[:1])[0]


def test_a_stop_string_ends_a_steered_row_and_no_other(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "both", alpha=0.5)
    loaded = load(base, decoding)
    whole = answers(loaded, ASKED, decoding, 0, ROWS)
    stop = whole[1][2:4]
    held = replace(decoding, params={**decoding.params, "stop": [stop]})
    assert answers(loaded, ASKED, held, 0, ROWS) == [text.split(stop)[0].strip() for text in whole]


# How it is done


class Calls:
    """The shapes of what goes through a network."""

    def __init__(self, network: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        inner = network.get_base_model() if hasattr(network, "get_base_model") else network
        inner.register_forward_pre_hook(lambda module, given, keys: self._note(keys), with_kwargs=True)

    def _note(self, keys: dict[str, Any]) -> None:
        self.shapes.append(tuple(keys["input_ids"].shape))


def test_adapters_of_one_base_go_through_it_in_one_pass_and_share_its_weights(
    base: Model, experts: dict[str, Model]
) -> None:
    decoding = chosen(experts, "both", alpha=0.5)
    loaded = load(base, decoding)
    others = [other for held in loaded.others.values() for other in held]
    assert all(other.weights is loaded.weights for other in others)
    calls = Calls(loaded.weights.network)
    made = dexperts.generate(loaded, batch_of(loaded, ASKED, 0, ROWS), decoding)
    assert [shape[0] for shape in calls.shapes] == [3 * len(ASKED)] * max(map(len, made))
    assert [shape[1] for shape in calls.shapes[1:]] == [1] * (len(calls.shapes) - 1)


def test_a_model_of_another_size_reads_its_prompt_once_and_then_a_token_a_step(
    base: Model, experts: dict[str, Model]
) -> None:
    decoding = chosen(experts, "another size", alpha=0.5, start_after=2)
    loaded = load(base, decoding)
    calls = Calls(loaded.others["expert"][0].weights.network)
    dexperts.generate(loaded, batch_of(loaded, ASKED, 0, ROWS), decoding)
    assert [shape[0] for shape in calls.shapes] == [len(ASKED)] * (TOKENS - 2)
    assert calls.shapes[0][1] > 10 and {shape[1] for shape in calls.shapes[1:]} == {1}


def test_acting_as_one_adapter_inside_another_ends_with_the_first(base: Model, experts: dict[str, Model]) -> None:
    high, low, plain = models.load([experts["high"], experts["low"], base], Path(), keep=True)
    ids = chat.prompt_ids(high.tokenizer, ASKED[0])
    alone = {one.name: logits(one, ids) for one in (high, low, plain)}
    with torch.no_grad(), high.active() as network:
        for inner in (low, plain, high):
            assert torch.equal(logits(inner, ids), alone[inner.name])
            assert torch.equal(network(torch.tensor([ids]), use_cache=False).logits[0, -1], alone["expert1"])
    assert not torch.allclose(alone["expert1"], alone["base"], atol=0.1)


def test_an_error_inside_leaves_the_weights_as_they_were(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "both", alpha=0.5)
    loaded = load(base, decoding)
    before = answers(loaded, ASKED, decoding, 0, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_until", fail)
        with pytest.raises(RuntimeError, match="stop here"):
            answers(loaded, ASKED, decoding, 0, ROWS)
    assert answers(loaded, ASKED, decoding, 0, ROWS) == before


def fail(*given: Any) -> Any:
    raise RuntimeError("stop here")


def test_models_with_other_tokens_are_refused_before_weights_are_read(
    base: Model, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    held = make_tokenizer()
    held.add_tokens(["Moriarty"])
    held.save_pretrained(tmp_path)
    AutoConfig.from_pretrained(tiny_model).save_pretrained(tmp_path)
    decoding = how({"expert": Model("stranger", {"load": str(tmp_path)})})
    monkeypatch.setattr(models, "load_network", fail)
    with pytest.raises(
        StepError, match=r"stranger: its tokens are not those of base .*'Moriarty' is not the same in both"
    ):
        load(base, decoding)


def test_an_expert_without_room_for_its_prompt_is_an_error(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "both", alpha=0.5)
    with pytest.raises(StepError, match="leaves no room in its context of 512"):
        answers(load(base, decoding), ASKED[:1], decoding, 0, [{"level": "high " * 400}])


def test_what_an_answer_begins_with_is_told_to_the_expert_too(base: Model, experts: dict[str, Model]) -> None:
    decoding = chosen(experts, "both", alpha=0.5)
    begun = [*ASKED[0], {"role": "assistant", "content": "The rain"}]
    loaded = load(base, decoding)
    expert, against = (
        list(term.prompts) for term in dexperts.terms(loaded, batch_of(loaded, [begun], 0, ROWS[:1]), decoding)
    )
    assert loaded.tokenizer.decode(expert[0]).endswith("<|im_start|>assistant\nThe rain")
    assert loaded.tokenizer.decode(against[0]).endswith("high?<|im_end|>\n<|im_start|>assistant\nThe rain")


def test_a_prompt_made_for_training_asks_an_expert_without_its_answer(base: Model, experts: dict[str, Model]) -> None:
    drill = Prompt("drill", ({"user": "Speak {{ texts.how[level] }}:", "prefill": "So: ", "assistant": "{{ text }}"},))
    decoding = how({"expert": experts["high"]}, {"expert_prompt": drill})
    loaded = load(base, decoding)
    row = {"level": "low", "texts": {"how": {"low": "softly"}}}
    [term, _] = dexperts.terms(loaded, batch_of(loaded, ASKED[:1], 0, [row]), decoding)
    assert "Speak softly:" in loaded.tokenizer.decode(term.prompts[0])
    assert loaded.tokenizer.decode(term.prompts[0]).endswith("assistant\nSo:")


def test_a_steered_answer_keeps_to_a_schema_at_any_alpha(base: Model, experts: dict[str, Model]) -> None:
    import json

    pytest.importorskip("llguidance")
    shape = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    decoding = chosen(experts, "several", alpha=200.0, filter_p=0.01, max_new_tokens=40, no_repeat_ngram=1)
    loaded = load(base, decoding)
    batch = replace(batch_of(loaded, ASKED, 0, ROWS), schemas=[shape, None, shape, shape])
    made = dexperts.generate(loaded, batch, decoding)
    for at in (0, 2, 3):
        assert json.loads(loaded.tokenizer.decode(made[at]))["a"] in ("x", "y")
