"""Exports of Telegram Desktop, of one chat or of all, read as a stream: a file may be larger than the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

from runner.errors import DataError
from runner.steps.preprocess._chat import Said
from runner.steps.preprocess._chat_files import Advance, ChatFile, Counted
from runner.steps.preprocess._json_stream import OPEN, walk

LISTS = ("chats", "left_chats")
CHATS = ("", *(f"{name}.list.item" for name in LISTS))
MESSAGES = {f"{place}.messages.item".lstrip("."): place for place in CHATS}
ENTER = {*CHATS, *LISTS, *(f"{name}.list" for name in LISTS), *(place.removesuffix(".item") for place in MESSAGES)}
_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\x([0-9A-Fa-f]{2})")
_NAMELESS = {"saved_messages": "Saved Messages", "replies": "Replies"}
EPOCH = datetime.fromisoformat("1970-01-01")  # without an offset, as the times that are compared with it
DELETED = "Deleted Account"
_OFFSET = re.compile(r"[+-]\d\d:\d\d(?::\d\d)?$")


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat of an export. Its `id` is a part of the ids of its messages, which are unique in one chat only."""

    id: str
    name: str
    is_bot: bool


def mend(text: str) -> str:
    r"""JSON of what Telegram writes: control characters as \x1F, which is no JSON."""
    return _ESCAPE.sub(r"\1\\u00\2", text) if "\\x" in text else text


def messages(file: ChatFile, advance: Advance) -> Iterator[tuple[Chat, dict[str, Any]]]:
    """Every message as it stands, with its chat. Raises DataError where the file is not whole."""
    count = 0
    about: dict[str, Any] = {}
    chat = Chat("", "", False)
    try:
        with file.open() as stream:
            for place, value in walk(Counted(stream, advance), ENTER, mend):
                if place in MESSAGES:
                    count += 1
                    yield chat, value
                elif value is OPEN:
                    about = {} if place in CHATS else about
                    chat = _chat(about) if place.endswith("messages") else chat
                else:
                    about[place.rpartition(".")[2]] = value
    except ValueError as error:
        raise DataError(
            f"{file.shown}:1: cut off or damaged: it stops being JSON after {count} messages ({error}). Export it again."
        ) from error


def _chat(about: dict[str, Any]) -> Chat:
    kind = str(about.get("type") or "")
    return Chat(str(about.get("id", "")), str(about.get("name") or _NAMELESS.get(kind, DELETED)), kind == "bot_chat")


def said(chat: Chat, value: dict[str, Any], name: str) -> Said:
    """A message; `name` is its file. Raises KeyError, TypeError or ValueError where it is not as Telegram writes it."""
    own, kind = f"{chat.id}-{value['id']}", value["type"]
    author, speaker = _author(value)
    told = kind != "unsupported"
    return (
        _reason(value, kind),
        own,
        f"{name}#{own}",
        chat.id,
        chat.name,
        speaker,
        author,
        _time(value) if told else None,
        _text(value) if told else "",
        _answered(chat, value),
        "edited" in value or "edited_unixtime" in value,
    )


def without_offset(message: Said) -> Said:
    """The message with its local time only."""
    dropped, own, source, conversation, channel, speaker, author, time, text, reply_to, edited = message
    local = time and _OFFSET.sub("", time)
    return dropped, own, source, conversation, channel, speaker, author, local, text, reply_to, edited


def _answered(chat: Chat, value: dict[str, Any]) -> str | None:
    other = value.get("reply_to_message_id")
    if not other:
        return None
    peer = value.get("reply_to_peer_id")
    return f"{re.sub(r'[^0-9]', '', str(peer)) if peer else chat.id}-{other}"


def _author(value: dict[str, Any]) -> tuple[str, str]:
    """The author's id, or the name in exports that have none, and the name."""
    known = value.get("from_id", value.get("actor_id"))
    name = str(value.get("from") or value.get("actor") or DELETED)
    if known is None:
        return name, name
    return f"user{known}" if isinstance(known, int) else str(known), name  # old exports write the number only


def has_offset(value: dict[str, Any]) -> bool:
    """Whether a message tells its absolute time; exports of before 2022 do not."""
    return "date_unixtime" in value


def _time(value: dict[str, Any]) -> str:
    """The local time; with its offset where the export tells both the local time and the absolute one."""
    if "date" not in value:
        return (EPOCH + timedelta(seconds=int(value["date_unixtime"]))).isoformat() + "+00:00"
    local = datetime.fromisoformat(value["date"])
    if not has_offset(value):
        return local.isoformat()
    return local.isoformat() + _offset(round(((local - EPOCH).total_seconds() - int(value["date_unixtime"])) / 60))


@cache
def _offset(minutes: int) -> str:
    """An offset from UTC as ISO 8601. Raises ValueError where it is a day or more: the two times are not of one message."""
    return datetime(1970, 1, 1, tzinfo=timezone(timedelta(minutes=minutes))).isoformat()[19:]


def _text(value: dict[str, Any]) -> str:
    """The text; parts with a meaning (links, bold) stand in it as they were typed, with nothing between them."""
    parts = value.get("text_entities") or value.get("text") or ""
    if isinstance(parts, str):
        return parts
    return "".join([part if isinstance(part, str) else part["text"] for part in parts])


def _reason(value: dict[str, Any], kind: Any) -> str | None:
    if kind == "service":
        return "system message"
    if kind != "message":
        return "unsupported message"
    if "forwarded_from" in value or "forwarded_from_id" in value:
        return "forwarded"
    if value.get("via_bot"):
        return "written by a bot"
    return None if value.get("text") or value.get("text_entities") else "no text (media only)"
