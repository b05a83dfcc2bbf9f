"""The recipes with classifiers: on their own small data, and on published data where that is at hand."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not there: {DATA}")
REDDIT = """\
recipe: 1
title: Sixteen types from single comments
models: {reader: minilm}
steps:
  comments: {preprocess: table, folder: datasets/comments, columns: {i: I/E, n: N/S, t: T/F, p: P/J}}
  typed:
    preprocess: select
    from: comments
    where: text
    add: {label: "{{ 'I' if i == '1' else 'E' }}{{ 'N' if n == '1' else 'S' }}{{ 'T' if t == '1' else 'F' }}{{ 'P' if p == '1' else 'J' }}"}
  alone: {preprocess: dedup, from: typed}
  parts: {preprocess: split, from: alone, test: 0.2, stratify: label, seed: 0}
  judge:
    train: classifier
    from: parts
    model: reader
    learning_rate: 1e-4
    batch: 32
    epochs: 3
    max_length: 32
  right: {evaluate: classification, from: parts, model: judge, letters: [IE, NS, TF, PJ]}
"""


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (ROOT / "artifacts/models").mkdir(parents=True, exist_ok=True)
    (folder / "models").symlink_to(ROOT / "artifacts/models")
    return folder


def run(recipe: str, artifacts: Path, datasets: Path | None = None, variant: str = "") -> None:
    told = os.environ | {"ARTIFACTS": str(artifacts)} | ({"DATASETS": str(datasets)} if datasets else {})
    command = [sys.executable, "-m", "runner", "run", recipe, "--variant", variant]
    result = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def facts(artifacts: Path, step: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((artifacts / step / "step.json").read_text(encoding="utf-8"))["facts"]
    return made


@pytest.mark.slow
def test_the_types_recipe_goes_all_the_way_on_its_own_data(artifacts: Path) -> None:
    run("mbti", artifacts, variant="smoke")
    one, four = (facts(artifacts, f"mbti@smoke/{name}") for name in ("sixteen", "together"))
    assert set(one["metrics"]) == {"reads-type", "majority", "random", "words"}  # masked: no text names a type
    assert set(four["metrics"]) == {"joined", "majority", "random", "words"}
    for held in (one["metrics"]["reads-type"], four["metrics"]["joined"]):
        assert set(held) == {"train", "validation", "test"} and set(held["test"]["letters"]) == {
            "EI",
            "NS",
            "FT",
            "JP",
            "mean",
        }


@pytest.mark.slow
def test_the_traits_recipe_goes_all_the_way_on_its_own_data(artifacts: Path) -> None:
    run("traits", artifacts)
    found = facts(artifacts, "traits/right")["metrics"]
    assert found["judge"]["train"]["accuracy"] > found["majority"]["train"]["accuracy"]


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_encoder_beats_the_bag_of_words_on_published_replies(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets/trait-replies").mkdir(parents=True)
    (tmp_path / "datasets/trait-replies/replies.csv").symlink_to(DATA / "big5chat/replies_train.csv")
    run("traits", artifacts, tmp_path / "datasets", "many")
    found = facts(artifacts, "traits@many/right")["metrics"]
    held_out = {name: one["test"] for name, one in found.items()}
    assert held_out["judge"]["rows"] > 1400
    assert held_out["judge"]["accuracy"] > held_out["words"]["accuracy"] > held_out["majority"]["accuracy"]
    assert held_out["judge"]["macro_f1"] > held_out["words"]["macro_f1"]


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixteen_types_from_single_published_comments_are_better_than_chance(artifacts: Path, tmp_path: Path) -> None:
    with (DATA / "mbti/reddit_mbti.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    (tmp_path / "datasets/comments").mkdir(parents=True)
    with (tmp_path / "datasets/comments/comments.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[1::4]])  # a quarter of each type
    (tmp_path / "reddit.yaml").write_text(REDDIT, encoding="utf-8")
    run(str(tmp_path / "reddit.yaml"), artifacts, tmp_path / "datasets")
    found = facts(artifacts, "reddit/right")["metrics"]
    assert found["judge"]["test"]["rows"] > 1500 and found["judge"]["test"]["accuracy"] > 1.4 / 16
    assert set(found["judge"]["test"]["letters"]) == {"IE", "NS", "TF", "PJ", "mean"}
