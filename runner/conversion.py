"""The bundled GGUF made a Hub folder: plain float32 weights and the tokenizer as its authors published it."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from runner.errors import MachineError


def dequantise(source: Path, folder: Path) -> None:
    """Write the folder from the GGUF file `source`. Raises MachineError where the tokenizer comes out wrong."""
    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    with redirect_stderr(StringIO()):  # a progress bar that cannot be turned off
        network = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    _expect_chatml(tokenizer, source)
    _part_digits(tokenizer)
    # The weights are plain float32 now: the saved folder must not claim to be quantised
    del network.config.quantization_config
    network.hf_quantizer = None
    tokenizer.model_max_length = network.config.max_position_embeddings
    network.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _expect_chatml(tokenizer: Any, source: Path) -> None:
    found = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    if found != ("<|im_start|>", "<|im_end|>", "<|im_end|>") or "<|im_start|>" not in tokenizer.chat_template:
        advice = "Install the versions in constraints.txt."
        raise MachineError(f"{source}: its tokenizer came out wrong, with {found} as special tokens. {advice}")


def _part_digits(tokenizer: Any) -> None:
    """Each digit a token of its own, as SmolLM2 was trained; transformers reads the rest of it from the file, not this."""
    inner = tokenizer.backend_tokenizer
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
