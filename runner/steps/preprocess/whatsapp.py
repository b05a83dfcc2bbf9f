"""Messages from WhatsApp chats, exported by phones of any make and in any language, as text files or in archives.

The files are read twice: to learn who writes and how dates are written, and for the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from runner.errors import DataError
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess import _whatsapp_marks as marks
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files, is_utf8
from runner.steps.preprocess._chat_looks import nothing_here
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._whatsapp_dates import iso_clock, iso_day
from runner.steps.preprocess._whatsapp_file import Chat, Entry, entries, inspect

ADVICE = "Export one in WhatsApp (Export chat) and put the .txt or .zip in."
NOTE = "WhatsApp exports have no message ids, replies or time zone. Rows keep the order of the file."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker, author (the same), time, text, reply_to (null), edited, and
    with `speaker:` role.

    Raises DataError, all problems together, where files are no WhatsApp chats or of doubtful dates, or where the
    speaker is not there.
    """
    files, others = chat_files(step, (".txt",))
    size = sum(file.size for file in files)
    with out.progress("inspecting", size) as advance:
        chats = _inspect(step, files, others, advance)
    people = _people(chats)
    speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
    unreadable = Unreadable(step, out)
    with out.progress("writing rows", size) as advance:
        rows = _chat.judged(_messages(chats, unreadable, advance), days)
        written = _chat.write(step, out, people, speaker, rows)
    doubtful = [chat for chat in chats if chat.told]
    notes = [
        f"{chat.file.name}: '{chat.layout.example}' is read {chat.order}, as date_order says." for chat in doubtful
    ]
    facts = _chat.facts(written, {"files": len(files)}, [NOTE, *notes[:20]])
    orders = [[chat.file.name, chat.layout.example, chat.order] for chat in chats]
    facts["tables"].append({"title": "Dates", "columns": ["file", "first", "read"], "rows": orders[:20]})
    return facts


def _inspect(step: Step, files: list[ChatFile], others: list[ChatFile], advance: Advance) -> list[Chat]:
    chats: list[Chat] = []
    problems: list[str] = []
    for file in files:
        try:
            chat = inspect(file, advance)
        except DataError as error:
            problems += error.lines
            continue
        chats.append(chat)
        problems += _decide_order(chat, step.params.get("date_order"))
    problems += [] if files else [nothing_here(step, others, "WhatsApp chat", ADVICE)]
    problems += [] if problems else _told_twice(chats)
    if problems:
        raise DataError(*problems)
    return chats


def _decide_order(chat: Chat, date_order: str | None) -> Iterator[str]:
    """Settle the order of day and month; yields a line where it stays in doubt."""
    left = chat.evidence.orders(chat.layout.dots)
    where, example = f"{chat.file.shown}:1: ", chat.layout.example
    if not left:
        yield f"{where}its dates ('{example}') fit no order of day, month and year since WhatsApp began."
        return
    if len(left) > 1 and date_order not in left:
        yield f"{where}'{example}' may be {' or '.join(left)}, and nothing in the file decides it. Set date_order."
    chat.told = len(left) > 1
    chat.order = date_order if date_order in left else left[0]


def _told_twice(chats: list[Chat]) -> Iterator[str]:
    """A line for each chat whose days another file of the same chat has as well, since no ids can tell."""
    for one, other in combinations(chats, 2):
        if one.channel != other.channel:
            continue
        first, second = one.evidence, other.evidence
        if first.first[one.order] <= second.last[other.order] and second.first[other.order] <= first.last[one.order]:
            yield (
                f"{other.file.shown}:1: covers the same days of '{one.channel}' as {one.file.shown}. Keep the longer one."
            )


def _people(chats: list[Chat]) -> People:
    people = People()
    for chat in chats:
        for head, count in chat.heads.items():
            name = chat.longer.get(head, head).strip(marks.BIDI)
            person = people.see(name, name, speech=False, has_id=False)
            person.messages += count
            person.names.add(name.removeprefix("~").strip())  # WhatsApp puts ~ before names that are no contacts
    return people


def _messages(chats: list[Chat], unreadable: Unreadable, advance: Advance) -> Iterator[_chat.Said]:
    for chat in chats:
        for number, entry in enumerate(entries(chat.file, chat.layout, advance)):
            source = f"{chat.file.name}:{entry.line}"
            wrong, time = _time(chat, entry)
            if wrong:
                unreadable.reject(source, wrong, entry.text)
                continue
            unreadable.read += 1
            yield _said(chat, entry, number, source, time)
    unreadable.finish()


def _time(chat: Chat, entry: Entry) -> tuple[str | None, str]:
    """Why an entry cannot be read or None, and its time."""
    if not entry.day:
        return "before the first message", ""
    day, clock = iso_day(entry.day, chat.order), iso_clock(entry.clock, entry.half)
    if day is None or clock is None:
        return "the time is no time", ""
    return None if is_utf8(entry.text) else "not UTF-8", day + clock


def _said(chat: Chat, entry: Entry, number: int, source: str, time: str) -> _chat.Said:
    name, words = chat.split(entry.text)
    name = name.strip(marks.BIDI)
    reason, text, edited = marks.read(words) if name else (marks.NOTICE, words, False)
    return _chat.Said(
        id=hashlib.sha256(f"{chat.file.name}\n{number}".encode()).hexdigest()[:20],
        source=source,
        conversation=chat.conversation,
        channel=chat.channel,
        speaker=name,
        author=name,
        time=time,
        text=text,
        dropped=reason,
        edited=edited,
    )
