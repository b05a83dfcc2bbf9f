"""What every reader of chats shares: who speaks, which days are read, the rows, and what is said when nothing is left.

A reader learns who writes (People), finds the speaker, then hands its messages to `write`, each with the reason why it
is dropped or None. Formats whose rows have no more than the common columns make them of Said, through `judged`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, islice
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, dumps, loads
from runner.step import Out, Step
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._reading import shown
from runner.steps.preprocess._shelf import Shelf

HALF = "half a character (a lone surrogate)"
FEW = 20_000  # rows of a file that memory may hold
Judged = tuple[str | None, Row]  # why the message is dropped or None, and its row


@dataclass(slots=True)
class Said:
    """One message. `author` (an id, else the name) never changes, `time` is ISO 8601, `dropped` says why it goes."""

    id: str
    source: str
    conversation: str
    channel: str
    speaker: str
    author: str
    time: str | None
    text: str
    dropped: str | None = None
    reply_to: str | None = None
    edited: bool = False


def speaker(step: Step, people: People, known_by: str = "id or name") -> str | None:
    """The author that `speaker:` names. Raises DataError, with candidates, where it is nobody or several."""
    wanted = step.params.get("speaker")
    if wanted is None:
        return None
    found, where = people.find(wanted), _where(step)
    if not found:
        everyone = people.listed(list(people.people)) or "nobody"
        raise DataError(f"{where}: no author has the {known_by} '{wanted}'. Set speaker to one of: {everyone}.")
    if len(found) > 1:
        raise DataError(
            f"{where}: '{wanted}' is the name of several: {people.listed(found)}. Set speaker to an id or a full name."
        )
    return found[0]


@dataclass(frozen=True, slots=True)
class Days:
    """The days that are read, as ISO dates, both included."""

    since: str | None = None
    until: str | None = None

    def reason(self, time: str | None) -> str | None:
        """Why a message of this time is dropped, None where it is read."""
        if self.since is None and self.until is None:
            return None
        if time is None:
            return "no time, and since or until is set"
        if self.since is not None and time[:10] < self.since:
            return "before since"
        return "after until" if self.until is not None and time[:10] > self.until else None


def days(step: Step) -> Days:
    """What `since:` and `until:` say. Raises StepError where one is no date."""
    found: list[str | None] = []
    for key in ("since", "until"):
        try:
            found.append(date.fromisoformat(step.params[key]).isoformat() if key in step.params else None)
        except ValueError as error:
            raise StepError(f"{step.name}.{key}: {step.params[key]} is not a date. Write it as 2024-01-31.") from error
    return Days(*found)


def judged(messages: Iterable[Said], read: Days) -> Iterator[Judged]:
    """Rows with the common columns, each with the reason why it is dropped or None."""
    for said in messages:
        reason = said.dropped or (read.reason(said.time) if said.text.strip() else "no text")
        yield (
            reason,
            {
                "id": said.id,
                "source": said.source,
                "conversation": said.conversation,
                "channel": said.channel,
                "speaker": said.speaker,
                "author": said.author,
                "time": said.time,
                "text": said.text,
                "reply_to": said.reply_to,
                "edited": said.edited,
            },
        )


def backwards(rows: Iterable[Judged], out: Out) -> Iterator[Judged]:
    """The rows of a file that is newest first, turned round; a long one through a file, so that memory holds little."""
    coming = iter(rows)
    held = list(islice(coming, FEW))
    if len(held) < FEW:
        yield from reversed(held)
        return
    with Shelf(out.folder) as shelf:
        for reason, row in chain(held, coming):
            shelf.add({"reason": reason, "row": row})
        for number in reversed(range(len(shelf))):
            entry = shelf[number]
            yield entry["reason"], entry["row"]


@dataclass
class Written:
    """What `write` has written: how many messages of each author, the name of each, the conversations."""

    by: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)


def write(step: Step, out: Out, people: People, chosen: str | None, rows: Iterable[Judged]) -> Written:
    """Write what is kept, with `role` where a speaker is chosen, and reject the rest.

    Raises DataError where nothing is left, or nothing by the speaker.
    """
    written = Written()
    dropped: Counter[str] = Counter()
    with out.rows() as writer:
        for why, row in rows:
            broken = not _is_unicode(row)
            reason = why or (HALF if broken else None)
            if reason:
                dropped[reason] += 1
                out.reject(_mended(row) if broken else row, reason)
                continue
            author = row["author"]
            written.by[author] += 1
            written.names[author] = row["speaker"]
            written.conversations.add(row["conversation"])
            writer.write({**row, "role": "assistant" if author == chosen else "user"} if chosen else row)
    _refuse_silence(step, people, chosen, written, dropped)
    return written


def _is_unicode(row: Row) -> bool:
    """Whether UTF-8 can hold a message; JSON can hold half a character, where a program cut a text in its middle."""
    text = row["text"] + row["speaker"] + row["channel"]
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _mended(row: Row) -> Row:
    """The row with question marks for what UTF-8 cannot hold; only ever rejected."""
    mended: Row = loads(dumps(row).encode("utf-8", "replace").decode())
    return mended


def _refuse_silence(step: Step, people: People, chosen: str | None, written: Written, dropped: Counter[str]) -> None:
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
    if not written.by:
        raise DataError(
            f"{_where(step)}: nobody says anything in these exports"
            + (f" (dropped: {why})." if why else ".")
            + " Export more, or drop fewer."
        )
    if chosen and not written.by[chosen]:
        hint = " This author is a bot: set bots: keep." if people.people[chosen].bot else ""
        raise DataError(
            f"{_where(step)}: no message by {people.listed([chosen])} is left (dropped: {why or 'nothing'}).{hint}"
        )


def facts(written: Written, metrics: dict[str, Any], notes: Iterable[str] = ()) -> dict[str, Any]:
    """The step's facts: the reader's own metrics, how many speak, who says how much."""
    ranked = sorted(written.by.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [[written.names[author], author, count] for author, count in ranked]
    return {
        "metrics": {**metrics, "speakers": len(written.by)},
        "tables": [{"title": "Who speaks", "columns": ["speaker", "author", "messages"], "rows": rows[:20]}],
        "notes": list(notes),
    }


def _where(step: Step) -> str:
    return shown(step.folder) if step.folder else ""
