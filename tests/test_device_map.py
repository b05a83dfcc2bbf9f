"""Weights over several devices (`device_map:`), as far as a machine without a GPU can show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model

from runner import keys, models, questions
from runner.asking import Ask
from runner.decoding import answers
from runner.step import Decoding, Model

EXACT = Decoding("exact", "greedy", {"max_new_tokens": 8})
ASKED = [[{"role": "user", "content": "Who was it?"}], [{"role": "user", "content": "The butler? Are you sure?"}]]


def entry(folder: Path, **more: Any) -> Model:
    return Model("base", {"load": str(folder), **more})


def test_a_spread_model_is_placed_by_transformers_and_answers_as_one_that_is_not(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [plain] = models.load([entry(tiny_model)], tiny_model)
    expected, maps, read = answers(plain, ASKED, EXACT, 0), [], models._read

    def watched(*given: Any, **options: Any) -> Any:
        maps.append(options.get("device_map"))
        return read(*given, **options)

    monkeypatch.setattr(models, "_read", watched)
    for one in (
        entry(tiny_model, device_map="auto"),
        Model("trained", {}, tiny_model, entry(tiny_model, device_map="auto")),
    ):
        models.load([], tiny_model)  # lets the weights before go
        maps.clear()
        [loaded] = models.load([one], tiny_model)
        assert "auto" in maps and answers(loaded, ASKED, EXACT, 0) == expected


def test_layers_that_lie_elsewhere_get_their_tokens_where_the_embedding_is(tiny_model: Path, tmp_path: Path) -> None:
    [plain] = models.load([entry(tiny_model)], tiny_model)
    expected, network = answers(plain, ASKED, EXACT, 0), models.load_network(entry(tiny_model), tiny_model).eval()
    places = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    layers = [f"model.layers.{at}" for at in range(network.config.num_hidden_layers)]
    places |= {**dict.fromkeys(layers, "cpu"), layers[-1]: "disk"}
    dispatch_model(network, places, main_device="cpu", offload_dir=tmp_path)  # the hooks that several GPUs get
    assert {one.device.type for one in network.parameters()} == {"cpu", "meta"}
    spread = replace(plain, weights=models.Weights(network))
    assert spread.weights.device == torch.device("cpu") and answers(spread, ASKED, EXACT, 0) == expected


@pytest.mark.parametrize("where", ["auto", "balanced", "sequential"])
def test_where_weights_lie_changes_neither_the_step_nor_its_kept_answers(where: str, tiny_model: Path) -> None:
    spread, plain = entry(tiny_model, device_map=where), entry(tiny_model)
    material = [keys.model_material({"entry": one.entry, "files": {}}) for one in (spread, plain)]
    assert material[0] == material[1]
    ask = Ask("model", ASKED[0])
    assert questions.local_key(spread, EXACT, ask, 0) == questions.local_key(plain, EXACT, ask, 0)


def test_room_is_counted_over_all_gpus(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: ((gpu + 1) * 1000, 9000))
    assert (models.free_memory(), models.free_memory(everywhere=True), models.free_memory("cpu") > 6000) == (
        1000,
        6000,
        True,
    )
