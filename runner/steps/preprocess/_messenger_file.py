"""Files of Messenger and Instagram chats: the ones of a data download, and the ones of end-to-end encrypted chats."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from runner.errors import DataError
from runner.steps.preprocess._batches import Section
from runner.steps.preprocess._chat import Said
from runner.steps.preprocess._chat_files import Advance, ChatFile, Counted
from runner.steps.preprocess._chat_times import utc
from runner.steps.preprocess._json_stream import walk

ENTER, ITEM = ("", "messages"), "messages.item"
FIRST, LAST = -62135596800_000, 253402300799_999  # of the calendar, in milliseconds since 1970
NOTICES = {"Call", "Subscribe", "Unsubscribe"}
# What the services write in place of a message, after the sender's name or "You", or alone. Other languages have their
# own; English ones are by far the most common, as the download follows the account's language.
_AFTER_NAME = (
    r"sent an attachment\.|sent a (?:photo|video|link|sticker|GIF|voice message|live location|location)\.|liked a message"
    r"|(?:created|voted for|removed (?:a|the) vote|changed (?:a|the|your) vote|added) .{0,300}in the poll\.?|created a poll.{0,300}"
    r"|this poll is no longer available\.|(?:named|renamed) the group.{0,300}|changed the (?:group|chat) (?:photo|name|theme).{0,200}"
    r"|changed the theme.{0,100}|(?:set|cleared) (?:the|your|his|her|their|its) (?:own )?(?:nickname|emoji|quick reaction).{0,300}"
    r"|set the nickname for .{0,300}|set the (?:emoji|quick reaction) to .{1,30}|turned (?:on|off) .{0,100}"
    r"|(?:added|removed) .{1,300} (?:to|from) the group\.?|left the (?:group|chat)\.?|joined the (?:video )?(?:call|chat)\.?"
    r"|started (?:a|an|the) (?:audio |video )?(?:call|chat)\.?|started sharing (?:video|location)\.?|ended the (?:call|chat)\.?"
    r"|missed (?:your|a|an) (?:audio |video )?(?:call|chat).{0,50}|called (?:you|.{1,80})\.|(?:un)?pinned a message\.?"
    r"|unsent a message\.?|replied to your (?:story|note).{0,20}|reacted .{1,20} to .{1,300}|waved at .{1,80}"
    r"|hat (?:einen Anhang|ein Foto|ein Video) gesendet\.|ha(?:s)? enviado un archivo adjunto\.|envió un archivo adjunto\."
    r"|a envoyé une pièce jointe\.|ha inviato un allegato\.|enviou um anexo\.|heeft een bijlage verzonden\."
)
_ALONE = re.compile(
    r"Liked a message|Reacted .{1,20} to (?:your|a|their|his|her) message\s?|You can now (?:message|call) .{0,200}"
    r"|The (?:video|audio )?\s?(?:call|chat) (?:has )?ended\.|(?:Video|Audio) (?:call|chat) ended|This poll is no longer available\."
    r"|Messages and calls are (?:secured|protected) with end-to-end encryption\..{0,200}|Mag eine Nachricht|A aimé un message"
    r"|Le gustó un mensaje|Curtiu uma mensagem|Ha messo mi piace a un messaggio"
)
_NAMED = re.compile(_AFTER_NAME, re.DOTALL)
_YOU = re.compile(r"(?:You|Du|Vous|Tú|Hai|Você) ")
# What every notice begins with: most texts are told by it, as the patterns would take long.
_STARTS = (
    *(
        "Liked a",
        "Reacted ",
        "You ",
        "Du ",
        "Vous ",
        "Tú ",
        "Hai ",
        "Você ",
        "The ",
        "Video ",
        "Audio ",
        "This poll",
        "Messages and",
    ),
    *("Mag eine", "A aimé", "Le gustó", "Curtiu", "Ha messo"),
)


# A message: milliseconds since 1970, sender, text, and why it is dropped or None.
Sent = tuple[int, str, str, str | None]


@dataclass
class Thread:
    """A file before its rows are written. `first` and `last` are milliseconds since 1970, of its ends in time."""

    file: ChatFile
    sent: Section
    conversation: str = ""
    channel: str = ""
    first: int = 0
    last: int = 0
    before: int | None = None
    rises: int = 0
    falls: int = 0

    def see(self, milliseconds: int) -> None:
        """Learn from the time of the next message."""
        if self.before is None:
            self.before = self.first = self.last = milliseconds
        if milliseconds < self.before:
            self.falls += 1
            self.first = min(self.first, milliseconds)
        elif milliseconds > self.before:
            self.rises += 1
            self.last = max(self.last, milliseconds)
        self.before = milliseconds

    @property
    def newest_first(self) -> bool:
        return self.falls > self.rises


def repaired(text: str) -> str:
    """The text whose every byte was taken for a letter, as both services write them; any other text as it is."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def values(file: ChatFile, advance: Advance) -> Iterator[tuple[str, Any]]:
    """What stands in a file, message by message. Raises DataError where it is not whole."""
    count = 0
    try:
        with file.open() as stream:
            for place, value in walk(Counted(stream, advance), ENTER):
                count += place == ITEM
                yield place, value
    except ValueError as error:
        raise DataError(
            f"{file.shown}:1: cut off or damaged: it stops being JSON after {count} messages ({error}). Download it again."
        ) from error


