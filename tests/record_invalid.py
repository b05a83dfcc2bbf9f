"""Writes anew what `check` says of the broken recipes: python -m tests.record_invalid. Read the difference before it is kept.

Run it after a message has changed. Every case that says nothing, or only warns, is named: it is broken no more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INVALID = Path("tests/recipes/invalid")


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """`python -m runner check` of one recipe in the project's folder, as a user runs it."""
    command = [sys.executable, "-m", "runner", "check", str(path)]
    held = {key: value for key, value in os.environ.items() if key != "DATASETS"}
    return subprocess.run(command, cwd=ROOT, env=held, capture_output=True, text=True, encoding="utf-8", check=False)


def main() -> int:
    unbroken = []
    for path in sorted((ROOT / INVALID).glob("*.yaml")):
        result = checked(path.relative_to(ROOT))
        path.with_suffix(".txt").write_text(result.stderr, encoding="utf-8")
        if result.returncode != 1:
            unbroken.append(f"{path.name}: exit code {result.returncode}\n")
    sys.stderr.writelines(unbroken)
    return 1 if unbroken else 0


if __name__ == "__main__":
    sys.exit(main())
