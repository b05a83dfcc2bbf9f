"""Who speaks in a chat, by every name that the export gives them, and where those names stand in texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.files import Row
from runner.steps.preprocess._scrub_aliases import Aliases
from runner.steps.preprocess._scrub_patterns import Span

NAMED = ("speaker", "nickname")  # columns that hold a name; `author` holds an id or a name
COLUMNS = (*NAMED, "author", "speakers")
SHORTEST = 3
WORD = re.compile(r"\w+")
SCRIPT = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)  # written without spaces, or with endings
# Names that are words as well: they count as names only inside a full name, or with a capital inside a sentence
ORDINARY = frozenset([
    "admin", "and", "april", "art", "august", "autumn", "baby", "baker", "best", "big", "bill", "black", "bot", "boss",
    "brown", "chase", "cook", "dad", "dan", "dawn", "day", "dean", "don", "dr", "drew", "duke", "earl", "eve", "faith",
    "field", "for", "frank", "from", "good", "grace", "gray", "green", "grey", "group", "guy", "hill", "home", "hope",
    "hunter", "ivy", "jack", "joy", "june", "king", "law", "lily", "little", "long", "love", "major", "mark", "mason",
    "max", "may", "miles", "mom", "mr", "mrs", "ms", "mum", "new", "old", "page", "pat", "price", "ray", "read",
    "real", "red", "reed", "rich", "rob", "rose", "school", "short", "sky", "star", "stone", "sue", "summer", "sunny",
    "team", "the", "van", "von", "white", "will", "wood", "work", "young",
])  # fmt: skip
INSIDE = re.compile(r"[\w,;'’] $")


@dataclass
class Person:
    """One author: all names, how many messages, and the alias in full and in short."""

    identity: str
    names: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    alias: str = ""
    short: str = ""

    def spoken(self) -> list[str]:
        """The names that people use: without ids, which are longer than any phone number."""
        return [name for name in self.names if not (name.isdigit() and len(name) > 15)]


class _Name(NamedTuple):
    text: str
    offset: int  # of its first word
    instead: str
    ordinary: bool


class People:
    """The people of a chat. `learn` every row, then `give_aliases`, then `find` names and `alias` columns."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.found: Counter[str] = Counter()
        self._by_word: dict[str, list[_Name]] = {}
        self._whole: re.Pattern[str] | None = None
        self._instead: dict[str, str] = {}

    def learn(self, row: Row) -> None:
        """Note who speaks in a row."""
        identity = identity_of(row)
        if identity:
            person = self.people.setdefault(identity, Person(identity))
            person.messages += 1
            person.names.update(str(row[column]) for column in (*NAMED, "author") if row.get(column))
        for name in row.get("speakers") or ():
            self.people.setdefault(str(name), Person(str(name))).names[str(name)] += 1

    def words(self) -> set[str]:
        """Every word of every name, in lower case."""
        return {word.lower() for person in self.people.values() for name in person.names for word in WORD.findall(name)}

    def give_aliases(self, aliases: Aliases, kept: Collection[str]) -> None:
        """Name everybody anew but the `kept` identities, and look for their names from now on."""
        renamed = [person for identity, person in self.people.items() if identity not in kept]
        for person in renamed:
            person.short, family, _ = aliases.names(person.identity)
            person.alias = f"{person.short} {family}"
        shared = Counter(person.alias for person in renamed)
        for person in renamed:
            if shared[person.alias] > 1:
                person.alias += f"-{aliases.names(person.identity)[2]}"
        for person in sorted(renamed, key=lambda person: (-person.messages, person.identity)):
            for name in person.names:
                self._note(person, name)
        whole = sorted((name for name in self._instead if SCRIPT.search(name)), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, whole)), re.IGNORECASE) if whole else None
        for held in self._by_word.values():
            held.sort(key=lambda name: -len(name.text))

    def _note(self, person: Person, name: str) -> None:
        """One name: in full, and each of its words where it looks like a first and a family name."""
        words = [word for word in WORD.findall(name) if not word.isdigit()]
        self._add(name, person.alias if len(words) > 1 else person.short)
        personal = len(words) <= 4 and all(word[:1].isupper() or SCRIPT.search(word) for word in words)
        if personal and words and name != words[0]:
            for place, word in enumerate(words):
                self._add(word, person.alias.split()[-1] if place else person.short)

    def _add(self, name: str, instead: str) -> None:
        key = name.lower()
        first = WORD.search(name)
        if first is None or key in self._instead or len(name) < (2 if SCRIPT.search(name) else SHORTEST):
            return
        self._instead[key] = instead
        entry = _Name(key, first.start(), instead, key in ORDINARY)
        self._by_word.setdefault(first[0].lower(), []).append(entry)

    def find(self, text: str) -> Iterator[Span]:
        """Where names stand, mentions (@name, <@id>) with their signs."""
        if self._whole:
            yield from (
                Span(*found.span(), "speakers", self._instead[found[0].lower()]) for found in self._whole.finditer(text)
            )
        end = 0
        for word in WORD.finditer(text) if self._by_word else ():
            for name in self._by_word.get(word[0].lower(), ()) if word.start() >= end else ():
                span = _stands(text, name, word.start() - name.offset)
                if span:
                    end = span.end
                    yield span
                    break

    def alias(self, column: str, row: Row, named: str) -> str:
        """The alias for a name in a column of a row."""
        person = self.people.get(named if column == "speakers" else identity_of(row) or "")
        return person.alias or named if person else named


def identity_of(row: Row) -> str | None:
    """What tells the author of a row from others: an id, else a name."""
    known = row.get("author") or row.get("speaker")
    return str(known) if known else None


def _stands(text: str, name: _Name, start: int) -> Span | None:
    """The name at this place, if it stands there as a word of its own."""
    end = start + len(name.text)
    written = text[max(start, 0) : end]
    if start < 0 or written.lower() != name.text or _joined(text, start) or _joined(text, end):
        return None
    before = text[max(0, start - 3) : start]
    if name.ordinary and not (written[:1].isupper() and INSIDE.search(before)) and not before.endswith("@"):
        return None
    instead = _dressed(name.instead, written)
    opening = next((sign for sign in ("<@!", "<@", "@") if before.endswith(sign)), "")
    if opening:
        closing = opening != "@" and text[end : end + 1] == ">"
        return Span(start - len(opening), end + closing, "speakers", f"@{instead}")
    return Span(start, end, "speakers", instead)


def _joined(text: str, at: int) -> bool:
    """Whether the characters on both sides of a place belong to one word."""
    return (
        0 < at < len(text)
        and (text[at - 1].isalnum() or text[at - 1] == "_")
        and (text[at].isalnum() or text[at] == "_")
    )


def _dressed(alias: str, written: str) -> str:
    """The alias in the case in which the name was written."""
    return alias.lower() if written.islower() else alias.upper() if written.isupper() and len(written) > 1 else alias
