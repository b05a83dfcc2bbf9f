"""A character card's fields, whichever of the three versions it is; only what may stand in a prompt is taken.

creator_notes, creator, character_version and tags are for people who choose cards, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.errors import DataError
from runner.steps.preprocess._reading import Source

TEXTS = (
    "description",
    "personality",
    "scenario",
    "first_mes",
    "mes_example",
    "system_prompt",
    "post_history_instructions",
)
V1 = {"name", "description", "personality", "scenario", "first_mes", "mes_example"}
OLD = {"char_name": "name", "char_persona": "description", "world_scenario": "scenario"}
OLD |= {"char_greeting": "first_mes", "example_dialogue": "mes_example"}


@dataclass
class Entry:
    """One entry of a lorebook: its text comes up where one of its keys does."""

    id: str
    text: str
    keys: list[str]
    constant: bool
    enabled: bool
    order: float


@dataclass
class Card:
    """What of a card may stand in a prompt. `char` is what {{char}} means: a nickname, or the name."""

    name: str
    char: str
    version: str
    texts: dict[str, str]
    greetings: list[str]
    lore: list[Entry] = field(default_factory=list)


def card(source: Source, held: dict[str, Any]) -> Card:
    """Raises DataError where the JSON is no character card or has no name."""
    data, version = _data(source, held)
    wrong = [key for key in ("name", *TEXTS) if data.get(key) is not None and not isinstance(data[key], str)]
    if wrong:
        raise DataError(
            f"{source.shown}: {wrong[0]} is a {type(data[wrong[0]]).__name__}, no text: not a character card."
        )
    name = (data.get("name") or "").strip()
    if not name:
        raise DataError(f"{source.shown}: the card has no name. Give it one in the editor that it comes from.")
    nickname = data.get("nickname")
    return Card(
        name,
        nickname.strip() if isinstance(nickname, str) and nickname.strip() else name,
        version,
        {key: data.get(key) or "" for key in TEXTS},
        [text for key in ("alternate_greetings", "group_only_greetings") for text in _texts(data.get(key))],
        _lore(data.get("character_book")),
    )


def _data(source: Source, held: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The fields, and which version of card it is: what `spec` says, or 1 for the flat ones."""
    spec, data = held.get("spec"), held.get("data")
    if isinstance(spec, str) and spec.startswith("chara_card_v") and isinstance(data, dict):
        return data, spec.removeprefix("chara_card_v")
    if len(V1 & held.keys()) >= 3:
        return held, "1"
    old = {ours: held[theirs] for theirs, ours in OLD.items() if theirs in held}
    if {"name", "description"} <= old.keys():
        return old, "1"
    looks = (
        "a lorebook without a card"
        if "entries" in held
        else f"an object with the keys {', '.join(sorted(held)[:6]) or 'none'}"
    )
    raise DataError(f"{source.shown}: no character card: it looks like {looks}. Move it out of the folder.")


def _texts(held: Any) -> list[str]:
    return [text for text in held if isinstance(text, str) and text.strip()] if isinstance(held, list) else []


def _lore(book: Any) -> list[Entry]:
    """A lorebook's entries in their order of insertion; SillyTavern's own files number them, cards list them."""
    held = book.get("entries") if isinstance(book, dict) else None
    entries = list(held.values()) if isinstance(held, dict) else held if isinstance(held, list) else []
    made = [
        Entry(
            str(entry.get("id", entry.get("uid", place))),
            _undecorated(str(entry.get("content") or "")),
            _texts(entry.get("keys", entry.get("key"))),
            bool(entry.get("constant")),
            bool(entry.get("enabled", not entry.get("disable"))),
            float(order) if isinstance(order := entry.get("insertion_order", entry.get("order")), int | float) else 0.0,
        )
        for place, entry in enumerate(entries, 1)
        if isinstance(entry, dict)
    ]
    return sorted(made, key=lambda entry: entry.order)


def _undecorated(text: str) -> str:
    """The text of an entry without the @@decorator lines before it."""
    lines = text.split("\n")
    while lines and lines[0].lstrip().startswith("@@"):
        lines.pop(0)
    return "\n".join(lines)
