"""One chat of imessage-exporter: its messages, and what the program itself writes among their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from runner.steps.preprocess._chat_files import Advance, ChatFile, lines

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_TIME = rf"(?P<month>{'|'.join(MONTHS)}) (?P<day>\d\d), (?P<year>\d{{4}}) (?P<hour>[ \d]\d):(?P<minute>\d\d):(?P<second>\d\d) (?P<half>[AP])M"
HEADER = re.compile(_TIME + r"(?: \(Read by .+\))?")
NOTICE = re.compile(_TIME + r" (?!\(Read by)(?P<text>\S.*)", re.DOTALL)
_COPY = re.compile(r"    " + _TIME)  # a reply, told again under the message that it answers
_MARKS = ("Tapbacks:", "Reactions:")
_RESPONDED = "This message responded to an earlier message."
_EFFECT = re.compile(
    r"Sent with (?:Slam|Loud|Gentle|Invisible Ink|Confetti|Balloons|Echo|Fireworks|Happy Birthday|Heart|Love|Lasers"
    r"|Shooting Star|Sparkles|Celebration|Spotlight)"
)
_EDIT = re.compile(r"Edited .{1,60}? later: ")
_DELETED = re.compile(r"This message was deleted from the conversation!|.{1,60} unsent (?:this|a) message.{0,80}")
_FILE = re.compile(r"(?:~?/|)(?:.*/)?[Aa]ttachments/.+\.\w{1,8}|Attachment missing!.*")


@dataclass
class Entry:
    """A message, or a notice, which has no sender; without a time, a line before the first of them."""

    line: int
    time: str = ""
    sender: str = ""
    body: list[str] = field(default_factory=list)


def time(found: re.Match[str]) -> str:
    """The local time as ISO 8601, without an offset, as the file has none; "" where there is no such time."""
    hour = int(found["hour"]) % 12 + (12 if found["half"] == "P" else 0)
    return f"{found['year']}-{MONTHS[found['month']]:02}-{found['day']}T{hour:02}:{found['minute']}:{found['second']}"


def entries(file: ChatFile, advance: Advance = lambda amount: None) -> Iterator[Entry]:
    """The messages and notices of a file, in its order.

    A message begins where a time and a sender stand below an empty line; any other line belongs to the one before.
    """
    entry = Entry(0)
    pending: tuple[int, re.Match[str], str] | None = None
    gap = True
    for number, line in lines(file, advance):
        if pending is not None:
            if line.strip() and not line.startswith("    "):
                yield from _whole(entry)
                entry, pending, gap = Entry(pending[0], time(pending[1]), line), None, False
                continue
            entry.body += [pending[2]]
            pending, gap = None, False
        found = HEADER.fullmatch(line) if gap else None
        notice = NOTICE.fullmatch(line) if gap and found is None else None
        gap = not line or line.isspace()
        if found:
            pending = number, found, line
        elif notice:
            yield from _whole(entry)
            entry = Entry(number, time(notice), "", [notice["text"]])
        elif entry.time or line:
            entry.body.append(line)
            entry.line = entry.line or number
    if pending is not None:
        entry.body.append(pending[2])
    yield from _whole(entry)


def _whole(entry: Entry) -> Iterator[Entry]:
    if entry.time or entry.body:
        if entry.body and entry.body[-1] == "":
            entry.body.pop()
        yield entry


def read(body: list[str]) -> tuple[str | None, str, bool]:
    """Why a message is no speech or None, its text as it was last edited, whether it was edited."""
    kept: list[str] = []
    edited = copies = marks = False
    own = True  # whether the last lines are the sender's: empty ones below what the program wrote are not
    for line in body:
        copies |= _COPY.match(line) is not None
        marks = line in _MARKS or (marks and line.startswith("    "))
        if copies or marks or line == _RESPONDED or _EFFECT.fullmatch(line):
            own = False
            continue
        if found := _EDIT.match(line):
            edited, kept = True, [line[found.end() :]]
        elif own or line:
            kept.append(line)
            own = True
    if any(_DELETED.fullmatch(line) for line in kept):
        return "deleted message", "\n".join(kept), edited
    if kept[:1] == ["SharePlay Message"]:
        return "system message", "\n".join(kept), edited
    words = [line for line in kept if not _FILE.fullmatch(line)]
    text = "\n".join(words if len(words) < len(kept) else kept)
    return (None if text.strip() else "no text (media only)"), text, edited
