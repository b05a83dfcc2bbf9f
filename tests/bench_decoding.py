"""How fast steered decoding is: `python tests/bench_decoding.py [--quick] [--cpu]`, on the bundled model with random adapters.

Same prompts for all, methods interleaved, medians of several rounds with their spread, in tokens a second of wall time:

seed's way   batch 1; the base with its cache, each expert on the whole text at every step (no cache), as BIG5-CHAT does
separate     batch 1; three forward passes a step, each with its cache
plain        `mode: greedy` of the same batch
adapters     `mode: dexperts`, two LoRA experts on the base's weights: one pass for three blocks of rows
two sizes    `mode: dexperts`, an expert of another size on weights of its own (a thinner random model)

`--cpu` counts processor time in place of wall time, for a busy machine. No answer ends early, so that all make the same number of tokens. Then: memory of the weights, and cost by length and
batch.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from runner.machine import settle  # noqa: E402 -- threads are set before torch comes

settle()

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import DynamicCache  # noqa: E402

from runner import models, schema  # noqa: E402
from runner.decoding import _generate as engine  # noqa: E402
from runner.decoding import batch_of, dexperts, greedy  # noqa: E402
from runner.models import Loaded  # noqa: E402
from runner.plan import artifacts  # noqa: E402
from runner.step import Decoding, Model  # noqa: E402

BASE = Model("smollm2-135m", {"load": "smollm2-135m"})
ASKED = [
    "What did you do today?",
    "The rain has not stopped since Tuesday. What do you think of it?",
    "Tell me a story.",
]
Made = tuple[float, int]  # seconds, tokens
clock = time.process_time if "--cpu" in sys.argv else time.perf_counter


def expert(folder: Path, seed: int) -> Model:
    torch.manual_seed(seed)
    config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(models.load_network(BASE, artifacts()), config).save_pretrained(folder)
    models.load_tokenizer(BASE, artifacts()).save_pretrained(folder)
    return Model(folder.name, {}, folder, BASE)


def thinner(folder: Path) -> Model:
    """The same layers, a third as wide, with the same tokens and random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(models.place(BASE, artifacts()))
    config.hidden_size, config.intermediate_size = 192, 512
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 3, 1, 64
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    models.load_tokenizer(BASE, artifacts()).save_pretrained(folder)
    return Model(folder.name, {"load": str(folder)})


def steered(named: dict[str, Model], tokens: int) -> Decoding:
    body = {"max_new_tokens": tokens, "alpha": 0.5, **{key: model.name for key, model in named.items()}}
    params = schema.defaults(schema.mode("dexperts"), body)
    return Decoding("steered", "dexperts", params, {key: (model,) for key, model in named.items()})


def talks(rows: int) -> list[Any]:
    return [[{"role": "user", "content": f"{at}. {ASKED[at % len(ASKED)]}"}] for at in range(rows)]


def batched(loaded: Loaded, mode: Any, decoding: Decoding, rows: int) -> Made:
    batch = batch_of(loaded, talks(rows), 0)
    began = clock()
    made = mode.generate(loaded, batch, decoding)
    return clock() - began, sum(map(len, made))


def alone(loaded: Loaded, decoding: Decoding, rows: int, cached: bool) -> Made:
    """Batch 1 by hand, the experts with a cache of their own, or on the whole text at every step."""
    everyone = [loaded, *(other for held in loaded.others.values() for other in held)]
    seconds, tokens = 0.0, 0
    for prompt in batch_of(loaded, talks(rows), 0).prompts:
        began = clock()
        tokens += _by_hand(everyone, prompt, decoding, cached)
        seconds += clock() - began
    return seconds, tokens


