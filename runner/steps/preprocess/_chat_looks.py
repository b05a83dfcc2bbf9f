"""What a file looks like that is no export of the program whose exports are read, and which kind reads it."""

from __future__ import annotations

import codecs
import re
from io import BytesIO

from runner.step import Step
from runner.steps.preprocess._chat_files import ChatFile
from runner.steps.preprocess._json_stream import walk
from runner.steps.preprocess._reading import shown

HEAD = 1 << 16
CHATS = (".json", ".jsonl", ".txt", ".csv")
_DATE = r"\d{1,4}[-/.]\s?\d{1,2}[-/.]\s?\d{1,4}\.?,?\s"
_TEXTS = (
    (r"={62}\r?\nGuild: ", "a Discord export", "discord"),
    (r'"?Author ?ID"?[,;]"?Author"?[,;]"?Date"?[,;]', "a Discord export", "discord"),
    (r"[A-Z][a-z]{2} \d\d, \d{4} [ \d]\d:\d\d:\d\d [AP]M", "a chat of imessage-exporter", "imessage"),
    (rf"[\u200e\u200f]?\[{_DATE}|{_DATE}.{{3,20}} [-–] ", "a WhatsApp chat", "whatsapp"),
    (r"(?i:<(?:!doctype|html|head)\b)", "a web page", None),
)
# The keys that tell a JSON file, of a list those of its first entry.
_OBJECTS = (
    ({"guild", "channel"}, "a Discord export", "discord"),
    ({"participants", "messages"}, "a Messenger or Instagram export", "messenger"),
    ({"type", "id", "messages"}, "a Telegram export", "telegram"),
    ({"chats"}, "a Telegram export", "telegram"),
    ({"about", "personal_information"}, "a Telegram export", "telegram"),
    ({"about", "contacts"}, "a Telegram export", "telegram"),
    ({"character_name"}, "a SillyTavern chat", "sillytavern"),
    ({"first_mes"}, "a character card", "character_card"),
    ({"spec", "data"}, "a character card", "character_card"),
    ({"messages"}, "dialogues for training", "messages"),
    ({"conversations"}, "dialogues for training", "messages"),
)
_LISTS = (
    ({"ts"}, "a day of a Slack export", "slack"),
    ({"ID", "Timestamp"}, "Discord's own data package, which has one person's messages only", None),
    ({"conversations"}, "dialogues for training", "messages"),
    ({"messages"}, "dialogues for training", "messages"),
)


class _Shallow:
    def __contains__(self, place: object) -> bool:
        return "." not in str(place)


def top(head: bytes) -> tuple[bool, set[str]]:
    """Whether the beginning of a JSON file is that of a list, and the first keys: its own, or its first entry's."""
    places: list[str] = []
    try:
        for place, _ in walk(BytesIO(head), _Shallow()):
            places.append(place)
            if places.count("item") > 1:
                break
    except ValueError:
        pass  # the head ends inside the file; a file that is damaged is told so when all of it is read
    if "item" in places:
        return True, {place.removeprefix("item.") for place in places if place.startswith("item.")}
    return head.lstrip()[:1] == b"[", {place for place in places if place and "." not in place}


def looks(file: ChatFile) -> tuple[str, str | None]:
    """What a file looks like, and the kind that reads it or None."""
    with file.open() as stream:
        head = stream.read(HEAD).removeprefix(codecs.BOM_UTF8)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "text saved as UTF-16 by an editor", None
    text = head.decode("utf-8", "replace").lstrip()
    if text[:1] in ("{", "[") and (text[:1] == "{" or not re.match(_TEXTS[3][0], text)):
        return _json(*top(head))
    for pattern, words, kind in _TEXTS:
        if re.match(pattern, text):
            return words, kind
    return ("empty" if not text else "not JSON" if file.ending == ".json" else "other text"), None


def _json(is_list: bool, keys: set[str]) -> tuple[str, str | None]:
    for wanted, words, kind in _LISTS if is_list else _OBJECTS:
        if keys >= wanted:
            return words, kind
    if is_list:
        return "a list" + (" of objects with the keys " + ", ".join(sorted(keys)[:6]) if keys else ""), None
    return ("an object with the keys " + ", ".join(sorted(keys)[:6]) if keys else "not JSON"), None


def refusal(file: ChatFile, wanted: str) -> str:
    """The line that refuses a file: `wanted` is what it should be."""
    words, kind = looks(file)
    advice = f"Use preprocess: {kind}, or move it out of the folder." if kind else "Move it out of the folder."
    return f"{file.shown}:1: not {wanted}: it looks like {words}. {advice}"


def nothing_here(step: Step, others: list[ChatFile], wanted: str, advice: str) -> str:
    """The line for a folder that holds none of what is wanted, with what the first chat of another kind in it is."""
    assert step.folder is not None, "the key folder names a dataset folder"
    for file in others:
        words, kind = looks(file) if file.ending in CHATS else ("", None)
        if kind:
            return f"{file.shown}:1: no {wanted}: it looks like {words}. Use preprocess: {kind}, or move it out."
    names = ", ".join(file.name for file in others[:3]) + (" and more" if len(others) > 3 else "")
    return f"{shown(step.folder)}: no {wanted} here" + (f" (only {names}). " if others else ". ") + advice
