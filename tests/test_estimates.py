"""What `plan` says of training before it runs: sizes without weights, memory, time, and what will not fit."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import estimates, machine, schema, shapes
from runner.machine import Machine

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
CPU = Machine("cpu", "2 cores", 16 * GIB, 24 * GIB, False, 50e9)
GPU = Machine("cuda", "NVIDIA H100", 79 * GIB, 80 * GIB, True, 3e14)
SMALL = {"load": "smollm2-135m"}
LARGE = {"load": "org/llama-2-7b-hf"}


def spec(entry: dict[str, Any], kind: str = "sft", key: str | None = None, **keys: Any) -> dict[str, Any]:
    model = {"name": "base", "entry": entry, "files": {}}
    inputs = {"from": [{"step": "parts", "key": key, "part": None, "columns": {}}]} if key else {}
    params = schema.defaults(schema.fragment("train", kind), {"model": "base", **keys})
    return {
        "name": "voice",
        "verb": "train",
        "kind": kind,
        "params": params,
        "models": {"model": [model]},
        "inputs": inputs,
    }


def made(entry: dict[str, Any], here: Machine = CPU, root: Path = Path(), **keys: Any) -> estimates.Estimate:
    found = estimates.training(spec(entry, **keys), root, here)
    assert found
    return found


def rows(root: Path, parts: dict[str, int], words: int = 100) -> str:
    """A finished step with rows of so many letters, by part."""
    folder = root / "store" / "abc"
    folder.mkdir(parents=True)
    for part, count in parts.items():
        row = {"messages": [{"role": "user", "content": "x" * words}, {"role": "assistant", "content": "y" * words}]}
        (folder / f"{part}.jsonl").write_text((json.dumps(row) + "\n") * count)
    (folder / "step.json").write_text(json.dumps({"rows": {"out": parts}}))
    return "abc"


# How large a model is


def test_the_size_of_a_bundled_model_is_known_and_its_parts_add_up() -> None:
    found = shapes.find(SMALL, Path())
    assert found and found.parameters == 134_515_008
    assert found.body + found.vocabulary * found.hidden == pytest.approx(found.parameters, rel=1e-3)


def test_the_size_of_a_folder_is_that_of_its_weights(tiny_model: Path, bare_model: Path) -> None:
    from safetensors.torch import load_file

    for folder in (tiny_model, bare_model):
        count = sum(one.numel() for one in load_file(folder / "model.safetensors").values())
        found = shapes.find({"load": str(folder)}, Path())
        assert found and found.parameters == pytest.approx(count, rel=0.03) and found.layers == 2


def test_an_adapter_is_counted_as_peft_makes_it(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from runner.models import quiet

    quiet()
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained, _ = adapted.get_nb_trainable_parameters()
    assert made({"load": str(tiny_model)}, lora={"rank": 4}).trained == trained


def test_a_model_in_the_cache_of_the_hub_is_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    place = tmp_path / "hub" / "models--org--some-model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("c0ffee")
    (place / "snapshots" / "c0ffee").mkdir(parents=True)
    config = {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 100, "num_attention_heads": 4}
    (place / "snapshots" / "c0ffee" / "config.json").write_text(json.dumps(config))
    found = shapes.find({"load": "org/some-model"}, Path())
    assert found and not found.guessed and (found.layers, found.hidden) == (3, 64)
    assert shapes.find({"load": "org/some-model@c0ffee"}, Path()) == found
    assert shapes.find({"load": "org/other-model"}, Path()) is None


@pytest.mark.parametrize(
    ("load", "billions"),
    [
        ("org/llama-2-7b-hf", 7),
        ("org/M-360M-Instruct", 0.36),
        ("org/M-1.7B", 1.7),
        ("org/M-8x7B-v0.1", 56),
        ("o/9b@x", 9),
    ],
)
def test_else_a_size_in_its_name_is_taken(load: str, billions: float) -> None:
    found = shapes.find({"load": load}, Path())
    assert found and found.guessed and found.parameters == billions * 1e9


@pytest.mark.parametrize("load", ["org/roberta-large", "org/model-4bit", "org/bge-m3", "", "smollm3"])
def test_what_says_nothing_is_unknown(load: str) -> None:
    assert shapes.find({"load": load}, Path()) is None


@pytest.mark.parametrize("text", ["not json", "{}", '{"hidden_size": 8}'])
def test_a_config_that_says_nothing_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert shapes.find({"load": str(tmp_path)}, Path()) is None


# Memory and time


def test_less_is_needed_with_an_adapter_less_with_bits_and_less_with_fewer_states() -> None:
    keys: dict[str, Any] = {"batch_at_once": 1, "max_length": 512}
    whole = made(LARGE, **keys)
    adapter = made(LARGE, lora={"rank": 8}, **keys)
    bits = made({**LARGE, "bits": 4}, lora={"rank": 8}, **keys)
    fewer = made(LARGE, arguments={"optim": "adamw_8bit"}, **keys)
    assert whole.memory > fewer.memory > adapter.memory > bits.memory
    assert whole.trained == whole.shape.parameters and adapter.trained < whole.trained / 100
    assert whole.memory / GIB == pytest.approx(16 * 7e9 / GIB, rel=0.1)
    assert bits.dtype == "4 bits" and bits.memory < 12 * GIB
    assert made(LARGE, GPU, lora={"rank": 8}, **keys).dtype == "bfloat16"


def test_what_is_merged_is_no_longer_in_bits() -> None:
    held = spec({}, lora={"rank": 8})
    entry = {"name": "base", "entry": {**SMALL, "bits": 4}, "files": {}}
    voice = {"name": "voice", "entry": {}, "key": "a", "checkpoint": "best", "base": entry}
    whole = {"name": "whole", "entry": {}, "key": "b", "checkpoint": "model", "base": voice}
    for model, wanted in ((entry, "4 bits"), (voice, "4 bits"), (whole, "float32")):
        held["models"]["model"] = [model]
        found = estimates.training(held, Path(), CPU)
        assert found and found.dtype == wanted


@pytest.mark.parametrize("sizes", [[30] * 20, [100] * 9 + [900], [5000] * 4])
def test_rows_at_once_are_those_of_the_trainers(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    from runner import models
    from runner.steps.train import _training

    config = {**schema.bundled()["smollm2-135m"]["config"]}
    monkeypatch.setattr(models, "free_memory", lambda *given: CPU.free)
    at_once, twice = _training.rows_at_once(LlamaConfig(**config), sizes, 8)
    shape = shapes.find(SMALL, Path())
    assert shape
    held = estimates.Rows(len(sizes), 0, 1.0, sorted(sizes)[len(sizes) * 9 // 10], max(sizes))
    tokens, again = estimates._at_once(spec(SMALL, max_length=8192), shape, held, CPU)
    assert (tokens / max(sizes), again) == (at_once, twice)


def test_time_grows_with_rows_and_epochs_and_is_unknown_without_rows(tmp_path: Path) -> None:
    key = rows(tmp_path, {"train": 400, "validation": 40, "test": 40})
    once, thrice = (made(SMALL, root=tmp_path, key=key, lora={"rank": 8}, epochs=n).seconds for n in (1, 3))
    assert once and thrice and 2.5 < (thrice - estimates.START) / (once - estimates.START) < 3.5
    few = made(SMALL, root=tmp_path, key=key, max_steps=2).seconds
    assert few and few < once
    assert made(SMALL, root=tmp_path).seconds is None and made(SMALL, root=tmp_path, key="missing").rows is None


def test_rows_are_counted_by_part_and_the_test_part_is_left_out(tmp_path: Path) -> None:
    found = made(SMALL, root=tmp_path, key=rows(tmp_path, {"train": 400, "validation": 40, "test": 60})).rows
    assert found and (found.train, found.checked) == (400, 40)
    assert found.mean == pytest.approx(2 * (100 / estimates.LETTERS + estimates.TURN))


def test_what_will_not_fit_says_so_and_what_to_try() -> None:
    few = Machine("cpu", "2 cores", 8 * GIB, 8 * GIB, False, None)
    whole, adapter, bits = spec(LARGE), spec(LARGE, lora={"rank": 8}), spec({**LARGE, "bits": 8}, lora={"rank": 8})
    table, lines = estimates.table([whole, adapter, bits, spec(SMALL), spec({"load": "org/unheard-of"})], Path(), few)
    assert [row[0] for row in table] == ["voice"] * 5 and table[4][1] == "unknown until its model is here"
    assert table[0][1] == "about 7 billion, float32" and table[3][1] == "135 million, float32"
    assert [line.split("fit. ")[1] for line in lines] == [
        "Try lora: {rank: 8}, or a smaller model.",
        "Try bits: 4 on its model, or a smaller one.",
        "Try a smaller model, or lower max_length and batch_at_once.",
    ]
    assert lines[0].startswith("voice: needs about 1") and "and 8.0 GiB are free: will not fit" in lines[0]


# The machine


def smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_gpu_is_seen_by_what_its_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    smi(tmp_path, 'test "$4" = 1 && echo "NVIDIA H200, 140000, 143771, 9.0"')
    found = machine.look()
    assert found and (found.device, found.name, found.halves) == ("cuda", "NVIDIA H200", True)
    assert found.free == 140000 * 2**20 and found.speed == pytest.approx(989e12 * machine.SHARE)


@pytest.mark.parametrize(
    ("visible", "script"),
    [("-1", "echo 'NVIDIA H200, 1, 2, 9.0'"), ("0", "exit 9"), ("0", "echo No devices were found"), ("0", "echo")],
)
def test_without_a_gpu_to_use_it_is_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, script: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    smi(tmp_path, script)
    found = machine.look()
    assert found and found.device == "cpu" and 0 < found.free <= found.total and found.speed


def test_a_gpu_that_is_not_known_has_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    smi(tmp_path, 'echo "NVIDIA T1000, 7000, 8000, 7.5"')
    found = machine.look()
    assert found and found.speed is None and not found.halves
    key = rows(tmp_path, {"train": 4})
    [[*_, told]], _ = estimates.table([spec(SMALL, key=key)], tmp_path, found)
    assert told == "unknown on NVIDIA T1000"


# The command


def test_plan_says_what_training_will_take_and_is_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "plan", "quickstart"]
    environment = {**os.environ, "ARTIFACTS": str(tmp_path), "COLUMNS": "120"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "135 million, float32" in done.stdout and "unknown until its rows are made" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # 0.3 s where nothing else runs
