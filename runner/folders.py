"""Dataset folders: where they lie and what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from runner.fields import walk
from runner.problems import Problems, suggest
from runner.references import Node


def dataset_folder(folder: str) -> Path:
    """Where a `folder:` lies: below DATASETS where that is set and the path begins with datasets/, else as written."""
    root = os.environ.get("DATASETS")
    parts = Path(folder).parts
    return Path(root, *parts[1:]) if root and parts and parts[0] == "datasets" else Path(folder)


def data_files(folder: Path) -> list[Path]:
    """A dataset folder's data: every file but README* and hidden ones, sorted by path."""
    return sorted(_files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = (name for name in files if not name.startswith(".") and not name.upper().startswith("README"))
        yield from (Path(base, name) for name in names)


def check_folder(node: Node, problems: Problems) -> None:
    """A step's dataset folder is there and holds data, or a README that says where to get it; the files that its keys
    name (x-file) are there too."""
    for found in walk(node.body, node.fragment):
        if found.schema.get("x-file") and not Path(str(found.value)).is_file():
            advice = "Paths begin where make is called."
            problems.add(found.mark, f"{node.where}.{found.path}: no file '{found.value}'. {advice}")
    if node.folder is None:
        return
    folder, where = dataset_folder(node.folder), f"{node.where}.folder"
    if not _is_folder(folder):
        hint = suggest(node.folder, _siblings(node.folder, folder), "Folders") or " Make it and put the data in it."
        problems.add(node.mark("folder"), f"{where}: no folder '{node.folder}'.{hint}")
    elif not any(_files(folder)) and not _front_matter(folder):
        advice = "Put the files there, or a README.md whose front matter says where to get them."
        problems.add(node.mark("folder"), f"{where}: '{node.folder}' holds no data. {advice}")


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # a name that no file system takes
        return False


def _siblings(named: str, folder: Path) -> list[str]:
    above = folder.parent
    held = [path.name for path in above.iterdir() if path.is_dir()] if _is_folder(above) else []
    return [(Path(named).parent / name).as_posix() for name in held if not name.startswith(".")]


def _front_matter(folder: Path) -> bool:
    readme = folder / "README.md"
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith("---\n")
