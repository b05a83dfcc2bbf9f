"""A steered model really is steered: two writers learn high and low, and what judges say of the replies rises with alpha."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runner.files import read_rows
from tests.test_bundled import installed

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = Path(__file__).resolve().parents[2] / "shared/data/big5chat/replies_train.csv"
WORD = re.compile(r"[a-z']+")
QUICK = {
    "writer": {"max_steps": 12, "batch": 8, "learning_rate": "1e-3", "max_length": 112},
    "judge": {"epochs": 1, "batch": 16},
    "sweep": {"limit": 12},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published replies are not here"),
    pytest.mark.skipif(not installed("smollm2-135m"), reason="the wheel of smollm2-135m is not installed: make setup"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of recipes/steering.yaml, made of published replies in a few updates."""
    folder = tmp_path_factory.mktemp("steering")
    (folder / "replies").mkdir()
    shutil.copy(PUBLISHED, folder / "replies")
    held = [f"steps.{step}.{key}={value}" for step, keys in QUICK.items() for key, value in keys.items()]
    held += [
        f"steps.replies.folder={folder / 'replies'}",
        "decoding.swept.max_new_tokens=24",
        "matrix.alpha=[-1,0,1,2]",
    ]
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    if (ROOT / "artifacts/models").is_dir():
        (artifacts / "models").symlink_to(ROOT / "artifacts/models")
    environment = os.environ | {"ARTIFACTS": str(artifacts), "DATASETS": ""}
    command = [sys.executable, "-m", "runner", "run", "steering", "--set", " ".join(held)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [label] = [path for path in artifacts.iterdir() if path.name.startswith("steering")]
    return label


def replies(made: Path) -> dict[float, list[str]]:
    """The replies at each alpha."""
    held = {"minus-1": -1.0, "0": 0.0, "1": 1.0, "2": 2.0}
    return {
        alpha: [row["reply"] for row in read_rows(made / f"sweep-{name}/rows.jsonl")] for name, alpha in held.items()
    }


def facts(made: Path, step: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((made / step / "step.json").read_text(encoding="utf-8"))
    return whole["facts"]


def words_judge(made: Path) -> Any:
    """A second judge: naive Bayes on words, from the same training part; the log-odds of high a word."""
    counts = {"high": Counter[str](), "low": Counter[str]()}
    for row in read_rows(made / "parts-extraversion/train.jsonl"):
        counts[row["level"]].update(WORD.findall(row["text"].lower()))
    known = counts["high"] | counts["low"]
    sums = {level: sum(held.values()) + len(known) for level, held in counts.items()}

    def log(word: str, level: str) -> float:
        return math.log((counts[level][word] + 1) / sums[level])

    def score(texts: list[str]) -> float:
        words = [word for text in texts for word in WORD.findall(text.lower()) if word in known]
        return sum(log(word, "high") - log(word, "low") for word in words) / len(words)

    return score


def test_two_judges_score_rises_with_alpha(made: Path) -> None:
    plots = facts(made, "steering")["plots"]
    [lines] = [plot for plot in plots if plot["kind"] == "lines" and "high" in plot["series"]]
    trained = [value for _, value in sorted(lines["series"]["high"])]
    score = words_judge(made)
    counted = [score(texts) for _, texts in sorted(replies(made).items())]
    for scores in (trained, counted):
        assert scores[0] < scores[1] < scores[-1], (trained, counted)


def test_replies_stay_in_good_health(made: Path) -> None:
    for texts in replies(made).values():
        assert all(texts) and len(set(texts)) > 6
    assert facts(made, "health")["tables"]


def test_the_judge_is_better_than_chance_on_replies_that_it_has_not_seen(made: Path) -> None:
    assert "test" in json.dumps(facts(made, "right")["tables"])