@torch.inference_mode()
def _by_hand(everyone: list[Loaded], prompt: list[int], decoding: Decoding, cached: bool) -> int:
    caches = [DynamicCache() if cached or one is everyone[0] else None for one in everyone]
    fresh = list(prompt)
    whole = list(prompt)
    for _ in range(decoding.params["max_new_tokens"]):
        scores = []
        for one, cache in zip(everyone, caches, strict=True):
            ids = torch.tensor([whole if cache is None else fresh], device=models.device())
            with one.active() as network:
                given = {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
                scores.append(network(ids, logits_to_keep=1, **given).logits[0, -1].float())
        first = scores[0]
        for at, other in enumerate(scores[1:]):
            first = first + decoding.params["alpha"] * (other - scores[0]) * (-1 if at else 1)
        fresh = [int(first.argmax())]
        whole += fresh
    return decoding.params["max_new_tokens"]


def measure(methods: dict[str, Callable[[], Made]], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each method, a round after the other."""
    made: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            seconds, tokens = method()
            made[name].append(tokens / seconds)
    return made


def show(title: str, made: dict[str, list[float]], against: str) -> None:
    print(f"\n{title}", flush=True)
    middle = {name: statistics.median(speeds) for name, speeds in made.items()}
    for name, speeds in made.items():
        spread = f"{min(speeds):6.1f} to {max(speeds):6.1f}"
        print(
            f"  {name:26} {middle[name]:7.1f} tokens/s ({spread})  {middle[name] / middle[against]:6.2f} of {against}"
        )


def weights(loaded: Loaded) -> float:
    """Bytes of all parameters of a model and of those beside it, each counted once, in MiB."""
    everyone = [loaded, *(other for held in loaded.others.values() for other in held)]
    held = {one.data_ptr(): one.nbytes for each in everyone for one in each.weights.network.parameters()}
    return sum(held.values()) / 2**20


def main(quick: bool) -> None:
    models.prepare(0)
    tokens, rows, rounds = (12, 64, 1) if quick else (24, 64, 3)
    with tempfile.TemporaryDirectory() as held, without_ends():
        folder = Path(held)
        named = {"expert": expert(folder / "high", 1), "anti_expert": expert(folder / "low", 2)}
        sizes = {"expert": thinner(folder / "thin")}
        three, two = steered(named, tokens), steered(sizes, tokens)
        [plain] = models.load([BASE], artifacts())
        alone_held = weights(plain)
        [adapters] = models.load([BASE], artifacts(), beside=three.models)
        [pair] = models.load([BASE], artifacts(), beside=two.models, keep=True)
        how = Decoding("plain", "greedy", {"max_new_tokens": tokens})
        few = 2 if quick else 4
        methods: dict[str, Callable[[], Made]] = {
            "plain": lambda: batched(adapters, greedy, how, rows),
            "adapters (3 models)": lambda: batched(adapters, dexperts, three, rows),
            "two sizes (2 models)": lambda: batched(pair, dexperts, two, rows),
            f"seed's way ({few} of them)": lambda: alone(adapters, three, few, False),
        }
        show(f"{rows} replies of {tokens} tokens", measure(methods, rounds), "plain")
        methods = {
            "separate": lambda: alone(adapters, three, 1, True),
            "adapters (3 models)": lambda: batched(adapters, dexperts, three, 1),
            "plain": lambda: batched(adapters, greedy, how, 1),
        }
        show(f"1 reply of {tokens} tokens", measure(methods, 2 * rounds), "separate")
        print(f"\nweights: plain {alone_held:.0f} MiB, with two adapters {weights(adapters):.0f} MiB", end=", ")
        print(f"{weights(adapters) / alone_held:.3f} times")
        growth(adapters, named, quick)


def growth(loaded: Loaded, named: dict[str, Model], quick: bool) -> None:
    print("\nseconds by reply length (8 replies) and by batch (16 tokens each)")
    for tokens in (8, 16) if quick else (16, 32, 64, 128):
        seconds, made = batched(loaded, dexperts, steered(named, tokens), 8)
        print(f"  {tokens:4} tokens {seconds:7.2f} s  {seconds / made * 1000:6.1f} ms a token", flush=True)
    for rows in (1, 4) if quick else (1, 4, 16, 64):
        seconds, made = batched(loaded, dexperts, steered(named, 16), rows)
        print(f"  {rows:4} replies {seconds:6.2f} s  {seconds / made * 1000:6.1f} ms a token", flush=True)


@contextlib.contextmanager
def without_ends() -> Any:
    """No token ends an answer."""
    held = engine.chat.end_ids
    engine.chat.end_ids = lambda tokenizer: [-1]  # type: ignore[assignment]
    try:
        yield
    finally:
        engine.chat.end_ids = held


if __name__ == "__main__":
    main("--quick" in sys.argv)
