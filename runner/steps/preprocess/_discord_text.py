"""Plain text exports of DiscordChatExporter: no ids, no replies, no bots, but a count at the end to check against."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache

from runner.errors import DataError
from runner.steps.preprocess import _discord_body as body_of
from runner.steps.preprocess._chat_files import ChatFile, is_utf8, line_lists
from runner.steps.preprocess._discord_dates import Dates, Stamp, read
from runner.steps.preprocess._discord_export import Accounts, Export, Message, Trend, why_dropped

HEADER = re.compile(r"\[(?P<time>[^\[\]\n]{4,48})\] (?P<name>\S.*?)(?P<pinned> \(pinned\))?")
FULL_NAME = re.compile(r"(?P<name>.+)#\d{4}")
CHANNEL_ID = re.compile(r"\[(\d{15,22})\]")
BACK = timedelta(minutes=61)  # how far a time may fall behind the one before: an hour when summer time ends


@dataclass(frozen=True)
class Layout:
    """How a file is read. `blanks` empty lines stand before a header; `forward`: an earlier time is a quotation."""

    shape: str
    order: str = ""
    blanks: int = 2
    forward: bool = False


@dataclass
class _Entry:
    """A header and the lines under it; without a stamp, the lines before the first header."""

    line: int
    stamp: Stamp | None = None
    name: str = ""
    pinned: bool = False
    body: list[str] = field(default_factory=list)


def inspect(export: Export, accounts: Accounts, date_order: str | None) -> Dates | None:
    """Read a file: its layout, counts, authors and messages; returns the date orders that it allows, if it has messages.

    Raises DataError where it is not an export, or its times cannot be read.
    """
    first = _first_stamp(export)
    export.layout = Layout(first.shape if first else "")
    if first is None:
        _count(export, export.layout)
        return None
    dates = Dates(first)
    _count(export, export.layout, dates)
    if export.found != export.announced:
        dates = _read_otherwise(export, dates, date_order)
    if not dates.possible:
        raise DataError(
            f"{export.shown}:1: its times fit no order of day, month and year from 2015 on. "
            "Re-export as JSON, or with --locale en-US."
        )
    for dropped, _, _, author, *_ in export.messages:
        accounts.people.see(author, short(author), author, dropped is None, has_id=False)
    return dates


@lru_cache(1 << 12)
def short(full_name: str) -> str:
    """A user name without the number that older accounts had behind it."""
    legacy = FULL_NAME.fullmatch(full_name)
    return legacy["name"] if legacy else full_name


def _read_otherwise(export: Export, dates: Dates, date_order: str | None) -> Dates:
    """Where the count does not fit: one empty line before a header, as old versions wrote, or times tell quotations."""
    strict, tried = export.found, Dates(dates.first)
    loose = replace(export.layout, blanks=1)
    _count(export, loose, tried)
    if export.announced is None or export.found == export.announced:
        export.layout = loose
        return tried
    orders = [date_order] if date_order in tried.trends else tried.possible
    if export.found > export.announced and len(orders) == 1:
        quoted = replace(loose, order=orders[0], forward=True)
        _count(export, quoted)
        if export.found == export.announced:
            export.layout = quoted
            tried.trends = {orders[0]: Trend(rises=1)}
            return tried
    export.found = strict
    return dates


def _count(export: Export, layout: Layout, dates: Dates | None = None) -> None:
    """Read all messages in this layout; those of another one are forgotten."""
    export.found = 0
    export.messages.clear()
    before: Stamp | None = None
    for number, entry in enumerate(_entries(export, layout)):
        if entry.stamp is not None:
            export.found += 1
            export.messages.add(_message(export, entry, number))
            if dates and (before is None or before.text != entry.stamp.text):
                dates.see(entry.stamp)
                before = entry.stamp
        export.announced = body_of.announced(entry.body)  # the last one counts


def _lines(export: Export) -> Iterator[tuple[int, str]]:
    """Lines with their numbers. In a file with CRLF a bare LF belongs to a message: such a line holds line breaks."""
    number, held, returns = 1, "", False
    for some in line_lists(ChatFile(export.path, export.name, 0)):
        returns = some[0].endswith("\r") if number == 1 and not held else returns
        for line in some:
            if not (line.isascii() or is_utf8(line)):
                raise DataError(_not_utf8(export, number, line))
            if not returns:
                yield number, line
                number += 1
                continue
            held += line
            if line.endswith("\r"):
                yield number, held[:-1]
                number, held = number + held.count("\n") + 1, ""
            else:
                held += "\n"
    if held:
        yield number, held[:-1]


def _not_utf8(export: Export, number: int, line: str) -> str:
    try:
        line.encode("utf-8", "surrogateescape").decode()
        why = "half a character"
    except UnicodeDecodeError as error:
        why = error.reason
    return f"{export.shown}:{number}: not UTF-8 ({why}). Re-export it, and do not save it from an editor."


def _preamble(export: Export) -> Iterator[tuple[int, str]]:
    """Read the preamble; what is left of the lines."""
    lines = _lines(export)
    fields: dict[str, str] = {}
    if not body_of.RULE.fullmatch(next(lines, (1, ""))[1]):
        raise DataError(
            f"{export.shown}:1: not a plain text export of DiscordChatExporter (it begins otherwise). "
            "Move it out of the folder."
        )
    for _, line in lines:
        name, colon, value = line.partition(": ")
        if body_of.RULE.fullmatch(line) and "Channel" in fields:
            break
        if colon:
            fields.setdefault(name, value)
    else:
        raise DataError(f"{export.shown}:1: the lines that name guild and channel are cut off. Re-export it.")
    path, named = fields["Channel"], CHANNEL_ID.search(export.path.name)
    export.conversation = named[1] if named else f"{fields.get('Guild', '')} / {path}"
    export.channel = path.split(" / ")[-1]
    return lines


def _first_stamp(export: Export) -> Stamp | None:
    """The time of the first header, whose shape all others have; None in an export of no messages."""
    for number, line in _preamble(export):
        if found := HEADER.fullmatch(line):
            stamp = read(found["time"])
            if stamp is None:
                raise DataError(
                    f"{export.shown}:{number}: the time '{found['time']}' is of no known form. "
                    "Re-export as JSON, or with --locale en-US."
                )
            return stamp
        if line and not body_of.RULE.fullmatch(line) and not body_of.FOOTER.fullmatch(line):
            raise DataError(
                f"{export.shown}:{number}: a message should begin here, as '[time] name'. Re-export as JSON."
            )
    return None


def _entries(export: Export, layout: Layout) -> Iterator[_Entry]:
    entry = _Entry(0)
    latest: datetime | None = None
    for number, line in _preamble(export):
        may_follow = line[:1] == "[" and _may_follow(entry, layout)
        following = _header(number, line, layout, latest) if may_follow else None
        if following is None:
            entry.body.append(line)
            continue
        yield _whole(export, entry, last=False)
        entry = following
        latest = entry.stamp.moment(layout.order) if entry.stamp and layout.forward else None
    yield _whole(export, entry, last=True)


def _may_follow(entry: _Entry, layout: Layout) -> bool:
    return entry.stamp is None or body_of.leaves_gap(entry.body, layout.blanks)


def _header(number: int, line: str, layout: Layout, latest: datetime | None) -> _Entry | None:
    found = HEADER.fullmatch(line)
    stamp = read(found["time"]) if found else None
    if found is None or stamp is None or stamp.shape != layout.shape:
        return None
    if latest is not None:
        moment = stamp.moment(layout.order)
        if moment is None or moment < latest - BACK:
            return None
    return _Entry(number, stamp, found["name"], bool(found["pinned"]))


def _whole(export: Export, entry: _Entry, last: bool) -> _Entry:
    if body_of.two_exports(entry.body) or (not last and body_of.announced(entry.body) is not None):
        raise DataError(f"{export.shown}:{entry.line + 1}: several exports in one file. Put each in a file of its own.")
    return entry


def _message(export: Export, entry: _Entry, number: int) -> Message:
    text, blocks, attachments = body_of.cut(body_of.without_footer(entry.body))
    return (
        why_dropped(text, body_of.is_notice(text), body_of.BLOCKS[0] in blocks),
        hashlib.sha256(f"{export.name}\n{number}".encode()).hexdigest()[:20],
        f"{export.name}:{entry.line}",
        entry.name,
        None,
        [entry.stamp.text] if entry.stamp else "",
        text,
        None,
        False,
        entry.pinned,
        attachments,
    )
