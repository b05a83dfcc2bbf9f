"""Chats of SillyTavern: JSON Lines, a header and then a message a line, with the answers that were swiped away."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from runner.errors import DataError
from runner.headers import open_text
from runner.steps.preprocess._json_stream import line_decoder
from runner.steps.preprocess._reading import Source
from runner.steps.preprocess._table_text import CONFLICT, OTHER_BYTES, Conflicts, decoded

_decode = line_decoder(json.JSONDecoder())
OTHERS = (
    ({"histories"}, "an export of CAI Tools"),
    ({"data_visible"}, "a chat of oobabooga's web UI"),
    ({"messages"}, "a chat of Agnai, or dialogues for training (preprocess: messages)"),
    ({"spec", "data"}, "a character card (preprocess: character_card)"),
    ({"first_mes"}, "a character card (preprocess: character_card)"),
    ({"entries"}, "a lorebook"),
)


@dataclass(slots=True)
class Line:
    """One message: who says it, and the other answers that were given in its place."""

    number: int
    name: str
    is_user: bool
    text: str
    swipes: tuple[str, ...] = ()


@dataclass
class Broken:
    """A line that cannot be read, with the reason."""

    number: int
    reason: str
    raw: str


@dataclass
class Chat:
    """One file: its messages, the broken lines, and how many were hidden from the model."""

    source: Source
    lines: list[Line]
    broken: list[Broken]
    hidden: int = 0

    def characters(self) -> Counter[str]:
        """Who answers, and how often."""
        return Counter(line.name for line in self.lines if not line.is_user)


def read(source: Source) -> Chat:
    """A chat file. Raises DataError where its first line is not that of a SillyTavern chat."""
    chat, conflicts = Chat(source, [], []), Conflicts()
    with open_text(source.path, "utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            reason = CONFLICT if conflicts.hold(line) else "" if decoded(line) else OTHER_BYTES
            value: Any = None
            if not reason:
                try:
                    value = _decode(line)
                except (ValueError, RecursionError):
                    reason = "not JSON" if number > 1 else _refuse(source, line)
            if number == 1 and not reason:
                _check_first(source, value)
            if reason:
                chat.broken.append(Broken(number, reason, line))
            elif number > 1 or "mes" in value:
                _message(chat, number, value, line)
    return chat


def _message(chat: Chat, number: int, value: Any, line: str) -> None:
    if not isinstance(value, dict) or "mes" not in value:
        chat.broken.append(Broken(number, "no message", line))
        return
    if value.get("is_system") and (value.get("extra") or {}).get("type") != "narrator":
        chat.hidden += 1
        return
    text, swipes = _text(value["mes"]), [_text(swipe) for swipe in value.get("swipes") or ()]
    if text is None or None in swipes:
        chat.broken.append(Broken(number, "a text that is none", line))
        return
    # Half a character can only be written as \\uD8… to \\uDF….
    if "\\ud" in line.lower() and not all(map(decoded, filter(None, [text, *swipes, str(value.get("name"))]))):
        chat.broken.append(Broken(number, "half a character (a lone surrogate)", line))
        return
    chosen = value.get("swipe_id")
    others = [
        swipe for place, swipe in enumerate(swipes) if place != chosen and swipe and swipe.strip() and swipe != text
    ]
    narrated = (value.get("extra") or {}).get("type") == "narrator"
    user = bool(value.get("is_user")) or narrated
    distinct = tuple(dict.fromkeys(filter(None, others))) if others else ()
    chat.lines.append(Line(number, str(value.get("name") or ""), user, text, distinct))


def _text(value: Any) -> str | None:
    """A message's text; some sites wrap it into an object."""
    held = value.get("message") if isinstance(value, dict) else value
    return held if isinstance(held, str) else None


def _check_first(source: Source, value: Any) -> None:
    keys = set(value) if isinstance(value, dict) else set()
    if keys >= {"user_name", "character_name"} or keys >= {"name", "mes"}:
        return
    what = next((words for needed, words in OTHERS if keys >= needed), None)
    shown = what or (
        f"an object with the keys {', '.join(sorted(keys)[:6])}" if keys else f"a JSON {type(value).__name__}"
    )
    raise DataError(
        f"{source.shown}:1: no SillyTavern chat: it looks like {shown}. "
        "Import it into SillyTavern and export the chat as .jsonl, or move it out of the folder."
    )


def _refuse(source: Source, line: str) -> str:
    what = "JSON over several lines" if line.lstrip()[:1] in ("{", "[") else "other text"
    raise DataError(
        f"{source.shown}:1: no SillyTavern chat: it looks like {what}. "
        "Export the chat as .jsonl, or move it out of the folder."
    )
