"""Who writes in a chat, by every name that the export gives them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Person:
    """An author as the export shows them. `messages` counts what they say, bots' and empty messages left out."""

    name: str
    full_name: str
    names: set[str] = field(default_factory=set)
    bot: bool = False
    messages: int = 0
    has_id: bool = True


class People:
    """Everyone who writes, by author."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}

    def see(self, author: str, name: str, full_name: str = "", speech: bool = True, has_id: bool = True) -> Person:
        """Count a message; the name seen last is the one that stays. `full_name` is shown in lists of candidates."""
        person, full = self.people.get(author), full_name or name
        if person is None:
            person = self.people[author] = Person("", "", {author}, has_id=has_id)
        if person.name != name or person.full_name != full:
            person.name, person.full_name = name, full
            person.names |= {author, name, full}
        person.messages += speech
        return person

    def find(self, wanted: str) -> list[str]:
        """The authors who have this id or one of these names."""
        return [author for author, person in self.people.items() if wanted in person.names]

    def listed(self, authors: list[str], most: int = 10) -> str:
        """'Ann (id 1, 12 messages), Bob#0001 (3 messages)', the most talkative first."""
        ranked = sorted(authors, key=lambda author: (-self.people[author].messages, author))
        some = [self._shown(author) for author in ranked[:most]]
        return ", ".join(some) + (f" and {len(ranked) - most} more" if len(ranked) > most else "")

    def _shown(self, author: str) -> str:
        person = self.people[author]
        count = f"{person.messages} message" + ("" if person.messages == 1 else "s")
        return (
            f"{person.full_name} ("
            + (f"id {author}, " if person.has_id else "")
            + count
            + (", a bot)" if person.bot else ")")
        )
