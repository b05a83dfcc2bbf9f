"""`export: dataset`: rows as a file that others read: JSON Lines, a JSON list, CSV, Parquet, or a save_to_disk folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features

from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import Out, Step
from runner.steps.export._place import deliver

Rows = Callable[[], Iterator[Row]]


def run(step: Step, out: Out) -> dict[str, Any]:
    """One file a part (or one folder with all of them), in the order of the rows. Raises DataError where a row does not
    fit the format."""
    kept = step.params.get("keep")
    parts = {part: _reader(step, part, kept) for part in step.parts() or (None,)}
    form = step.params["format"]
    counts = {part or "rows": sum(1 for _ in rows()) for part, rows in parts.items()}
    if not sum(counts.values()):
        raise StepError(f"{step.name}.from: no rows to export.")
    names = []
    if form == "arrow":
        names = [step.params["file"]]
        _save_to_disk(parts, out.folder / names[0])
    else:
        for part, rows in parts.items():
            name = f"{part or step.params['file']}.{SUFFIXES[form]}"
            WRITERS[form](rows, out.folder / name)
            names.append(name)
    deliver(step, out, names)
    lines = [[part, count] for part, count in counts.items()]
    return {"metrics": counts, "tables": [{"title": ", ".join(names), "columns": ["part", "rows"], "rows": lines}]}


def _reader(step: Step, part: str | None, kept: list[str] | None) -> Rows:
    def read() -> Iterator[Row]:
        for row in step.rows(part):
            if kept is None:
                yield row
                continue
            missing = [name for name in kept if name not in row]
            if missing:
                raise DataError(
                    f"{where(row)}: has no column {missing[0]!r}, which keep: names. It has: {', '.join(row)}."
                )
            yield {name: row[name] for name in kept}

    return read


def _jsonl(rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows())


def _json(rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for at, row in enumerate(rows()):
            file.write((",\n" if at else "\n") + json.dumps(row, ensure_ascii=False, allow_nan=False))
        file.write("\n]\n")


def _csv(rows: Rows, path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows() for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows():
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _table(rows: Rows, name: str) -> Dataset:
    # Types are those of all rows, and not of the first thousand
    first = list(islice(rows(), 1))
    if not first:
        return Dataset.from_list([])
    try:
        return Dataset.from_list(list(rows()))
    except (TypeError, ValueError) as error:  # pyarrow's errors are kinds of both
        why = str(error).splitlines()[0]
        said = f"the rows do not fit into a table: {why}"
        raise DataError(f"{name}: {said}. Use format: jsonl, or make the columns alike.") from error


def _parquet(rows: Rows, path: Path) -> None:
    _table(rows, path.name).to_parquet(str(path))


def _save_to_disk(parts: dict[str | None, Rows], folder: Path) -> None:
    if list(parts) == [None]:
        _table(parts[None], folder.name).save_to_disk(str(folder))
        return
    tables = {str(part): _table(rows, str(part)) for part, rows in parts.items()}
    features: Features = next(table.features for table in tables.values() if table.features)
    DatasetDict(
        {part: table if len(table) else Dataset.from_list([], features=features) for part, table in tables.items()}
    ).save_to_disk(str(folder))


SUFFIXES = {"jsonl": "jsonl", "json": "json", "csv": "csv", "parquet": "parquet"}
WRITERS: dict[str, Callable[[Rows, Path], None]] = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet}
