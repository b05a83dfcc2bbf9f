"""Messages from exports of Telegram Desktop (JSON), of one chat or of all.

Rows are written once all files are read: only then is it known who writes and which chats several files hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from runner.errors import DataError
from runner.files import dumps
from runner.step import Out, Step
from runner.steps.preprocess import _chat
from runner.steps.preprocess._batches import Batches, Section
from runner.steps.preprocess._chat_files import Advance, ChatFile, chat_files
from runner.steps.preprocess._chat_looks import looks, nothing_here, refusal
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._telegram_export import has_offset, messages, said, without_offset

ADVICE = "In Telegram Desktop choose Export, format Machine-readable JSON, and put result.json in."
NO_SPEECH = ("system message", "unsupported message")


@dataclass
class Held:
    """What the files hold: each file's messages, who writes, the files of each chat, and the chats in which some times
    have no offset, so that none may have one.
    """

    files: list[Section] = field(default_factory=list)
    people: People = field(default_factory=People)
    of: dict[str, set[str]] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)
    total: int = 0


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
    with Batches(out.folder) as batches:
        with out.progress("reading", sum(file.size for file in files)) as advance:
            held = _held(files, batches, advance)
        speaker, days = _chat.speaker(step, held.people), _chat.days(step)
        unreadable = Unreadable(step, out)
        rows = _chat.judged(_messages(step, held, unreadable), days)
        written = _chat.write(step, out, held.people, speaker, rows, held.total)
    return _chat.facts(written, {"files": len(files), "chats": len(written.conversations)})


def _held(files: list[ChatFile], batches: Batches, advance: Advance) -> Held:
    held = Held()
    for file in files:
        section = batches.section()
        held.files.append(section)
        before = None
        for chat, value in messages(file, advance):
            held.total += 1
            if chat is not before:
                held.of.setdefault(chat.id, set()).add(file.name)
                before = chat
            try:
                message = said(chat, value, file.name)
            except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
                wrong = f"not as Telegram writes it ({type(error).__name__}: {error})"
                section.add((f"{file.name}#{chat.id}", wrong, dumps(value)))
                continue
            section.add(message)
            dropped, _, _, _, _, speaker, author, _, text, _, _ = message
            if dropped not in NO_SPEECH:
                if not has_offset(value):
                    held.local.add(chat.id)
                speech = not dropped and bool(text) and not text.isspace()
                person = held.people.see(author, speaker, speech=speech)
                person.bot |= chat.is_bot and author == f"user{chat.id}"
    return held


def _messages(step: Step, held: Held, unreadable: Unreadable) -> Iterator[_chat.Said]:
    bots = {author for author, person in held.people.people.items() if person.bot and step.params["bots"] == "drop"}
    several = {chat for chat, names in held.of.items() if len(names) > 1}
    found = _chat.readable(chain.from_iterable(held.files), unreadable)
    return _changed(found, held, bots, several) if bots or several or held.local else found


def _changed(found: Iterable[_chat.Said], held: Held, bots: set[str], several: set[str]) -> Iterator[_chat.Said]:
    """The messages as what is known of all files makes them."""
    seen: set[str] = set()
    for message in found:
        dropped, own, _, chat, _, _, author, _, _, _, _ = message
        if author in bots:
            dropped = dropped or "written by a bot"
        if chat in several:
            dropped = "the same message again" if own in seen else dropped
            seen.add(own)
        kept = without_offset(message) if chat in held.local else message
        yield kept if dropped == kept[0] else (dropped, *kept[1:])
