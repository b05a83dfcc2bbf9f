"""Messages from chats that imessage-exporter wrote as text.

Rows are written once all files are read: only then is it known who writes.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Any

from runner.errors import DataError
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._batches import Batches, Section
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files, is_utf8
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._imessage_file import entries, read
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
    people = People()
    with Batches(out.folder) as batches:
        found = batches.section()
        with out.progress("reading", sum(file.size for file in files)) as advance:
            for file in files:
                _learn(file, people, found, advance)
        speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
        unreadable = Unreadable(step, out)
        rows = _chat.judged(_chat.readable(found, unreadable), days)
        total = sum(person.messages for person in people.people.values())
        written = _chat.write(step, out, people, speaker, rows, total)
    return _chat.facts(written, {"files": len(files)}, [NOTE])


def _learn(file: ChatFile, people: People, found: Section, advance: Advance) -> None:
    """Read a file: who writes, and into `found` what they say and what cannot be read."""
    name = str(PurePosixPath(file.name).with_suffix(""))
    channel = name.rpartition("/")[2]
    for number, entry in enumerate(entries(file, advance)):
        time, sender, body = entry.time, entry.sender, entry.body
        reason, text, edited = read(body)
        if sender:
            people.see(sender, sender, speech=reason is None, has_id=False)
        else:
            reason = "system message"
        source = f"{file.name}:{entry.line}"
        if not time or not all(map(is_utf8, body)):
            found.add((source, "not UTF-8" if time else "before the first message", "\n".join(body)))
            continue
        own = hashlib.sha256(f"{file.name}\n{number}".encode()).hexdigest()[:20]
        found.add((reason, own, source, name, channel, sender, sender, time, text, None, edited))
