from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import headers


def written(folder: Path, files: dict[str, Any]) -> list[str] | None:
    made = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        made += [path] if not name.startswith("README") else []
    return headers.columns(folder, headers.choose(folder, sorted(made), []))


@pytest.mark.parametrize(
    ("files", "columns"),
    [
        ({"a.csv": 'type,"a, b"\n1,2\n'}, ["type", "a, b"]),
        ({"a.csv": "\ufefftype;posts\r\n1;2\r\n"}, ["type", "posts"]),
        ({"a.csv": "type\tposts\n".encode("utf-16")}, ["type", "posts"]),
        ({"a.tsv": "a, b\tc\n"}, ["a, b", "c"]),
        ({"a.csv": ",x\n"}, ["column_1", "x"]),
        ({"a.jsonl": '{"a": 1, "b": NaN}\n{"c": 1}\n'}, ["a", "b"]),
        ({"a.json": '[\n {"a": 1,\n "b": 2}]'}, ["a", "b"]),
        ({"a.json": '{"a": 1}\n{"a": 2}\n'}, ["a"]),
        ({"LICENSE": "MIT", "a.csv": "x\n"}, ["x"]),
        ({"a.json": "{\n"}, None),
        ({"a.parquet": b"PAR1"}, None),
        ({"a.parquet": b"PAR1", "README.md": "---\ncolumns: [a, b]\n---\n"}, ["a", "b"]),
        ({"README.md": "---\ncolumns:\n  a: text\n  b: number\n---\nWords.\n"}, ["a", "b"]),
        ({"README.md": "---\ntitle: x\n---\n"}, None),
        ({"README.md": "# No front matter\n"}, None),
        ({"README.md": "---\ncolumns: [a\n---\n"}, None),
        ({"a.jsonl": '{"a": 1}\n', "README.md": "---\ncolumns: [a, b]\n---\n"}, ["a", "b"]),
        ({"a.csv": "a\n", "README.md": "---\ncolumns: [a, b]\n---\n"}, ["a"]),
        ({}, None),
    ],
)
def test_the_columns_are_known_from_the_first_lines(tmp_path, files, columns):
    assert written(tmp_path, files) == columns


def test_a_saved_datasets_columns_are_in_its_papers(tmp_path):
    info = json.dumps({"features": {"text": {}, "label": {}}})
    files = {"dataset_dict.json": '{"splits": ["train"]}', "train/dataset_info.json": info, "train/state.json": "{}"}
    assert written(tmp_path, {**files, "train/data-00000-of-00001.arrow": b""}) == ["text", "label"]
    assert headers.columns(tmp_path, [tmp_path / "train/data-00000-of-00001.arrow"]) == ["text", "label"]


def test_patterns_choose_files_by_name_or_path(tmp_path):
    files = [tmp_path / name for name in ("LICENSE", "a.csv", "sub/b.csv", "sub/c.txt")]
    assert headers.choose(tmp_path, files, ["sub/*", "LICENSE"]) == [files[0], files[2], files[3]]
    assert headers.choose(tmp_path, files, ["*.csv"]) == files[1:3]
    assert headers.choose(tmp_path, files, []) == files[1:]


def test_nothing_heavy_is_loaded():
    code = (
        "import sys, runner.headers; print([m for m in ('pyarrow', 'datasets', 'torch', 'jinja2') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
