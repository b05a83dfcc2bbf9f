"""A copy of what a step made at a place that the user names."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.errors import StepError
from runner.step import Out, Step

MARK = ".persona-export"


def deliver(step: Step, out: Out, names: list[str]) -> None:
    """Copy files and folders of the step to `to:`, where it is given. What an earlier export left there is replaced.

    Raises StepError, before anything is touched, where files lie there that no export made.
    """
    if not step.params.get("to"):
        return
    place = Path(step.params["to"]).expanduser()
    if place.is_file():
        raise StepError(f"{place}: is a file. Name a folder in to:.")
    held = {path.name for path in place.iterdir()} if place.is_dir() else set()
    ours = set((place / MARK).read_text(encoding="utf-8").split("\n")) if MARK in held else set()
    if held - ours - {MARK}:
        some = ", ".join(sorted(held - ours - {MARK})[:3])
        raise StepError(f"{place}: holds other files ({some}). Name an empty folder in to:, or move them away.")
    place.mkdir(parents=True, exist_ok=True)
    for name in ours & held:  # by name: what the mark says is not trusted as a path
        target = place / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    (place / MARK).write_text("\n".join(sorted(names)), encoding="utf-8")
    for name in names:
        source = out.folder / name
        shutil.copytree(source, place / name) if source.is_dir() else shutil.copy2(source, place / name)
    out.log(f"copied to {place}")
