"""How long the everyday commands take: `make bench`. The best of five runs each, so that a busy machine counts less."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNNER = [sys.executable, "-m", "runner"]
COMMANDS = {
    "make (help)": ["make"],
    "make check": ["make", "check"],
    "python -m runner check": [*RUNNER, "check"],
    "make plan": ["make", "plan"],
    "make list": ["make", "list"],
    "make preprocess, nothing to do": ["make", "preprocess"],
}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall-clock time of one run, which must succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as artifacts:
        environment = os.environ | {"ARTIFACTS": artifacts, "PERSONA_PYTHON": sys.executable}
        seconds(["make", "preprocess"], environment)
        for name, command in COMMANDS.items():
            print(f"{name:32} {min(seconds(command, environment) for _ in range(5)) * 1000:6.0f} ms")


if __name__ == "__main__":
    main()
