"""Messages from chats that imessage-exporter wrote as text.

The files are read twice: to learn who writes, and for the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from runner.errors import DataError
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files, is_utf8
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._imessage_file import Entry, entries, read
from runner.steps.preprocess._reading import Unreadable

ADVICE = "Export with imessage-exporter -f txt and put the .txt files in."
NOTE = "imessage-exporter files have no message ids, reply targets or time zone."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker, author (the same), time, text, reply_to (null), edited, and
    with `speaker:` role.

    Raises DataError, all problems together, where files are of another program, or where the speaker is not there.
    """
    files, others = chat_files(step, (".txt",))
    problems = [refusal(file, "a chat of imessage-exporter") for file in files if looks(file)[1] != "imessage"]
    problems += [] if files else [nothing_here(step, others, "chat of imessage-exporter", ADVICE)]
    if problems:
        raise DataError(*problems)
    size = sum(file.size for file in files)
    with out.progress("inspecting", size) as advance:
        people = _people(files, advance)
    speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
    unreadable = Unreadable(step, out)
    with out.progress("writing rows", size) as advance:
        rows = _chat.judged(_messages(files, unreadable, advance), days)
        written = _chat.write(step, out, people, speaker, rows)
    return _chat.facts(written, {"files": len(files)}, [NOTE])


def _people(files: list[ChatFile], advance: Advance) -> People:
    people = People()
    for file in files:
        for entry in entries(file, advance):
            if entry.sender:
                people.see(entry.sender, entry.sender, speech=read(entry.body)[0] is None, has_id=False)
    return people


def _messages(files: list[ChatFile], unreadable: Unreadable, advance: Advance) -> Iterator[_chat.Said]:
    for file in files:
        for number, entry in enumerate(entries(file, advance)):
            whole = "\n".join(entry.body)
            if not entry.time or not is_utf8(whole):
                wrong = "not UTF-8" if entry.time else "before the first message"
                unreadable.reject(f"{file.name}:{entry.line}", wrong, whole)
                continue
            unreadable.read += 1
            yield _said(file, entry, number)
    unreadable.finish()


def _said(file: ChatFile, entry: Entry, number: int) -> _chat.Said:
    reason, text, edited = read(entry.body)
    name = str(PurePosixPath(file.name).with_suffix(""))
    return _chat.Said(
        id=hashlib.sha256(f"{file.name}\n{number}".encode()).hexdigest()[:20],
        source=f"{file.name}:{entry.line}",
        conversation=name,
        channel=name.rpartition("/")[2],
        speaker=entry.sender,
        author=entry.sender,
        time=entry.time,
        text=text,
        dropped=reason if entry.sender else "system message",
        edited=edited,
    )
