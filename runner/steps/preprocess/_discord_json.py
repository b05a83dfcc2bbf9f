"""JSON exports of DiscordChatExporter, read as a stream: a file may be larger than the memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import ijson

from runner.errors import DataError
from runner.steps.preprocess._discord_export import Advance, Export, Message, People

BLOCK = 1 << 18
HEAD = 1 << 16
SPEECH = {"Default", "Reply", "20"}  # 20 is the answer to a slash command; every other kind is a notice by Discord


def inspect(export: Export, people: People, advance: Advance) -> None:
    """Read a file once: its channel, how many messages it announces and has, their direction, and who writes.

    Raises DataError where it is not an export, or not whole JSON.
    """
    _refuse_others(export)
    for value in _values(export, "messages.item", advance):
        export.found += 1
        message = _message(export, value)
        export.trend.see(message.time)
        people.see(message, has_id=True)
    channel = next(_values(export, "channel"), None)
    count = next(_values(export, "messageCount"), None)
    if not isinstance(channel, dict) or "id" not in channel:
        raise DataError(f"{export.shown}:1: no channel. Re-export it with DiscordChatExporter.")
    export.conversation, export.channel = str(channel["id"]), str(channel.get("name", ""))
    export.announced = count if isinstance(count, int) else None


def messages(export: Export, advance: Advance) -> Iterator[Message]:
    """The messages of an inspected file, in its order."""
    for value in _values(export, "messages.item", advance):
        yield _message(export, value)


@dataclass(frozen=True)
class _Counted:
    """A stream that tells how much of it was read."""

    stream: IO[bytes]
    advance: Advance

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.advance(len(block))
        return block


def _values(export: Export, unit: str, advance: Advance = lambda amount: None) -> Iterator[Any]:
    """What stands at one place of the file; the parser's own path, 'messages.item'."""
    with export.path.open("rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            stream.seek(0)
        try:
            yield from ijson.items(_Counted(stream, advance), unit, buf_size=BLOCK, use_float=True)
        except ijson.JSONError as error:
            why = " ".join(str(error).split("\n")[0].split())
            raise DataError(
                f"{export.shown}:1: cut off or damaged: it stops being JSON after {export.found} messages ({why}). "
                "Re-export it."
            ) from error


def _message(export: Export, value: dict[str, Any]) -> Message:
    try:
        author, moment = value["author"], datetime.fromisoformat(value["timestamp"])
        name, number = author["name"], author.get("discriminator") or "0000"
        made = Message(
            id=str(value["id"]),
            source=f"{export.name}#{value['id']}",
            author=str(author["id"]),
            name=name,
            full_name=name if number.strip("0") == "" else f"{name}#{number}",
            nickname=author.get("nickname"),
            bot=bool(author.get("isBot")),
            system=str(value.get("type", "Default")) not in SPEECH,
            forwarded=bool(value.get("forwardedMessage")),
            time=moment,
            text=value["content"] or "",
            reply_to=(value.get("reference") or {}).get("messageId"),
            edited=bool(value.get("timestampEdited")),
            pinned=bool(value.get("isPinned")),
            attachments=tuple(item.get("fileName") or item["url"] for item in value.get("attachments") or ()),
        )
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
    return made


def _refuse_others(export: Export) -> None:
    """Say what a JSON file of another program looks like."""
    keys, is_list = _root(export.path)
    if is_list:
        looks = "a list, like a day of a Slack export or Discord's own data package"
    elif keys >= {"participants", "messages"}:
        looks = "a Messenger or Instagram export"
    elif keys >= {"name", "type", "id"} or "chats" in keys:
        looks = "a Telegram export"
    elif keys:
        looks = "an object with the keys " + ", ".join(sorted(keys)[:6])
    else:
        looks = "not JSON"
    if "guild" not in keys:
        raise DataError(
            f"{export.shown}:1: not a DiscordChatExporter file: it looks like {looks}. Move it out of the folder."
        )


def _root(path: Path) -> tuple[set[str], bool]:
    """The first keys of a JSON file, and whether it is a list."""
    with path.open("rb") as stream:
        head = BytesIO(stream.read(HEAD).removeprefix(codecs.BOM_UTF8))
    keys: set[str] = set()
    try:
        for prefix, event, value in ijson.parse(head):
            if prefix == "" and event == "start_array":
                return keys, True
            if prefix == "" and event == "map_key":
                keys.add(value)
    except ijson.JSONError:
        return keys, False  # the head ends inside the file; a file that is damaged is told so when all of it is read
    return keys, False
