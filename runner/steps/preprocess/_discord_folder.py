"""A folder of exports before its rows are written: which files it has, and what keeps them from being read together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from runner.errors import DataError
from runner.step import Step
from runner.steps.preprocess._batches import Batches
from runner.steps.preprocess._discord_dates import Dates
from runner.steps.preprocess._discord_export import Export
from runner.steps.preprocess._reading import shown

PART = re.compile(r" \[part (\d+)\]$")
MEDIA = "_Files"  # `--media` puts a message's files into a folder that ends so
AGAIN = "Re-export the channel as JSON (-f Json) and remove this file."
REFUSED = {
    ".html": f"an HTML export, which shows a chat and does not hold it whole. {AGAIN}",
    ".htm": f"an HTML export, which shows a chat and does not hold it whole. {AGAIN}",
    ".zip": "an archive. Unpack it here and remove it.",
}
OVERLAP = timedelta(hours=1)  # parts of one export may share an hour, when summer time ends


def exports(step: Step, batches: Batches) -> list[Export]:
    """The folder's exports, partitions in their order. Raises DataError naming every file that cannot be used."""
    assert step.folder is not None, "the key folder names a dataset folder"
    root, found, wrong = step.folder, [], []
    for path in sorted((root / path for path in step.files), key=lambda path: _natural(path.relative_to(root))):
        inside, ending = path.relative_to(root), path.suffix.lower()
        if any(folder.endswith(MEDIA) for folder in inside.parts[:-1]):
            continue
        if ending in (".json", ".txt", ".csv"):
            found.append(Export(path, inside.as_posix(), shown(path), batches.section()))
        else:
            wrong.append(
                f"{shown(path)}: {REFUSED.get(ending, 'not a DiscordChatExporter file. Move it out of the folder.')}"
            )
    if wrong:
        raise DataError(*wrong)
    if not found:
        raise DataError(f"{shown(root)}: no export here. Export channels with DiscordChatExporter -f Json into it.")
    return found


def _natural(path: Path) -> list[Any]:
    """A sort key by which part 2 comes before part 10, and both after the first part, whose name has no number."""
    part = PART.search(path.stem)
    stem = PART.sub("", path.stem)
    pieces = re.split(r"(\d+)", str(path.parent / stem))
    return [
        [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces],
        int(part[1]) if part else 1,
        path.suffix,
    ]


def channels(files: list[Export]) -> dict[str, list[Export]]:
    """The files of each channel, the first part first even where exports run backwards."""
    found: dict[str, list[Export]] = {}
    for export in files:
        found.setdefault(export.conversation, []).append(export)
    for parts in found.values():
        if sum(part.trend.falls - part.trend.rises for part in parts) > 0:
            parts.reverse()
    return found


def incomplete(export: Export) -> str | None:
    """What is wrong with the count of an export, None where all that it announces is there."""
    where = f"{export.shown}:1: "
    advice = "re-export, or set allow_incomplete: true."
    if export.announced is None:
        return f"{where}{export.found} messages found and no count at the end. The export is incomplete: {advice}"
    counts = f"{export.announced} messages announced, {export.found} found."
    if export.found < export.announced:
        return f"{where}{counts} The export is incomplete: {advice}"
    if export.found > export.announced:
        return f"{where}{counts} The file was changed, or a message looks like several: {advice}"
    return None


def decide_orders(files: list[Export], dates: dict[str, Dates], date_order: str | None) -> Iterator[str]:
    """Settle the order of day and month of every plain text file; yields a line for each that stays in doubt.

    The files of a channel are parts of one export, so that what one of them proves holds for all.
    """
    for parts in channels(files).values():
        held = [set(dates[part.name].possible) for part in parts if part.name in dates]
        common = set.intersection(*held) if held else set()
        for part in (part for part in parts if part.name in dates):
            known = dates[part.name]
            left = [order for order in known.possible if order in common] or known.possible
            if len(left) > 1 and date_order not in left:
                yield (
                    f"{part.shown}:1: '{known.first.text}' may be {' or '.join(left)}, "
                    "and nothing in the file decides it. Set date_order."
                )
            order = date_order if date_order in left else left[0]
            part.order, part.trend = str(order), known.trends[str(order)]


def told_twice(files: list[Export]) -> Iterator[str]:
    """A line for each file whose messages another one has as well, where no message ids can tell."""
    for parts in channels([export for export in files if export.conversation]).values():
        texts = [part for part in parts if not part.has_ids]
        other = next((part for part in parts if part not in texts), None)
        if other:
            yield from (
                f"{text.shown}:1: the same channel as {other.shown}. Keep the JSON export only." for text in texts
            )
        timed = [(span[0], span[-1], text) for text in texts if (span := _span(text))]
        for (_, end, first), (start, _, second) in pairwise(sorted(timed, key=lambda entry: entry[:2])):
            if end - start > OVERLAP:
                yield (
                    f"{second.shown}:1: covers the same time as {first.shown}. "
                    "Remove one, or re-export as JSON, whose ids tell messages apart."
                )


def _span(export: Export) -> list[Any]:
    """The first and the last time of a file, without offsets so that any two can be compared."""
    ends = (export.trend.first, export.trend.last)
    return sorted(end.replace(tzinfo=None) for end in ends if end)
