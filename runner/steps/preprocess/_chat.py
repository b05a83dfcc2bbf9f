"""What every reader of chats shares: who speaks, which days are read, the rows, and what is said when nothing is left.

A reader goes through its files once: it learns who writes (People) and puts what it finds into Batches. Then it finds
the speaker and hands its messages to `write`, each with the reason why it is dropped or None. Formats whose rows have no
more than the common columns make them of Said, through `judged`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, dumps, loads
from runner.step import Out, Step
from runner.steps.preprocess._chat_files import is_utf8
from runner.steps.preprocess._chat_people import People
from runner.steps.preprocess._chat_times import in_zone, zone
from runner.steps.preprocess._reading import Unreadable, shown

HALF = "half a character (a lone surrogate)"
TOLD = 1024  # messages between two moves of the progress bar
Judged = tuple[str | None, Row]  # why the message is dropped or None, and its row
# One message: why it is dropped or None, id, source, conversation, channel, speaker, author (an id, else the name; it
# never changes), time (ISO 8601), text, reply_to, edited. A plain tuple, as a class would take longer than all the rest.
Said = tuple[str | None, str, str, str, str, str, str, str | None, str, str | None, bool]
Wrong = tuple[str, str, str]  # what cannot be read: where it stands, why, and what stands there


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


def readable(found: Iterable[Said | Wrong], unreadable: Unreadable) -> Iterator[Said]:
    """The messages among what was found; what cannot be read is counted and kept, and too much of it is an error."""
    for item in found:
        if len(item) == 3:
            unreadable.reject(*item)
        else:
            unreadable.read += 1
            yield item
    unreadable.finish()


def judged(messages: Iterable[Said], read: Days) -> Iterator[Judged]:
    """Rows with the common columns, each with the reason why it is dropped or None."""
    all_days = read == Days()
    for dropped, own, source, conversation, channel, speaker, author, time, text, reply_to, edited in messages:
        yield (
            dropped or ("no text" if not text or text.isspace() else None if all_days else read.reason(time)),
            {
                "id": own,
                "source": source,
                "conversation": conversation,
                "channel": channel,
                "speaker": speaker,
                "author": author,
                "time": time,
                "text": text,
                "reply_to": reply_to,
                "edited": edited,
            },
        )


@dataclass
class Written:
    """What `write` has written: how many messages of each author, the name of each, the conversations."""

    by: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    names: dict[str, str] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)


def write(step: Step, out: Out, people: People, chosen: str | None, rows: Iterable[Judged], total: int = 0) -> Written:
    """Write what is kept, with `role` where a speaker is chosen, and reject the rest.

    total: how many messages there are, for the progress bar
    Raises DataError where nothing is left, or nothing by the speaker.
    """
    written, of = Written(), zone(step)
    by, names, conversations = written.by, written.names, written.conversations
    dropped: Counter[str] = Counter()
    good: set[str] = set()
    with out.rows() as writer, out.progress("writing rows", total) as advance:
        for number, (why, row) in enumerate(rows, 1):
            if not number % TOLD:
                advance(TOLD)
            if of is not None and row["time"]:
                row["time"] = in_zone(row["time"], of)
            text, author = row["text"], row["author"]
            # JSON can hold half a character, where a program cut a text in its middle.
            whole = (text.isascii() or is_utf8(text)) and (
                (row["speaker"] in good and row["channel"] in good) or _is_whole(row["speaker"], row["channel"], good)
            )
            if why or not whole:
                reason = why or HALF
                dropped[reason] += 1
                out.reject(row if whole else _mended(row), reason)
                continue
            by[author] += 1
            names[author] = row["speaker"]
            conversations.add(row["conversation"])
            if chosen:
                row["role"] = "assistant" if author == chosen else "user"
            writer.write(row)
    _refuse_silence(step, people, chosen, written, dropped)
    return written


def _is_whole(speaker: str, channel: str, good: set[str]) -> bool:
    """Whether UTF-8 can hold both names; `good` learns those that it can."""
    good |= {name for name in (speaker, channel) if is_utf8(name)}
    return speaker in good and channel in good


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