def name(held: Thread, about: dict[str, Any]) -> None:
    """Learn what it is called: its path in the download, or the name that is unique to an encrypted chat."""
    inside = str(PurePosixPath(held.file.name).with_suffix(""))
    names = [name["name"] if isinstance(name, dict) else name for name in about.get("participants") or ()]
    title = about.get("title") or re.sub(r"_\d+$", "", str(about.get("threadName") or "")) or ", ".join(map(str, names))
    held.conversation = repaired(str(about.get("thread_path") or about.get("threadName") or inside))
    held.channel = repaired(str(title))


def sent(value: dict[str, Any]) -> Sent:
    """A message. Raises KeyError, TypeError or ValueError where it is not as the services write it."""
    if "senderName" in value:
        sender, text, time = value["senderName"], value.get("text") or "", int(value["timestamp"])
    else:
        sender, text = repaired(value["sender_name"]), repaired(value.get("content") or "")
        time = int(value["timestamp_ms"])
    if not FIRST <= time <= LAST:
        raise OverflowError(f"no year has the time {time}")
    return time, sender, text, _reason(value, sender, text)


def said(message: Sent, number: int, held: Thread) -> Said:
    """A message of a file that is read to its end; `number` is its place among those alike and of one moment."""
    time, sender, text, dropped = message
    key = f"{held.conversation}\n{time}\n{sender}\n{text}"
    own = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    return (
        dropped,
        own if number == 1 else f"{own}-{number}",
        f"{held.file.name}#{time}",
        held.conversation,
        held.channel,
        sender,
        sender,
        utc(time * 1000),
        text,
        None,
        False,
    )


def _reason(value: dict[str, Any], sender: str, text: str) -> str | None:
    kind = value.get("type")
    if value.get("is_unsent") or value.get("isUnsent") or (kind == "placeholder" and "unsent" in text):
        return "deleted message"
    if kind in NOTICES or kind == "placeholder" or "call_duration" in value or is_notice(text, sender):
        return "system message"
    return "no text (media only)" if not text or text.isspace() else None


def is_notice(text: str, sender: str) -> bool:
    """Whether a service wrote the text, not the sender."""
    if text.startswith(f"{sender} "):
        return _NAMED.fullmatch(text, len(sender) + 1) is not None or _ALONE.fullmatch(text) is not None
    if not text.startswith(_STARTS):
        return False
    you = _YOU.match(text)
    return _ALONE.fullmatch(text) is not None or bool(you and _NAMED.fullmatch(text, you.end()))
