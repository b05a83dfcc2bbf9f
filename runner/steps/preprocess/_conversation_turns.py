"""From the messages of one conversation to turns that alternate, and from a long conversation to pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from runner.files import Row


@dataclass(slots=True)
class Heard:
    """One message: its row, its role, and the seconds since the one before it (0 where a time is missing)."""

    row: Row
    role: str
    gap: float

    @property
    def author(self) -> Any:
        return self.row.get("author") or self.row.get("speaker")


@dataclass(slots=True)
class Turn:
    """What one side says until the other side answers. `first` is the row that it begins with."""

    role: str
    first: Row
    content: str
    speakers: list[str] = field(default_factory=list)


def turns(heard: list[Heard], merge: float, names: str) -> list[Turn]:
    """Turns whose roles alternate.

    Messages of one author at most `merge` seconds apart are joined with a line break. A turn may hold several such
    utterances: of one author after a pause, an empty line between them; of several authors, a line each.
    """
    others = {entry.author for entry in heard if entry.role == "user"}
    named = names == "always" or (names == "auto" and len(others) > 1)
    made: list[Turn] = []
    before: Heard | None = None
    for entry in heard:
        speaker = str(entry.row.get("speaker") or "")
        prefix = f"{speaker}: " if named and entry.role == "user" else ""
        if before is None or before.role != entry.role:
            made.append(Turn(entry.role, entry.row, prefix + entry.row["text"], [speaker]))
        else:
            same = before.author == entry.author
            if same and entry.gap <= merge:
                joined = "\n" + entry.row["text"]
            else:
                joined = ("\n\n" if same and not prefix else "\n") + prefix + entry.row["text"]
            made[-1].content += joined
            made[-1].speakers += [] if speaker in made[-1].speakers else [speaker]
        before = entry
    return made


def trim(made: list[Turn]) -> tuple[list[Turn], int, int]:
    """From the first user turn to the last assistant turn, and how many turns were cut before and after.

    Many chat templates refuse a dialogue that the assistant opens, and after its last turn there is nothing to learn.
    """
    first = 0 if made[0].role == "user" else 1
    last = len(made) if made[-1].role == "assistant" else len(made) - 1
    return made[first:last], first, len(made) - last


def cut(made: list[Turn], window: int | None) -> list[list[Turn]]:
    """Pieces of at most `window` turns, of about the same length, each from a user turn to an assistant turn."""
    pairs = len(made) // 2
    most = window // 2 if window else pairs
    count = -(-pairs // most)
    ends = [2 * (pairs * piece // count) for piece in range(count + 1)]
    return [made[start:end] for start, end in pairwise(ends)]


def word_count(made: list[Turn]) -> int:
    return sum(len(turn.content.split()) for turn in made)
