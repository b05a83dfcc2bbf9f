"""What many tests share: a real two-layer model with a real tokenizer, and a step as the executor would hand it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(SENTENCES, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.chat_template = template
    made.model_max_length = 512
    return made


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
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
