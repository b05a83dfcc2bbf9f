"""Plain text exports of DiscordChatExporter: no ids, no replies, no bots, but a count at the end to check against."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from runner.errors import DataError
from runner.steps.preprocess import _discord_body as body_of
from runner.steps.preprocess._discord_dates import Dates, Stamp, read
from runner.steps.preprocess._discord_export import Accounts, Export, Message, Trend

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
    """Read a file's preamble, layout, counts and authors; returns the date orders that it allows, if it has messages.

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
    for message in messages(export, dates.possible[0]):
        accounts.see(message, has_id=False)
    return dates


def messages(export: Export, order: str) -> Iterator[Message]:
    """The messages of an inspected file, in its order."""
    for number, entry in enumerate(_entries(export, replace(export.layout, order=order))):
        if entry.stamp is not None:
            yield _message(export, entry, number, order)


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
    export.found = 0
    before: Stamp | None = None
    for entry in _entries(export, layout):
        export.found += entry.stamp is not None
        if entry.stamp and dates and (before is None or before.text != entry.stamp.text):
            dates.see(entry.stamp)
            before = entry.stamp
        export.announced = body_of.announced(entry.body)  # the last one counts


def _lines(export: Export) -> Iterator[tuple[int, str]]:
    """Lines with their numbers. In a file with CRLF a bare LF belongs to a message: such a line holds line breaks."""
    held, start, end = b"", 1, b"\n"
    with export.path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if number == 1:
                end = b"\r\n" if raw.endswith(b"\r\n") else b"\n"
            held += raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if held.endswith(end):
                yield start, _decode(export, start, held.removesuffix(end))
                held, start = b"", number + 1
    if held:
        yield start, _decode(export, start, held)


def _decode(export: Export, number: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{export.shown}:{number}: not UTF-8 ({error.reason}). Re-export it, and do not save it from an editor."
        ) from error


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


def _message(export: Export, entry: _Entry, number: int, order: str) -> Message:
    moment = entry.stamp.moment(order) if entry.stamp else None
    if moment is None:
        raise DataError(f"{export.shown}:{entry.line}: this time cannot be read {order}. Re-export as JSON.")
    text, blocks, attachments = body_of.cut(body_of.without_footer(entry.body))
    legacy = FULL_NAME.fullmatch(entry.name)
    return Message(
        id=hashlib.sha256(f"{export.name}\n{number}".encode()).hexdigest()[:20],
        source=f"{export.name}:{entry.line}",
        author=entry.name,
        name=legacy["name"] if legacy else entry.name,
        full_name=entry.name,
        nickname=None,
        bot=False,
        system=body_of.is_notice(text),
        forwarded=body_of.BLOCKS[0] in blocks,
        time=moment,
        text=text,
        pinned=entry.pinned,
        attachments=tuple(attachments),
    )
