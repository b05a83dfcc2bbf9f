"""Messages from exports of Telegram Desktop (JSON), of one chat or of all.

The files are read twice: to learn who writes and which chats several files hold, and for the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.errors import DataError
from runner.files import dumps
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._telegram_export import Chat, has_offset, messages, said

ADVICE = "In Telegram Desktop choose Export, format Machine-readable JSON, and put result.json in."


@dataclass
class Held:
    """What is known of the folder before its rows are written: who writes, the files of each chat, and the chats in
    which some times have no offset, so that none may have one.
    """

    people: People = field(default_factory=People)
    files: dict[str, set[str]] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker, author (the account id), time, text, reply_to, edited, and with
    `speaker:` role.

    Raises DataError, all problems together, where files are no Telegram exports or not whole, or where the speaker is
    not there.
    """
    files, others = chat_files(step, (".json",))
    problems = [refusal(file, "a Telegram export") for file in files if looks(file)[1] != "telegram"]
    problems += [] if files else [nothing_here(step, others, "Telegram export", ADVICE)]
    if problems:
        raise DataError(*problems)
    size = sum(file.size for file in files)
    with out.progress("inspecting", size) as advance:
        held = _inspect(files, advance)
    speaker, days = _chat.speaker(step, held.people), _chat.days(step)
    unreadable = Unreadable(step, out)
    with out.progress("writing rows", size) as advance:
        rows = _rows(step, files, held, days, unreadable, advance)
        written = _chat.write(step, out, held.people, speaker, rows)
    return _chat.facts(written, {"files": len(files), "chats": len(written.conversations)})


def _inspect(files: list[ChatFile], advance: Advance) -> Held:
    held = Held()
    for file in files:
        for chat, value in messages(file, advance):
            held.files.setdefault(chat.id, set()).add(file.name)
            message = _read(chat, value, file, local=False)
            if isinstance(message, _chat.Said) and message.dropped not in ("system message", "unsupported message"):
                speech = not message.dropped and bool(message.text.strip())
                held.local |= set() if has_offset(value) else {chat.id}
                person = held.people.see(message.author, message.speaker, speech=speech)
                person.bot |= chat.is_bot and message.author == f"user{chat.id}"
    return held


def _read(chat: Chat, value: Any, file: ChatFile, local: bool) -> _chat.Said | str:
    """A message, or why it cannot be read."""
    try:
        return said(chat, value, file.name, local)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return f"not as Telegram writes it ({type(error).__name__}: {error})"


def _rows(
    step: Step,
    files: list[ChatFile],
    held: Held,
    days: _chat.Days,
    unreadable: Unreadable,
    advance: Advance,
) -> Iterator[_chat.Judged]:
    no_bots = step.params["bots"] == "drop"
    seen: set[str] = set()
    for file in files:
        for chat, value in messages(file, advance):
            message = _read(chat, value, file, chat.id in held.local)
            if isinstance(message, str):
                unreadable.reject(f"{file.name}#{chat.id}", message, dumps(value))
                continue
            unreadable.read += 1
            if no_bots and not message.dropped and (found := held.people.people.get(message.author)) and found.bot:
                message.dropped = "written by a bot"
            if len(held.files[chat.id]) > 1:
                message.dropped = "the same message again" if message.id in seen else message.dropped
                seen.add(message.id)
            yield from _chat.judged([message], days)
    unreadable.finish()
