"""Messages from a Messenger or Instagram download, encrypted chats too, in every conversation oldest first.

The files are read twice: to learn who writes and which way the times run, and for the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from runner.errors import DataError
from runner.files import dumps
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._messenger_file import ITEM, Thread, moment, said, thread, values
from runner.steps.preprocess._reading import Unreadable

ADVICE = "Download your information (messages only) in the format JSON, not HTML, and put it in."
WANTED = "a Messenger or Instagram chat"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker, author (the same), time, text, reply_to (null), edited (false),
    and with `speaker:` role.

    Raises DataError, all problems together, where chats are of another program or not whole, or where the speaker is
    not there.
    """
    files, skipped = _files(step)
    size = sum(file.size for file in files)
    people = People()
    with out.progress("inspecting", size) as advance:
        threads = _inspect(files, people, advance)
    speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
    unreadable = Unreadable(step, out)
    with out.progress("writing rows", size) as advance:
        rows = _all_rows(out, threads, days, unreadable, advance)
        written = _chat.write(step, out, people, speaker, rows)
    notes = [f"{skipped} JSON files that hold no chat were not read."] if skipped else []
    return _chat.facts(written, {"files": len(files), "threads": len(threads)}, notes)


def _files(step: Step) -> tuple[list[ChatFile], int]:
    """The files with chats, and how many JSON files hold something else, as there are many in a download."""
    found: list[ChatFile] = []
    problems: list[str] = []
    files, others = chat_files(step, (".json",))
    for file in files:
        kind = looks(file)[1]
        if kind == "messenger":
            found.append(file)
        elif kind or file.name.split("/")[-1].startswith("message_"):
            problems.append(refusal(file, WANTED))
    if not found and not problems:
        problems.append(nothing_here(step, [*others, *files], "Messenger or Instagram chat", ADVICE))
    if problems:
        raise DataError(*problems)
    return found, len(files) - len(found)


def _inspect(files: list[ChatFile], people: People, advance: Advance) -> dict[str, list[Thread]]:
    """The files of each conversation, the oldest first."""
    threads: dict[str, list[Thread]] = {}
    for file in files:
        held = _learn(file, people, advance)
        threads.setdefault(held.conversation, []).append(held)
    for parts in threads.values():
        parts.sort(key=lambda part: (part.first, part.last, part.file.name))
    problems = [line for parts in threads.values() for line in _told_twice(parts)]
    if problems:
        raise DataError(*problems)
    return threads


def _learn(file: ChatFile, people: People, advance: Advance) -> Thread:
    """Read a file once: its conversation, which way its times run, who writes."""
    about: dict[str, Any] = {}
    held = Thread(file, "", "")
    for place, value in values(file, advance):
        if place != ITEM:
            about[place] = value
            continue
        message = _read(value, held)
        if isinstance(message, str):
            continue
        if message.dropped != "system message":
            people.see(message.author, message.speaker, speech=not message.dropped, has_id=False)
        held.see(moment(value))
    return thread(held, about)


def _told_twice(parts: list[Thread]) -> Iterator[str]:
    for one, other in pairwise(parts):
        if other.first < one.last:
            yield (
                f"{other.file.shown}:1: covers the same time of '{one.channel}' as {one.file.shown}. "
                "Keep one: messages have no ids to tell them apart."
            )


def _read(value: Any, held: Thread) -> _chat.Said | str:
    """A message, or why it cannot be read."""
    try:
        return said(value, held)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return f"not as the service writes it ({type(error).__name__}: {error})"


def _all_rows(
    out: Out, threads: dict[str, list[Thread]], days: _chat.Days, unreadable: Unreadable, advance: Advance
) -> Iterator[_chat.Judged]:
    for parts in threads.values():
        for part in parts:
            rows = _chat.judged(_messages(part, unreadable, advance), days)
            yield from _chat.backwards(rows, out) if part.newest_first else rows
    unreadable.finish()


def _messages(part: Thread, unreadable: Unreadable, advance: Advance) -> Iterator[_chat.Said]:
    same: Counter[str] = Counter()  # of one moment: messages that are alike still differ in id
    last = -1
    for place, value in values(part.file, advance):
        if place != ITEM:
            continue
        message = _read(value, part)
        if isinstance(message, str):
            unreadable.reject(part.file.name, message, dumps(value))
            continue
        unreadable.read += 1
        if moment(value) != last:
            last = moment(value)
            same.clear()
        same[message.id] += 1
        message.id += f"-{same[message.id]}" if same[message.id] > 1 else ""
        yield message
