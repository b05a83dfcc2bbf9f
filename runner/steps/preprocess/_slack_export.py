"""A Slack export: its users and channels, and its days, each a file of messages in a folder named like the channel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from runner.errors import DataError
from runner.step import Step
from runner.steps.preprocess._chat_files import ChatFile, chat_files
from runner.steps.preprocess._chat_looks import refusal
from runner.steps.preprocess._reading import refuse, shown

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
CHANNELS = ("channels.json", "groups.json", "dms.json", "mpims.json")
USERS = ("users.json", "org_users.json")
STAMP = re.compile(r"(\d{1,12})(?:\.(\d{1,6}))?")
LARGEST = 1 << 28


@dataclass
class Export:
    """One export of the folder: the days of each channel folder, and the names of people and channels by id."""

    root: str
    days: dict[str, list[ChatFile]] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    also: dict[str, set[str]] = field(default_factory=dict)
    bots: set[str] = field(default_factory=set)
    channels: dict[str, str] = field(default_factory=dict)

    def channel(self, folder: str) -> tuple[str, str]:
        """The id and the name of the channel whose days lie in a folder."""
        name = PurePosixPath(folder).name
        found = next((key for key, held in self.channels.items() if name in (held, key)), name)
        return found, self.channels.get(found, name)


def exports(step: Step) -> list[Export]:
    """The exports of the folder, zipped or not. Raises DataError where files are no part of one."""
    files, _ = chat_files(step, (".json",))
    found: dict[str, Export] = {}
    problems = []
    for file in files:
        path = PurePosixPath(file.name)
        if DAY.fullmatch(path.stem):
            root = str(path.parent.parent)
            found.setdefault(root, Export(root)).days.setdefault(str(path.parent), []).append(file)
    for file in files:
        path = PurePosixPath(file.name)
        export = found.get(str(path.parent))
        if export and path.name in (*CHANNELS, *USERS):
            _names(export, file, path.name)
        elif not DAY.fullmatch(path.stem) and not any(path.is_relative_to(root) for root in found):
            problems.append(refusal(file, "part of a Slack export"))
    if not found and not problems:
        where = shown(step.folder) if step.folder else ""
        problems.append(f"{where}: no Slack export here. Put the .zip that Slack made into it.")
    problems += [
        f"{_where(step, export)}: days of messages and no {USERS[0]} beside their folders: no Slack export, or part of one. "
        "Put the whole export here."
        for export in found.values()
        if not export.people and not export.channels
    ]
    refuse(problems)
    return [found[root] for root in sorted(found)]


def _where(step: Step, export: Export) -> str:
    return shown(step.folder / export.root) if step.folder else export.root


def _names(export: Export, file: ChatFile, name: str) -> None:
    for entry in load(file):
        key = str(entry.get("id") or "")
        if name in CHANNELS:
            export.channels[key] = str(entry.get("name") or key)
            continue
        profile = entry.get("profile") or {}
        names = [profile.get("display_name"), profile.get("real_name"), entry.get("real_name"), entry.get("name")]
        export.people[key] = next((str(one) for one in names if one), key)
        export.also[key] = {str(one) for one in names if one}
        if entry.get("is_bot") or key == "USLACKBOT":
            export.bots.add(key)


def load(file: ChatFile) -> list[dict[str, Any]]:
    """A file's list of objects. Raises DataError where it is none, or larger than any day of messages."""
    if file.size > LARGEST:
        raise DataError(f"{file.shown}: {file.size} bytes: no day of messages is so long. Move it out of the folder.")
    with file.open() as stream:
        raw = stream.read()
    try:
        held = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.shown}: not JSON ({error}). Export it again.") from error
    if not isinstance(held, list) or not all(isinstance(entry, dict) for entry in held):
        raise DataError(refusal(file, "part of a Slack export"))
    return held


def messages(days: list[ChatFile]) -> Iterator[tuple[ChatFile, int, dict[str, Any]]]:
    """A channel's messages with their times (microseconds since 1970), oldest first. Raises DataError where one has none."""
    for file in sorted(days, key=lambda file: PurePosixPath(file.name).stem):
        found = []
        for place, message in enumerate(load(file), 1):
            stamp = STAMP.fullmatch(str(message.get("ts")))
            if not stamp:
                raise DataError(f"{file.shown}: message {place} has no ts: not as Slack writes it. Export it again.")
            found.append((int(stamp[1] + (stamp[2] or "").ljust(6, "0")), place, message))
        found.sort()
        yield from ((file, moment, message) for moment, _, message in found)
