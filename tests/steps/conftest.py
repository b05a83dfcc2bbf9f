"""Runs one kind on a few rows or files, as the executor would."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner import schema
from runner.files import Row, read_rows
from runner.step import WHOLE, Input, Out, Step


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
    """`run_kind("preprocess.split", {"test": 0.1}, rows=[...])`; the rest goes to Step.

    `rows` may be {part: rows}, or [rows, rows] for several steps; `inputs` are rows for other keys: {"folds": rows}.
    """

    def run(
        kind: str, params: dict[str, Any], rows: Any = (), inputs: dict[str, Any] | None = None, **more: Any
    ) -> Ran:
        verb, name = kind.split(".")
        held = schema.fragment(verb, name)
        unknown = params.keys() - held["properties"].keys()
        assert not unknown, f"not in the schema: {unknown}"
        came, made = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
        step = Step(
            name=name,
            verb=verb,
            kind=name,
            params=schema.defaults(held, params),
            artifacts=more.pop("artifacts", made),
            inputs={key: _inputs(came / key, value) for key, value in {"from": rows, **(inputs or {})}.items()},
            **more,
        )
        out = Out(made)
        try:
            facts = importlib.import_module(f"runner.steps.{kind}").run(step, out)
        finally:
            out.close()
        return Ran(facts, made)

    return run


def _inputs(folder: Path, rows: Any) -> tuple[Input, ...]:
    several = rows if isinstance(rows, list) and rows and isinstance(rows[0], list) else [rows]
    made = []
    for number, one in enumerate(several):
        place = folder / str(number)
        place.mkdir(parents=True)
        for part, entries in (one if isinstance(one, dict) else {WHOLE: one}).items():
            text = "".join(json.dumps(row) + "\n" for row in entries)
            (place / f"{part}.jsonl").write_text(text, encoding="utf-8")
        made.append(Input(f"before{number or ''}", place))
    return tuple(made)
