"""Messages from WhatsApp chats, exported by phones of any make and in any language, as text files or in archives.

Rows are written once all files are read: only then is it known who writes and how dates are written.
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
from runner.steps.preprocess._batches import Batches
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files, is_utf8
from runner.steps.preprocess._chat_looks import nothing_here
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._whatsapp_dates import iso_clock, iso_day
from runner.steps.preprocess._whatsapp_file import Chat, inspect

ADVICE = "Export one in WhatsApp (Export chat) and put the .txt or .zip in."
NOTE = "WhatsApp exports have no message ids, replies or time zone. Rows keep the order of the file."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker, author (the same), time, text, reply_to (null), edited, and
    with `speaker:` role.

    Raises DataError, all problems together, where files are no WhatsApp chats or of doubtful dates, or where the
    speaker is not there.
    """
    files, others = chat_files(step, (".txt",))
    with Batches(out.folder) as batches:
        with out.progress("reading", sum(file.size for file in files)) as advance:
            chats = _inspect(step, files, others, batches, advance)
        people = _people(chats)
        speaker, days = _chat.speaker(step, people, "name"), _chat.days(step)
        unreadable = Unreadable(step, out)
        rows = _chat.judged(_messages(chats, unreadable), days)
        total = sum(person.messages for person in people.people.values())
        written = _chat.write(step, out, people, speaker, rows, total)
    doubtful = [chat for chat in chats if chat.told]
    notes = [
        f"{chat.file.name}: '{chat.layout.example}' is read {chat.order}, as date_order says." for chat in doubtful
    ]
    facts = _chat.facts(written, {"files": len(files)}, [NOTE, *notes[:20]])
    orders = [[chat.file.name, chat.layout.example, chat.order] for chat in chats]
    facts["tables"].append({"title": "Dates", "columns": ["file", "first", "read"], "rows": orders[:20]})
    return facts


def _inspect(
    step: Step, files: list[ChatFile], others: list[ChatFile], batches: Batches, advance: Advance
) -> list[Chat]:
    chats: list[Chat] = []
    problems: list[str] = []
    for file in files:
        try:
            chat = inspect(file, batches.section(), advance)
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


def _messages(chats: list[Chat], unreadable: Unreadable) -> Iterator[_chat.Said]:
    for chat in chats:
        begin, order, longer = f"{chat.file.name}\n", chat.order, chat.longer
        file, conversation, channel = chat.file.name, chat.conversation, chat.channel
        names: dict[str, str] = {}
        for number, found in enumerate(chat.found):
            (line, day, clock, half, text), head, start, reason, words, edited = found
            source = f"{file}:{line}"
            date, hour = (iso_day(day, order), iso_clock(clock, half)) if day else (None, None)
            if date is None or hour is None or not (text.isascii() or is_utf8(text)):
                wrong = "the time is no time" if date is None or hour is None else "not UTF-8"
                unreadable.reject(source, wrong if day else "before the first message", text)
                continue
            unreadable.read += 1
            name = names.get(head)
            if name is None:
                name = names[head] = longer.get(head, head).strip(marks.BIDI)
            if head in longer:
                reason, words, edited = marks.read(text[len(longer[head]) + 2 :])
            elif words is None:
                words = text[start:]
            own = hashlib.sha256(f"{begin}{number}".encode()).hexdigest()[:20]
            yield reason, own, source, conversation, channel, name, name, date + hour, words, None, edited
    unreadable.finish()
