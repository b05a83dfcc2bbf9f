"""A GGUF file is the same model: read back by transformers it gives the same logits; its Modelfile talks the same way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf as ggml
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runner import models, schema
from runner.errors import StepError
from runner.step import Decoding, Model, Out, Prompt
from runner.steps.export import gguf
from tests.conftest import make_step


def export(folder: Path, model: Path, numbers: str = "f32", **more: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    step = make_step(
        "export", "gguf", folder, {}, models=[Model("voice", {"load": str(model)})], numbers=numbers, **more
    )
    return gguf.run(step, Out(folder))


@pytest.mark.parametrize(("numbers", "near"), [("f32", 1e-5), ("f16", 2e-3), ("q8_0", 2e-2)])
def test_read_back_it_gives_the_same_logits(tmp_path: Path, tiny_model: Path, numbers: str, near: float) -> None:
    models.quiet()
    export(tmp_path, tiny_model, numbers)
    first = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    ids = torch.tensor([[5, 9, 100, 42, 7, 300]])
    with torch.inference_mode():
        assert torch.allclose(first(ids).logits, again(ids).logits, atol=near)


def test_its_tokenizer_cuts_as_before_and_knows_its_special_tokens(tmp_path: Path, tiny_model: Path) -> None:
    export(tmp_path, tiny_model)
    first = AutoTokenizer.from_pretrained(tiny_model)
    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in ("Has the letter come? Café 🔍 123", "<|im_start|>user\nhi<|im_end|>"):
        assert again(text).input_ids == first(text).input_ids
    assert again.eos_token == first.eos_token


def test_the_modelfile_writes_turns_as_the_chat_template_does(tmp_path: Path, tiny_model: Path) -> None:
    how = Decoding(
        "talk",
        "sample",
        schema.defaults(schema.mode("sample"), {"max_new_tokens": 60, "top_p": 0.9, "stop": ["\n\n", 'say "no"']}),
    )
    prompt = Prompt("persona", ({"system": "You are Holmes."},))
    export(tmp_path, tiny_model, decoding=how, prompt=prompt)
    text = (tmp_path / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith('FROM ./model.gguf\nTEMPLATE """')
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}' in text
    assert '{{ end }}<|im_start|>assistant\n"""' in text
    assert 'SYSTEM """You are Holmes."""' in text
    assert "PARAMETER top_p 0.9" in text and "PARAMETER num_predict 60" in text
    assert 'PARAMETER stop "<|im_end|>"' in text and 'PARAMETER stop """say "no""""' in text


def test_the_file_says_what_llama_cpp_needs(tmp_path: Path, tiny_model: Path) -> None:
    facts = export(tmp_path, tiny_model, "q8_0")
    read = ggml.GGUFReader(tmp_path / "model.gguf")
    held = {name: field.contents() for name, field in read.fields.items() if len(field.data) < 20}
    assert held["general.architecture"] == "llama"
    assert held["llama.attention.head_count_kv"] == 2
    assert held["tokenizer.ggml.pre"] == "gpt-2"
    assert facts["metrics"]["tensors"] == len(read.tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt_neo"}, "a gpt_neo model; GGUF is written for llama, mistral, qwen2"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, r"its rotary embedding is scaled \(llama3\)"),
    ],
)
def test_what_gguf_is_not_written_for_is_refused(
    tmp_path: Path, tiny_model: Path, change: dict[str, Any], said: str
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(StepError, match=said):
        export(tmp_path / "made", model)
