"""Writes anew what `check` says of the broken recipes: python -m tests.record_invalid. Read the difference before it is kept.

Run it after a message has changed. A case that is broken no more is named, and keeps its lines.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from runner.cli import main

ROOT = Path(__file__).resolve().parents[1]
INVALID = Path("tests/recipes/invalid")


def check(*words: str | Path) -> Result:
    """`python -m runner check` in this process; a bug keeps its traceback."""
    return CliRunner().invoke(main, ["check", *map(str, words)], catch_exceptions=False)


def record() -> list[str]:
    """Write the lines of every case; returns the names of those that are no longer broken."""
    unbroken = []
    for path in sorted(INVALID.glob("*.yaml")):
        result = check(path)
        if result.exit_code == 1:
            path.with_suffix(".txt").write_text(result.stderr, encoding="utf-8")
        else:
            unbroken.append(path.name)
    return unbroken


if __name__ == "__main__":
    os.chdir(ROOT)
    os.environ.pop("DATASETS", None)
    names = record()
    sys.exit(f"no problem in {', '.join(names)}" if names else 0)
