"""What kind of table a file is and which columns it has, from its first lines: enough to check a recipe.

The reader of tables uses the same rules, so that what `check` promises is what a run finds.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from runner.errors import RunnerError
from runner.strict_yaml import parse

HEAD = 1 << 20
LONGEST_FIELD = 1 << 24  # characters; an unclosed quote may swallow no more than this
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}
FORMS = {".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "lines", ".ndjson": "lines", ".json": "json"}
FORMS |= {".parquet": "parquet", ".arrow": "arrow"}
PAPERS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "CITATION")  # papers that lie beside data
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def choose(folder: Path, files: Iterator[Path] | tuple[Path, ...] | list[Path], patterns: list[str]) -> list[Path]:
    """The files whose path in the folder, or whose name, fits one of the patterns; without patterns all but papers."""
    if not patterns:
        return [path for path in files if not path.name.upper().startswith(PAPERS)]
    named = [(path, path.relative_to(folder).as_posix()) for path in files]
    return [path for path, inside in named if any(fnmatch(inside, one) or fnmatch(path.name, one) for one in patterns)]


def columns(
    folder: Path, files: list[Path], encoding: str | None = None, delimiter: str | None = None
) -> list[str] | None:
    """The columns of the tables in a folder, as the first of the files names them; None where only a run can tell.

    A README with `columns:` in its front matter (a list of names, or a mapping with the names as keys) speaks for a
    folder whose data is not there, and adds what the first line of JSON may lack.
    """
    declared = _declared(folder / "README.md")
    first = files[0] if files else None
    try:
        found = _first(first, folder, encoding, delimiter) if first else None
    except (OSError, ValueError, LookupError, RunnerError, csv.Error):
        return declared
    if found is None or declared is None or (first and form(first) == "csv"):
        return found or declared
    return list(dict.fromkeys([*found, *declared]))


def _first(path: Path, folder: Path, encoding: str | None, delimiter: str | None) -> list[str] | None:
    if info := saved_dataset(path):
        features = json.loads((info / "dataset_info.json").read_text(encoding="utf-8")).get("features")
        return list(features) if isinstance(features, dict) else None
    kind = form(path)
    if kind == "csv":
        return header(path, encoding or encoding_of(path), delimiter)
    if kind in ("lines", "list"):
        row = _first_object(path, kind)
        return list(row) if row else None
    return None


def saved_dataset(path: Path) -> Path | None:
    """The folder written by Hugging Face's save_to_disk that a file belongs to, or that its dictionary names first."""
    if path.name == "dataset_dict.json":
        splits = json.loads(path.read_text(encoding="utf-8")).get("splits") or [""]
        return path.parent / str(splits[0])
    held = path.parent
    return held if (held / "state.json").is_file() and (held / "dataset_info.json").is_file() else None


def _first_object(path: Path, kind: str) -> dict[str, Any] | None:
    with path.open(encoding=encoding_of(path), errors="surrogateescape") as stream:
        head = stream.read(HEAD)
    start = head.find("{")
    if start < 0:
        return None
    row = json.JSONDecoder().raw_decode(head, start)[0]
    return row if isinstance(row, dict) else None


def form(path: Path) -> str:
    """csv, lines (JSON Lines), list (a JSON list of objects), parquet, arrow; '' for anything else.

    A file that ends in .json may hold any of the JSON forms: its first line tells.
    """
    made = FORMS.get(path.suffix.lower(), "")
    if made != "json":
        return made
    with path.open(encoding=encoding_of(path), errors="replace") as stream:
        head = stream.read(HEAD).lstrip()
    if head.startswith("["):
        return "list"
    line = head.split("\n", 1)[0].strip()
    whole = line.endswith("}") or len(line) > HEAD // 2
    return "lines" if head.startswith("{") and len(line) > 1 and whole else ""


def encoding_of(path: Path) -> str:
    """UTF-16 where the byte order mark says so, else UTF-8 with or without one."""
    with path.open("rb") as stream:
        return "utf-16" if stream.read(2) in UTF16 else "utf-8-sig"


def header(path: Path, encoding: str, delimiter: str | None) -> list[str]:
    """The names in the first row of a CSV file. A column without a name gets its number."""
    with open_text(path, encoding) as stream:
        head = stream.read(HEAD)
    names = [name.strip() for name in _first_row(head, delimiter or sniff(path, head))]
    return [name or f"column_{place}" for place, name in enumerate(names, 1)]


def open_text(path: Path, encoding: str) -> IO[str]:
    """A text file whose line ends stay as they are; bytes that are not in the encoding become lone surrogates."""
    errors = "strict" if encoding.startswith("utf-16") else "surrogateescape"
    return path.open(encoding=encoding, errors=errors, newline="")


def sniff(path: Path, head: str) -> str:
    """The delimiter that cuts the first row into most fields."""
    choices = DELIMITERS.get(path.suffix.lower(), ",")
    return max(choices, key=lambda one: len(_first_row(head, one)))


def _first_row(head: str, delimiter: str) -> list[str]:
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    return next((row for row in rows if row), [])


def _declared(readme: Path) -> list[str] | None:
    """`columns:` in the front matter of a README: a list of names, or a mapping by name."""
    if not readme.is_file():
        return None
    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return None
    try:
        front = parse(text[4 : text.index("\n---", 3) + 1], str(readme))
    except RunnerError:
        return None
    held = front.get("columns") if isinstance(front, dict) else None
    return [str(name) for name in held] if isinstance(held, list | dict) else None
