"""Runs one kind with several inputs or with `columns:`, which `run_kind` has no room for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from runner import schema
from runner.files import Row, RowWriter, read_rows
from runner.step import WHOLE, Input, Out, Step


def shape(
    folder: Path, kind: str, params: dict[str, Any], inputs: dict[str, Any], **more: Any
) -> tuple[dict[str, Any], list[Row]]:
    """The facts and the rows of a step; `inputs` are {key of the step: rows or [rows, rows] or {part: rows}}."""
    held = {}
    for number, (key, value) in enumerate(inputs.items()):
        several = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
        made = [_written(folder / f"in-{number}-{place}", rows) for place, rows in enumerate(several)]
        held[key] = tuple(Input(f"before{place}", path) for place, path in enumerate(made))
    (folder / "out").mkdir(exist_ok=True)
    filled = schema.defaults(schema.fragment("preprocess", kind), params)
    step = Step(kind, "preprocess", kind, filled, folder / "artifacts", inputs=held, **more)
    out = Out(folder / "out")
    try:
        facts = importlib.import_module(f"runner.steps.preprocess.{kind}").run(step, out)
    finally:
        out.close()
    path = folder / "out" / f"{WHOLE}.jsonl"
    return facts, list(read_rows(path)) if path.is_file() else []


def _written(folder: Path, rows: Any) -> Path:
    folder.mkdir()
    for part, entries in (rows if isinstance(rows, dict) else {WHOLE: rows}).items():
        with RowWriter(folder / f"{part}.jsonl") as writer:
            writer.write_all(entries)
    return folder
