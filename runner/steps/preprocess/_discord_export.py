"""What the readers of both formats make: messages, and what is known of a file before its messages are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.steps.preprocess._batches import Section
from runner.steps.preprocess._chat_people import People

Advance = Callable[..., None]


# One message: why it is dropped or None, id, source, author (the account's id; in plain text, which has none, the full user
# name), nickname, time, text, reply_to, edited, pinned, attachments. A plain tuple, as a class would take longer than all
# the rest. A time in a list is as the file's culture writes it, to be read once it is known in which order.
Message = tuple[str | None, str, str, str, str | None, str | list[str], str, str | None, bool, bool, list[str]]


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
    messages: Section
    conversation: str = ""
    channel: str = ""
    found: int = 0
    announced: int | None = None
    trend: Trend = field(default_factory=Trend)
    layout: Any = None  # plain text: how its lines are read
    order: str = ""  # plain text and CSV: the order of day, month and year
    may_be_torn: bool = False  # CSV: a last message that is cut off is left out

    @property
    def ending(self) -> str:
        return self.path.suffix.lower()

    @property
    def has_ids(self) -> bool:
        """Whether its messages have ids of their own, by which they are known again."""
        return self.ending == ".json"

    @property
    def newest_first(self) -> bool:
        return self.trend.falls > self.trend.rises


def why_dropped(text: str, system: bool, forwarded: bool, bot: bool = False) -> str | None:
    """Why a message is no speech, None where it is."""
    if system:
        return "system message"
    if forwarded:
        return "forwarded"
    if bot:
        return "written by a bot"
    return None if text and not text.isspace() else "no text (attachment, sticker or embed only)"


class Accounts:
    """Everyone who writes in the folder, the authors of plain text joined with the accounts of the JSON files."""

    def __init__(self, no_bots: bool) -> None:
        self.people = People()
        self._no_bots = no_bots
        self._same: dict[str, str] = {}

    def see(
        self,
        author: str,
        name: str,
        full_name: str,
        text: str,
        *,
        has_id: bool,
        nickname: str | None = None,
        bot: bool = False,
        system: bool = False,
        forwarded: bool = False,
    ) -> str | None:
        """Count a message; returns why it is dropped, or None."""
        said = bool(text) and not text.isspace()
        person = self.people.see(author, name, full_name, said and not (system or forwarded), has_id)
        person.bot = bot
        if nickname and nickname not in person.names:
            person.names.add(nickname)
        return why_dropped(text, system, forwarded, bot and self._no_bots)

    def join(self) -> None:
        """Give authors of plain text the id of the one person who has that full name in the JSON files."""
        everyone = self.people.people
        known: dict[str, list[str]] = {}
        for author, person in everyone.items():
            for name in {person.full_name, person.name} if person.has_id else ():
                known.setdefault(name, []).append(author)
        for author, person in list(everyone.items()):
            same = known.get(author, [])
            if not person.has_id and len(same) == 1:
                self._same[author] = same[0]
                everyone[same[0]].messages += person.messages
                everyone[same[0]].names |= person.names
                del everyone[author]

    def author(self, author: str) -> str:
        return self._same.get(author, author)
