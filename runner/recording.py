"""step.json: what a step was given, what came out, and where and with what it was made."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from runner.files import count_rows, file_digest, read_rows
from runner.keys import Spec
from runner.step import UNREAD

NOT_OUTPUT = ("step.json", "step.log", "side.jsonl")  # what may differ from run to run
_PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "openai",
    "jinja2",
)


def record(
    plan: dict[str, Any], spec: Spec, root: Path, part: Path, facts: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """step.json: what was given, what came out, and where and with what it was made."""
    outputs = {
        str(path.relative_to(part)): file_digest(path)
        for path in sorted(part.rglob("*"))
        if path.is_file() and path.name not in NOT_OUTPUT
    }
    rows = {
        Path(name).stem: count_rows(part / name)
        for name in outputs
        if name.endswith(".jsonl") and "/" not in name and name not in UNREAD
    }
    rejected = (
        Counter(row["reason"] for row in read_rows(part / "rejected.jsonl"))
        if "rejected.jsonl" in outputs
        else Counter()
    )
    return {
        "key": spec["key"],
        "spec": spec,
        "recipe": plan["recipe"],
        "outputs": outputs,
        "rows": {"in": _rows_in(spec, root), "out": rows, "dropped": dict(sorted(rejected.items()))},
        "facts": facts,
        "seconds": round(seconds, 2),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime()),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES if name in sys.modules},
        },
        "commit": _commit(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
    }


def _rows_in(spec: Spec, root: Path) -> int | None:
    counts = []
    for one in spec["inputs"].get("from", []):
        out = json.loads((root / "store" / one["key"] / "step.json").read_text(encoding="utf-8"))["rows"]["out"]
        counts.append(out.get(one["part"], 0) if one["part"] else sum(out.values()))
    return sum(counts) if counts else None


@cache
def _version(package: str) -> str:
    return metadata.version(package)


@cache
def _commit() -> str | None:
    """The git commit of the working folder, None outside a repository."""
    try:
        said = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() or None
