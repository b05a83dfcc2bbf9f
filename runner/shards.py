"""Shares of a step: SHARD=2/3 makes the second of three, in a folder of its own; the last one puts all of them together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from runner.files import sync_folder
from runner.locks import held

Shard = tuple[int, int]


def parse(text: str) -> Shard | None:
    """'2/3' as (2, 3), None for ''. Raises ValueError where it is no share."""
    if not text:
        return None
    first, slash, last = text.partition("/")
    if not slash or not first.isdigit() or not last.isdigit() or not 1 <= int(first) <= int(last):
        raise ValueError(f"SHARD={text}: not a share. Write SHARD=1/3 for the first of three.")
    return int(first), int(last)


def folders(store: Path, key: str, of: int) -> list[Path]:
    """Where the shares of a step lie."""
    return [store / f"{key}.shard-{place}-of-{of}" for place in range(1, of + 1)]


def share(store: Path, key: str, shard: Shard, work: Callable[[Path], None], say: Callable[[str], None]) -> bool:
    """Make one share by `work(folder)`, unless it is made; whether all are made now.

    A killed share leaves its folder with .part behind, and goes on in it.
    """
    all_of_them = folders(store, key, shard[1])
    mine = all_of_them[shard[0] - 1]
    with held(mine.with_name(mine.name + ".lock"), lambda: say("another run is making this share; waiting")):
        if not mine.is_dir():
            part = mine.with_name(mine.name + ".part")
            part.mkdir(parents=True, exist_ok=True)
            work(part)
            sync_folder(part)
            os.replace(part, mine)
    made = sum(folder.is_dir() for folder in all_of_them)
    said = "all are made" if made == shard[1] else "the last one puts them together"
    say(f"share {shard[0]} of {shard[1]} is made, {made} of {shard[1]} in all; {said}")
    return made == shard[1]


def remove(store: Path, key: str) -> None:
    """Remove the shares of a step that is made."""
    for path in store.glob(f"{key}.shard-*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
