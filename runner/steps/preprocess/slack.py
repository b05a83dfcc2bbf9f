"""Messages from a Slack export, a zip archive or its folder, in every channel oldest first.

Rows are written once all files are read: only then is it known who writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.step import Out, Step
from runner.steps.preprocess import _chat, _slack_text
from runner.steps.preprocess._batches import Batches
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._chat_times import utc
from runner.steps.preprocess._slack_export import Export, exports, messages

SPEECH = {None, "file_share", "thread_broadcast", "me_message"}


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker (the name that is shown), author (the user id), time (UTC),
    text, reply_to, edited, and with `speaker:` role.

    Raises DataError where files are no Slack export, or where the speaker is not there.
    """
    exported, people = exports(step), People()
    count = sum(len(days) for export in exported for days in export.days.values())
    with Batches(out.folder) as batches:
        found, total = batches.section(), 0
        with out.progress("reading", count) as advance:
            for export, folder in _folders(exported):
                for said in _said(step, export, folder, people):
                    found.add(said)
                    total += 1
                advance(len(export.days[folder]))
        chosen = _chat.speaker(step, people, "id or name")
        rows = _chat.judged(found, _chat.days(step))
        written = _chat.write(step, out, people, chosen, rows, total)
    return _chat.facts(written, {"files": count, "channels": len(list(_folders(exported)))})


def _folders(found: list[Export]) -> Iterator[tuple[Export, str]]:
    return ((export, folder) for export in found for folder in sorted(export.days))


def _author(export: Export, message: dict[str, Any]) -> tuple[str, str]:
    """The id and the name of who wrote a message; users of other workspaces are named in the message itself."""
    author = str(message.get("user") or message.get("bot_id") or message.get("username") or "nobody")
    name = export.people.get(author)
    if not name:
        own = message.get("user_profile") or {}
        name = str(own.get("display_name") or own.get("real_name") or message.get("username") or author)
    return author, name


def _is_bot(export: Export, message: dict[str, Any]) -> bool:
    user = message.get("user")
    return (
        message.get("subtype") == "bot_message"
        or (user or "") in export.bots
        or bool(not user and message.get("bot_id"))
    )


def _see(
    export: Export, message: dict[str, Any], people: People, author: tuple[str, str], text: str, bot: bool
) -> None:
    if bot or message.get("subtype") in SPEECH:
        person = people.see(*author, speech=not bot and bool(text) and not text.isspace())
        person.bot = bot
        also = export.also.get(author[0])
        if also and not also <= person.names:
            person.names |= also


def _said(step: Step, export: Export, folder: str, people: People) -> Iterator[_chat.Said]:
    channel, name = export.channel(folder)
    seen: set[str] = set()
    for file, time, message in messages(export.days[folder]):
        author = _author(export, message)
        text = _slack_text.said(message, export.people, export.channels)
        bot = _is_bot(export, message)
        _see(export, message, people, author, text, bot)
        stamp, thread = str(message["ts"]), message.get("thread_ts")
        own = f"{channel}-{stamp}"
        yield (
            "the same message again" if own in seen else _dropped(step, message, bot),
            own,
            f"{file.name}#{stamp}",
            f"{channel}-{thread}" if thread and step.params["threads"] == "apart" else channel,
            name,
            author[1],
            author[0],
            utc(time),
            text,
            f"{channel}-{thread}" if thread and str(thread) != stamp else None,
            bool(message.get("edited")),
        )
        seen.add(own)


def _dropped(step: Step, message: dict[str, Any], bot: bool) -> str | None:
    if bot:
        if step.params["bots"] == "drop":
            return "written by a bot"
        return None if message.get("subtype") in (*SPEECH, "bot_message") else "system message"
    return None if message.get("subtype") in SPEECH and not message.get("hidden") else "system message"
