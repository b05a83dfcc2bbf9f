"""For tests of whole recipes: one of recipes/ run into a store of the test's own, and what its steps made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from runner.files import Row, read_rows

ROOT = Path(__file__).resolve().parent.parent


def store(folder: Path) -> Path:
    """A folder as a store of its own, with the bundled models that set-up has converted."""
    (ROOT / "artifacts" / "models").mkdir(exist_ok=True)
    (folder / "models").symlink_to(ROOT / "artifacts" / "models")
    return folder


def run(recipe: str, artifacts: Path, *arguments: str) -> Path:
    """Run a recipe; returns the folder of what it made."""
    command = [sys.executable, "-m", "runner", "run", recipe, *arguments]
    kept = {key: value for key, value in os.environ.items() if key != "DATASETS"}
    environment = {**kept, "ARTIFACTS": str(artifacts), "WRITER_API_KEY": "none"}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1700, check=False)
    assert made.returncode == 0, made.stderr
    return max(artifacts.glob(f"{recipe}@*"), key=lambda path: path.stat().st_mtime)


def rows(folder: Path, step: str) -> list[Row]:
    held = folder / step
    paths = [held / f"{part}.jsonl" for part in ("rows", "train", "validation", "test")]
    return [row for path in paths if path.is_file() for row in read_rows(path)]


def facts(folder: Path, step: str) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / step / "step.json").read_text(encoding="utf-8"))["facts"]
    return held
