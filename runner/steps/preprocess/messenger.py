"""Messages from a Messenger or Instagram download, encrypted chats too, in every conversation oldest first.

Rows are written once all files are read: only then is it known who writes and which way the times run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from runner.errors import DataError
from runner.files import dumps
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._batches import Batches
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._messenger_file import ITEM, Thread, name, said, sent, values
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
    people = People()
    with Batches(out.folder) as batches:
        with out.progress("reading", sum(file.size for file in files)) as advance:
            threads = _inspect(files, batches, people, advance)
        speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
        unreadable = Unreadable(step, out)
        rows = _chat.judged(_messages(threads, unreadable), days)
        total = sum(person.messages for person in people.people.values())
        written = _chat.write(step, out, people, speaker, rows, total)
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


def _inspect(files: list[ChatFile], batches: Batches, people: People, advance: Advance) -> dict[str, list[Thread]]:
    """The files of each conversation, the oldest first."""
    threads: dict[str, list[Thread]] = {}
    for file in files:
        held = _learn(Thread(file, batches.section()), people, advance)
        threads.setdefault(held.conversation, []).append(held)
    for parts in threads.values():
        parts.sort(key=lambda part: (part.first, part.last, part.file.name))
    problems = [line for parts in threads.values() for line in _told_twice(parts)]
    if problems:
        raise DataError(*problems)
    return threads


def _learn(held: Thread, people: People, advance: Advance) -> Thread:
    """Read a file: its messages, its conversation, which way its times run, who writes."""
    about: dict[str, Any] = {}
    same: dict[tuple[str, str], int] = {}  # of one moment: messages that are alike still differ in id
    for place, value in values(held.file, advance):
        if place != ITEM:
            about[place] = value
            continue
        try:
            message = sent(value)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            wrong = f"not as the service writes it ({type(error).__name__}: {error})"
            held.sent.add((held.file.name, wrong, dumps(value)))
            continue
        time, sender, text, dropped = message
        if time != held.before:
            same = {}
        same[sender, text] = number = same.get((sender, text), 0) + 1
        held.sent.add((*message, number))
        if dropped != "system message":
            people.see(sender, sender, speech=not dropped, has_id=False)
        held.see(time)
    name(held, about)
    return held


def _told_twice(parts: list[Thread]) -> Iterator[str]:
    for one, other in pairwise(parts):
        if other.first < one.last:
            yield (
                f"{other.file.shown}:1: covers the same time of '{one.channel}' as {one.file.shown}. "
                "Keep one: messages have no ids to tell them apart."
            )


def _messages(threads: dict[str, list[Thread]], unreadable: Unreadable) -> Iterator[_chat.Said]:
    for parts in threads.values():
        for part in parts:
            for item in reversed(part.sent) if part.newest_first else part.sent:
                if len(item) == 3:
                    unreadable.reject(*item)
                else:
                    unreadable.read += 1
                    yield said(item[:4], item[4], part)
    unreadable.finish()
