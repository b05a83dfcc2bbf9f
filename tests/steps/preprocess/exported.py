"""What the tests of all readers of chats share: files written, the step run on them, what came of it in short."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DataError


def on_folder(kind: str) -> Callable[..., Any]:
    """`run_folder(run_kind, folder, speaker="Ann")` runs the reader on all files of a folder."""

    def run_folder(run_kind: Callable[..., Any], folder: Path, **params: Any) -> Any:
        files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
        return run_kind(f"preprocess.{kind}", {"folder": "datasets/me", **params}, folder=folder, files=files)

    return run_folder


def reader(kind: str) -> Any:
    """The fixture `read`: `read({"a.txt": "...", "b.json": {...}}, speaker="Ann")` writes the files and runs the reader."""

    @pytest.fixture
    def read(run_kind: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
        def run(files: dict[str, Any], **params: Any) -> Any:
            for name, content in files.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                raw = json.dumps(content) if isinstance(content, dict | list) else content
                path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
            return on_folder(kind)(run_kind, tmp_path, **params)

        return run

    return read


def failure(read: Callable[..., Any], files: dict[str, Any], tmp_path: Path, **params: Any) -> list[str]:
    """The lines of the error, paths as seen from the folder, which itself is FOLDER."""
    with pytest.raises(DataError) as caught:
        read(files, **params)
    return str(caught.value).replace(f"{tmp_path}/", "").replace(str(tmp_path), "FOLDER").splitlines()


def texts(ran: Any) -> list[str]:
    return [row["text"] for row in ran.rows()]


def reasons(ran: Any) -> Counter[str]:
    return Counter(reason for reason, _ in ran.rejected)
