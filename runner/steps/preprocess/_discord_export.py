"""What the readers of both formats make: messages, and what is known of a file before its messages are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

Advance = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an export. `author` is the account's id; in plain text, which has none, the full user name."""

    id: str
    source: str
    author: str
    name: str
    full_name: str
    nickname: str | None
    bot: bool
    system: bool
    forwarded: bool
    time: datetime
    text: str
    reply_to: str | None = None
    edited: bool = False
    pinned: bool = False
    attachments: tuple[str, ...] = ()


@dataclass
class Trend:
    """Whether times go up or down: exports are oldest first unless they were made with --reverse."""

    rises: int = 0
    falls: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def see(self, moment: datetime) -> None:
        if self.last is None:
            self.first = moment
        else:
            self.rises += moment > self.last
            self.falls += moment < self.last
        self.last = moment


@dataclass
class Export:
    """One file of the folder. `shown` is its path in errors, `name` its path inside the folder."""

    path: Path
    name: str
    shown: str
    conversation: str = ""
    channel: str = ""
    found: int = 0
    announced: int | None = None
    trend: Trend = field(default_factory=Trend)
    layout: Any = None  # plain text: how its lines are read
    order: str = ""  # plain text: the order of day, month and year

    @property
    def is_text(self) -> bool:
        return self.path.suffix.lower() == ".txt"

    @property
    def newest_first(self) -> bool:
        return self.trend.falls > self.trend.rises


@dataclass
class Person:
    """An author as the folder shows them. `messages` counts what they wrote, bots' and empty messages left out."""

    name: str
    full_name: str
    names: set[str] = field(default_factory=set)
    bot: bool = False
    messages: int = 0
    has_id: bool = True


class People:
    """Everyone who writes in the folder, by author id."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self._same: dict[str, str] = {}

    def see(self, message: Message, has_id: bool) -> None:
        """Count a message; the name seen last is the one that stays."""
        person = self.people.setdefault(message.author, Person(message.name, message.full_name, has_id=has_id))
        person.name, person.full_name, person.bot = message.name, message.full_name, message.bot
        person.names |= {message.author, message.name, message.full_name, message.nickname or message.name}
        person.messages += bool(message.text.strip()) and not (message.system or message.forwarded)

    def join(self) -> None:
        """Give authors of plain text the id of the one person who has that full name in the JSON files."""
        known: dict[str, list[str]] = {}
        for author, person in self.people.items():
            for name in {person.full_name, person.name} if person.has_id else ():
                known.setdefault(name, []).append(author)
        for author, person in list(self.people.items()):
            same = known.get(author, [])
            if not person.has_id and len(same) == 1:
                self._same[author] = same[0]
                self.people[same[0]].messages += person.messages
                self.people[same[0]].names |= person.names
                del self.people[author]

    def author(self, author: str) -> str:
        return self._same.get(author, author)

    def find(self, wanted: str) -> list[str]:
        """The ids of those who have this id, user name, full name or nickname."""
        return [author for author, person in self.people.items() if wanted in person.names]

    def listed(self, authors: list[str], most: int = 10) -> str:
        """'Ann (id 1, 12 messages), Bob#0001 (3 messages)', the most talkative first."""
        ranked = sorted(authors, key=lambda author: (-self.people[author].messages, author))
        shown = [self._shown(author) for author in ranked[:most]]
        return ", ".join(shown) + (f" and {len(ranked) - most} more" if len(ranked) > most else "")

    def _shown(self, author: str) -> str:
        person = self.people[author]
        count = f"{person.messages} message" + ("" if person.messages == 1 else "s")
        return (
            f"{person.full_name} ("
            + (f"id {author}, " if person.has_id else "")
            + count
            + (", a bot)" if person.bot else ")")
        )
