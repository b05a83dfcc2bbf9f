"""Rows of Parquet and Arrow files and of folders that Hugging Face's save_to_disk wrote, a batch at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import DataError
from runner.steps.preprocess._reading import Source, shown
from runner.steps.preprocess._table_text import NOT_A_NUMBER, Record

BATCH = 1024
MAGIC = b"ARROW1"


class _Odd(Exception):
    """A value that rows cannot hold; the text is the reason."""


def rows(source: Source, empty: bool) -> Iterator[Record]:
    """The rows of a .parquet or .arrow file, numbered from 1; with `empty` a NaN is no value.

    Raises DataError where the file is damaged or holds bytes (pictures, sound).
    """
    number = 0
    try:
        for batch in _parquet(source.path) if source.path.suffix.lower() == ".parquet" else _arrow(source.path):
            labels = _labels(batch.schema)
            for value in batch.to_pylist():
                number += 1
                yield _record(f"{source.name}#{number}", value, labels, empty)
    except (pa.ArrowException, OSError) as error:
        why = str(error).split("\n")[0].rstrip(".")
        raise DataError(f"{source.shown}: damaged after row {number} ({why}). Get the file again.") from error


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, memory_map=True) as held:
        _refuse_bytes(held.schema_arrow, path)
        yield from held.iter_batches(batch_size=BATCH)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as stream:
        if stream.read(len(MAGIC)) == MAGIC:
            file = pa.ipc.open_file(stream)
            _refuse_bytes(file.schema, path)
            batches: Any = (file.get_batch(place) for place in range(file.num_record_batches))
        else:
            stream.seek(0)
            batches = pa.ipc.open_stream(stream)
            _refuse_bytes(batches.schema, path)
        for batch in batches:
            yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


def _refuse_bytes(schema: pa.Schema, path: Path) -> None:
    held = [field.name for field in schema if "binary" in str(field.type)]
    if held:
        raise DataError(
            f"{shown(path)}: column '{held[0]}' holds bytes, no text. Drop it before, and save the file again."
        )


def _labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes, for columns that `datasets` stores as numbers of classes."""
    held = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = (held.get("info") or {}).get("features") or {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _record(at: str, value: dict[str, Any], labels: dict[str, list[str]], empty: bool) -> Record:
    for name, classes in labels.items():
        place = value.get(name)
        value[name] = classes[place] if isinstance(place, int) and 0 <= place < len(classes) else None
    try:
        return at, at, {name: _plain(item, empty) for name, item in value.items()}, "", ""
    except _Odd as error:
        return at, at, None, str(error), repr(value)


def _plain(value: Any, empty: bool) -> Any:
    """A value as JSON has it: times as ISO 8601, decimals as numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        if empty:
            return None
        raise _Odd(NOT_A_NUMBER)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(item, empty) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, empty) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _plain(float(value), empty) if value % 1 else int(value)
    raise _Odd(f"a value of type {type(value).__name__}")
