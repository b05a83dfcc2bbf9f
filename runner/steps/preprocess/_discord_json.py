"""JSON exports of DiscordChatExporter, read as a stream: a file may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from runner.errors import DataError
from runner.steps.preprocess._chat_files import ChatFile, Counted
from runner.steps.preprocess._chat_looks import HEAD, refusal, top
from runner.steps.preprocess._discord_export import Accounts, Advance, Export, Message
from runner.steps.preprocess._json_stream import walk

ENTER, ITEM = ("", "messages"), "messages.item"
SPEECH = {"Default", "Reply", "20"}  # 20 is the answer to a slash command; every other kind is a notice by Discord


def inspect(export: Export, accounts: Accounts, advance: Advance) -> None:
    """Read a file: its channel, how many messages it announces and has, their direction, who writes, and what.

    Raises DataError where it is not an export, or not whole JSON.
    """
    _refuse_others(export)
    root: dict[str, Any] = {}
    for place, value in _values(export, advance):
        if place != ITEM:
            root[place] = value
            continue
        export.found += 1
        export.messages.add(_message(export, accounts, value))
    channel, count = root.get("channel"), root.get("messageCount")
    if not isinstance(channel, dict) or "id" not in channel:
        raise DataError(f"{export.shown}:1: no channel. Re-export it with DiscordChatExporter.")
    export.conversation, export.channel = str(channel["id"]), str(channel.get("name", ""))
    export.announced = count if isinstance(count, int) else None


def _values(export: Export, advance: Advance) -> Iterator[tuple[str, Any]]:
    with export.path.open("rb") as stream:
        try:
            yield from walk(Counted(stream, advance), ENTER)
        except ValueError as error:
            raise DataError(
                f"{export.shown}:1: cut off or damaged: it stops being JSON after {export.found} messages ({error}). "
                "Re-export it."
            ) from error


def _message(export: Export, accounts: Accounts, value: dict[str, Any]) -> Message:
    try:
        moment = datetime.fromisoformat(value["timestamp"])
        made = _made(export, accounts, value, moment)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{export.shown}:1: message {export.found} is not as DiscordChatExporter writes it ({error!r}). "
            "Re-export it."
        ) from error
    if moment.tzinfo is None:
        raise DataError(
            f"{export.shown}:1: message {export.found} has a time without an offset ({value['timestamp']}). "
            "Re-export it."
        )
    export.trend.see(moment)
    return made


def _made(export: Export, accounts: Accounts, value: dict[str, Any], moment: datetime) -> Message:
    own, author, text = str(value["id"]), value["author"], value["content"] or ""
    by, name, number = str(author["id"]), author["name"], author.get("discriminator") or "0000"
    nickname = author.get("nickname")
    reply_to = (value.get("reference") or {}).get("messageId")
    attachments = [item.get("fileName") or item["url"] for item in value.get("attachments") or ()]
    dropped = accounts.see(
        by,
        name,
        name if number.strip("0") == "" else f"{name}#{number}",
        text,
        has_id=True,
        nickname=nickname,
        bot=bool(author.get("isBot")),
        system=str(value.get("type", "Default")) not in SPEECH,
        forwarded=bool(value.get("forwardedMessage")),
    )
    edited, pinned = bool(value.get("timestampEdited")), bool(value.get("isPinned"))
    source = f"{export.name}#{own}"
    return dropped, own, source, by, nickname, moment.isoformat(), text, reply_to, edited, pinned, attachments


def _refuse_others(export: Export) -> None:
    """Say what a JSON file of another program looks like."""
    file = ChatFile(export.path, export.name, 0)
    with file.open() as stream:
        _, keys = top(stream.read(HEAD))
    if "guild" not in keys:
        raise DataError(refusal(file, "a DiscordChatExporter file"))
