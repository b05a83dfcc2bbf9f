"""Runs one kind on a few rows or files, as the executor would."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.files import Row, read_rows
from runner.step import WHOLE, Input, Out, Step

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a step left behind."""

    facts: dict[str, Any]
    folder: Path

    def rows(self, part: str = WHOLE) -> list[Row]:
        return list(read_rows(self.folder / f"{part}.jsonl"))

    @property
    def rejected(self) -> list[tuple[str, Row]]:
        path = self.folder / "rejected.jsonl"
        return [(entry["reason"], entry["row"]) for entry in read_rows(path)] if path.exists() else []


RunKind = Callable[..., Ran]


@pytest.fixture(scope="session")
def run_kind(tmp_path_factory: pytest.TempPathFactory) -> RunKind:
    """`run_kind("preprocess.split", {"test": 0.1}, rows=[...])`; `rows` may be {part: rows}. The rest goes to Step."""

    def run(kind: str, params: dict[str, Any], rows: Any = (), **more: Any) -> Ran:
        verb, name = kind.split(".")
        schema = json.loads((ROOT / f"schemas/steps/{verb}/{name}.json").read_text(encoding="utf-8"))
        unknown = params.keys() - schema["properties"].keys()
        assert not unknown, f"not in the schema: {unknown}"
        defaults = {key: entry["default"] for key, entry in schema["properties"].items() if "default" in entry}
        came, made = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
        for part, entries in (rows if isinstance(rows, dict) else {WHOLE: rows}).items():
            text = "".join(json.dumps(row) + "\n" for row in entries)
            (came / f"{part}.jsonl").write_text(text, encoding="utf-8")
        step = Step(
            name=name,
            verb=verb,
            kind=name,
            params={**defaults, **params},
            artifacts=made,
            inputs={"from": (Input("before", came),)},
            **more,
        )
        out = Out(made)
        try:
            facts = importlib.import_module(f"runner.steps.{kind}").run(step, out)
        finally:
            out.close()
        return Ran(facts, made)

    return run
