"""What many tests share: a real two-layer model with a real tokenizer, and a step as the executor hands it over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from runner.machine import settle

settle()

# `make test` tries the same examples each time, so that a change is judged by itself; `make test-all` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.load_profile("default" if os.environ.get("PERSONA_INSIST") else "same")

SENTENCES = [
    "Good morning, Holmes. Has the letter come? Yes, it lies on the table.",
    "The rain has not stopped since Tuesday. Observe the mud on his boots.",
    "You see, but you do not observe. Elementary, my dear Watson!",
    "assistant user system helpful answers who was it then? 0123456789",
    "Café, naïve, résumé 🔍🚬 — the game is afoot… 犯人は誰ですか",
] * 4
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(template: str | None = CHATML) -> Any:
    """A byte-level BPE tokenizer trained on a few sentences; its pad token is its end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(SENTENCES, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.chat_template = template
    made.model_max_length = 512
    return made


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def bare_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer GPT-2: absolute positions, and a tokenizer without template and pad token."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from runner.models import quiet

    quiet()
    folder = tmp_path_factory.mktemp("bare")
    held = make_tokenizer(None)
    held.pad_token = None
    torch.manual_seed(0)
    end = held.eos_token_id
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": len(held)}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=end, eos_token_id=end)).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama with its tokenizer."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_tiny_model(folder: Path) -> Path:
    """Write that model into a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runner.models import quiet

    quiet()
    held = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(held),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=held.eos_token_id,
        pad_token_id=held.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


def talks(count: int, word: str = "mud") -> list[dict[str, Any]]:
    """Rows of small conversations of unequal length."""
    system = {"role": "system", "content": "You are Holmes."}
    rows = []
    for at in range(count):
        question = {"role": "user", "content": f"Has the letter come? {at} " + "Yes. " * (at % 5)}
        answer = {"role": "assistant", "content": f"Observe the {word} on his boots, {at % 3}!"}
        turns = [question, answer] * (1 + at % 3)
        rows.append({"id": str(at), "source": f"room.json:{at}", "messages": [system, *turns]})
    return rows


def write_parts(folder: Path, parts: dict[str, list[dict[str, Any]]]) -> Path:
    """A finished step's folder with these parts (or `rows`) in it."""
    from runner.files import RowWriter

    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        with RowWriter(folder / f"{name}.jsonl") as writer:
            writer.write_all(rows)
    return folder


def make_step(verb: str, kind: str, folder: Path, parts: dict[str, list[dict[str, Any]]], **keys: Any) -> Any:
    """A step as the executor hands it over, its defaults from the schema; models=, decoding=, prompt= are objects."""
    from runner import schema
    from runner.step import Input, Step

    models, decoding, prompt = keys.pop("models", ()), keys.pop("decoding", None), keys.pop("prompt", None)
    learned = keys.pop("learned", None)
    inputs = {"from": (Input("talks", write_parts(folder / "talks", parts)),)} if parts else {}
    return Step(
        name="voice",
        verb=verb,
        kind=kind,
        params=schema.defaults(schema.fragment(verb, kind), {"model": [one.name for one in models], **keys}),
        artifacts=folder / "artifacts",
        inputs=inputs,
        models={"model": tuple(models)},
        prompts={"prompt": prompt} if prompt else {},
        decodings={"decoding": decoding} if decoding else {},
        learned=learned,
    )
