"""What WhatsApp writes into a message itself: notices, what stands for media, marks of edits and deletions."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path

MARK = "\u200e"  # on phones of Apple, WhatsApp's own words begin with it
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_PLACE = re.compile(r"\S{1,20}: https://maps\.google\.com/\?q=[-\d.,]+")
_FILE = re.compile(rf"{MARK}?<[^<>:\n]{{2,25}}: [^<>\n]+\.\w{{2,5}}>")


@cache
def phrases(use: str) -> tuple[str, ...]:
    """The phrases of every language for one use: media, attached, deleted, edited, system, subject, title."""
    held = json.loads((Path(__file__).parent / "_whatsapp_phrases.json").read_text(encoding="utf-8"))
    return tuple(dict.fromkeys(text for entry in held.values() if isinstance(entry, dict) for text in entry[use]))


def _any(use: str) -> str:
    return "|".join(map(re.escape, sorted(phrases(use), key=len, reverse=True)))


_MEDIA = frozenset(phrases("media"))
_DELETED = frozenset(phrases("deleted"))
_STARTS = frozenset(text[:5] for text in phrases("system"))
_HEADS = frozenset(text[:3] for use in ("media", "deleted", "system") for text in phrases(use))
_EDITED = re.compile(rf"\s?{MARK}?<(?:{_any('edited')})[.。]?>$")
_ATTACHED = re.compile(rf"[^\n]+\.\w{{2,5}} [(<](?:{_any('attached')})[)>](?:\n|$)")
_SUBJECT = re.compile(rf"(?:{_any('subject')})")
_QUOTE = re.compile("[\"“”„«»'‘’「]")
_TITLE = re.compile(rf"(?:{_any('title')})")

MEDIA, DELETED, NOTICE = "no text (media only)", "deleted message", "system message"


def read(text: str) -> tuple[str | None, str, bool]:
    """Why a message is no speech or None, its text without WhatsApp's marks, and whether it was edited."""
    edited = False
    if text[-1:] == ">" and (found := _EDITED.search(text)):
        text, edited = text[: found.start()], True
    if MARK in text or "<" in text or "(" in text:
        reason, text = _without_media(text)
        return reason or _reason(text), text, edited
    return _reason(text), text, edited


def _reason(text: str) -> str | None:
    if text[:3] not in _HEADS and not text[:1].isspace() and "maps.google" not in text:
        return None  # most messages: none of the phrases begins so
    bare = text.strip()
    if bare in _MEDIA or ("maps.google" in text and _PLACE.fullmatch(bare)):
        return MEDIA
    if bare in _DELETED or bare.rstrip(".!。") in _DELETED:
        return DELETED
    return NOTICE if text[:5] in _STARTS and text.startswith(phrases("system")) else None


def _without_media(text: str) -> tuple[str | None, str]:
    """Why a message is no speech, and the caption of what is attached, or the text itself."""
    if found := _ATTACHED.match(text.lstrip(MARK)):
        caption = text.lstrip(MARK)[found.end() :]
        return (None if caption.strip() else MEDIA), caption
    if found := _FILE.search(text):
        caption = (text[: found.start()] + text[found.end() :].removeprefix("\n")).rstrip(" ")
        return (None if caption.strip() else MEDIA), caption
    head, mark, tail = text.rpartition(MARK)
    if not mark:
        return None, text
    if tail.strip() in _MEDIA:
        is_caption = head.strip() and not re.search(r"\.\w{2,5}( • .*)?\s*$", head)
        return (None if is_caption else MEDIA), head.rstrip(" ")
    if text.startswith(MARK):
        return _reason(text.lstrip(MARK)) or NOTICE, text
    return None, text


@lru_cache(1 << 12)
def is_notice(head: str) -> bool:
    """Whether what stands before the first colon is no name but a notice that quotes a group's name with a colon."""
    return bool(_QUOTE.search(head) and _SUBJECT.search(head))


def title(stem: str) -> str:
    """The chat's name in the name of a file."""
    found = _TITLE.match(stem.replace("_", " "))
    return stem[found.end() :] if found else stem
