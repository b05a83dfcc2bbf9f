"""A Hub folder of a Llama-like model as a GGUF file, by the names, types and layouts of ggml's own package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Numbers
from safetensors import safe_open

from runner.errors import StepError
from runner.step import Advance

KINDS = {"llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
NUMBERS = {"f32": Numbers.F32, "f16": Numbers.F16, "bf16": Numbers.BF16, "q8_0": Numbers.Q8_0}
FILES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
BLOCK = 32  # numbers that q8_0 keeps together
LLAMA3 = r"\p{N}{1,3}"
QWEN2 = r"|\p{N}|"


def write(folder: Path, path: Path, name: str, numbers: str, advance: Advance) -> int:
    """Write the model in `folder` to `path`; returns how many tensors. Raises StepError for what GGUF cannot hold here."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = KINDS.get(config["model_type"])
    if kind is None:
        raise StepError(
            f"{folder}: a {config['model_type']} model; GGUF is written for {', '.join(KINDS)}. Use llama.cpp."
        )
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
    _describe(writer, config, name, numbers, folder)
    _vocabulary(writer, folder, config)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    count = 0
    for key, tensor in _tensors(folder):
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        target = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise StepError(f"{folder}: GGUF has no place for the tensor {key}. Use llama.cpp's own converter.")
        values = _turned(key, tensor, config) if kind == gguf.MODEL_ARCH.LLAMA else tensor
        _add(writer, target, values.float().numpy(), numbers)
        count += 1
        advance(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def count(folder: Path) -> int:
    """How many tensors a folder holds."""
    return sum(1 for path in folder.glob("*.safetensors") for _ in _keys(path))


def _keys(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping, it only has keys()
                yield key, file.get_tensor(key)


def _turned(key: str, tensor: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """ggml pairs neighbouring rows for its rotary embedding, transformers the halves of a head."""
    if not key.endswith(("q_proj.weight", "k_proj.weight")):
        return tensor
    heads = config["num_attention_heads"]
    heads = config.get("num_key_value_heads") or heads if "k_proj" in key else heads
    rows = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, rows, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray[Any, Any], numbers: str) -> None:
    """Vectors stay float32; what q8_0 cannot divide into blocks is kept in float16."""
    wanted = Numbers.F32 if values.ndim == 1 else NUMBERS[numbers]
    if wanted == Numbers.Q8_0 and values.shape[-1] % BLOCK:
        wanted = Numbers.F16
    if wanted in (Numbers.F32, Numbers.F16):
        writer.add_tensor(name, values.astype(np.float32 if wanted == Numbers.F32 else np.float16))
    else:
        writer.add_tensor(name, gguf.quantize(values, wanted), raw_dtype=wanted)


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any], name: str, numbers: str, folder: Path) -> None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise StepError(
            f"{folder}: its rotary embedding is scaled ({rope['rope_type']}). Use llama.cpp's own converter."
        )
    heads = config["num_attention_heads"]
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(FILES[numbers])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _vocabulary(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    held = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if held["model"]["type"] != "BPE" or held["model"].get("byte_fallback"):
        raise StepError(f"{folder}: its tokenizer is no byte-level BPE. Use llama.cpp's own converter.")
    tokens = {place: text for text, place in held["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in held["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    every = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_cutting(held["pre_tokenizer"], folder))
    writer.add_token_list([tokens.get(place, f"[PAD{place}]") for place in every])
    writer.add_token_types([kinds.get(place, gguf.TokenType.UNUSED) for place in every])
    merges = held["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    gguf.SpecialVocab(folder, load_merges=False, n_vocab=config["vocab_size"]).add_to_gguf(writer, quiet=True)


def _cutting(found: dict[str, Any], folder: Path) -> str:
    """llama.cpp's name for how text is cut before the merges; a wrong one would make other tokens of the same text."""
    steps = found["pretokenizers"] if found["type"] == "Sequence" else [found]
    kinds = [step["type"] for step in steps]
    patterns = "".join(str(step["pattern"].get("Regex", "")) for step in steps if step["type"] == "Split")
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and LLAMA3 in patterns:
        return "llama-bpe"
    if kinds == ["Split", "ByteLevel"] and QWEN2 in patterns:
        return "qwen2"
    raise StepError(
        f"{folder}: how its tokenizer cuts text ({', '.join(kinds)}) is not known. Use llama.cpp's own converter."
    )
