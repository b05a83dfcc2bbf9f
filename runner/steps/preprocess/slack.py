"""Messages from a Slack export, a zip archive or its folder, in every channel oldest first.

The files are read twice: to learn who writes, and for the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from runner.step import Out, Step
from runner.steps.preprocess import _chat, _slack_text
from runner.steps.preprocess._chat_files import ChatFile
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._slack_export import Export, exports, messages

SPEECH = {None, "file_share", "thread_broadcast", "me_message"}


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker (the name that is shown), author (the user id), time (UTC),
    text, reply_to, edited, and with `speaker:` role.

    Raises DataError where files are no Slack export, or where the speaker is not there.
    """
    found, people = exports(step), People()
    count = sum(len(days) for export in found for days in export.days.values())
    with out.progress("inspecting", count) as advance:
        for export, folder in _folders(found):
            for _, _, message in messages(export.days[folder]):
                _see(export, message, people)
            advance(len(export.days[folder]))
    chosen = _chat.speaker(step, people, "id or name")
    with out.progress("writing rows", count):
        rows = _chat.judged(_said(step, found), _chat.days(step))
        written = _chat.write(step, out, people, chosen, rows)
    return _chat.facts(written, {"files": count, "channels": len(list(_folders(found)))})


def _folders(found: list[Export]) -> Iterator[tuple[Export, str]]:
    return ((export, folder) for export in found for folder in sorted(export.days))


def _author(export: Export, message: dict[str, Any]) -> tuple[str, str]:
    """The id and the name of who wrote a message; users of other workspaces are named in the message itself."""
    author = str(message.get("user") or message.get("bot_id") or message.get("username") or "nobody")
    own = message.get("user_profile") or {}
    names = (export.people.get(author), own.get("display_name"), own.get("real_name"), message.get("username"), author)
    return author, next(str(name) for name in names if name)


def _is_bot(export: Export, message: dict[str, Any]) -> bool:
    user = message.get("user")
    return (
        message.get("subtype") == "bot_message"
        or (user or "") in export.bots
        or bool(not user and message.get("bot_id"))
    )


def _see(export: Export, message: dict[str, Any], people: People) -> None:
    author, name = _author(export, message)
    if message.get("subtype") in SPEECH or _is_bot(export, message):
        bot = _is_bot(export, message)
        text = _slack_text.said(message, export.people, export.channels)
        person = people.see(author, name, speech=bool(text.strip()) and not bot)
        person.bot = bot
        person.names |= export.also.get(author, set())


def _said(step: Step, found: list[Export]) -> Iterator[_chat.Said]:
    for export, folder in _folders(found):
        channel = export.channel(folder)
        seen: set[str] = set()
        for file, moment, message in messages(export.days[folder]):
            said = _one(step, export, channel, file, moment, message)
            if said.id in seen:
                said.dropped = "the same message again"
            seen.add(said.id)
            yield said


def _one(
    step: Step, export: Export, channel: tuple[str, str], file: ChatFile, moment: datetime, message: dict[str, Any]
) -> _chat.Said:
    author, name = _author(export, message)
    stamp, thread = str(message["ts"]), message.get("thread_ts")
    apart = thread and step.params["threads"] == "apart"
    return _chat.Said(
        id=f"{channel[0]}-{stamp}",
        source=f"{file.name}#{stamp}",
        conversation=f"{channel[0]}-{thread}" if apart else channel[0],
        channel=channel[1],
        speaker=name,
        author=author,
        time=moment.isoformat(),
        text=_slack_text.said(message, export.people, export.channels),
        dropped=_dropped(step, export, message),
        reply_to=f"{channel[0]}-{thread}" if thread and str(thread) != stamp else None,
        edited=bool(message.get("edited")),
    )


def _dropped(step: Step, export: Export, message: dict[str, Any]) -> str | None:
    if _is_bot(export, message):
        if step.params["bots"] == "drop":
            return "written by a bot"
        return None if message.get("subtype") in (*SPEECH, "bot_message") else "system message"
    return None if message.get("subtype") in SPEECH and not message.get("hidden") else "system message"
