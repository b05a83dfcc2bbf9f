"""CSV exports of DiscordChatExporter: account ids, but no message ids, replies, pins, or count to check against."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from runner.errors import DataError
from runner.steps.preprocess._chat_files import ChatFile
from runner.steps.preprocess._chat_looks import refusal
from runner.steps.preprocess._discord_body import is_notice
from runner.steps.preprocess._discord_dates import Dates, Stamp, read
from runner.steps.preprocess._discord_export import Accounts, Export, Message
from runner.steps.preprocess._discord_text import CHANNEL_ID, FULL_NAME

NEEDED = ("Author", "Date", "Content")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT")
_BETWEEN = re.compile(r",(?=https?://|[^,]*[\\/])")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: its number, the line that it ends on, and its cells by column."""

    number: int
    line: int
    cells: dict[str, str]


def inspect(export: Export, accounts: Accounts) -> Dates | None:
    """Read a file once: its direction and who writes; returns the date orders that it allows if they may differ.

    Raises DataError where it is not an export, is cut off, or its times cannot be read.
    """
    named = CHANNEL_ID.search(export.path.name)
    stem = re.sub(r" \[part \d+\]$", "", export.path.stem)
    export.conversation = named[1] if named else export.name.rpartition(".")[0].split(" [part ")[0]
    export.channel = re.sub(r" \[\d+\].*$", "", stem).split(" - ")[-1]
    dates: Dates | None = None
    for row in _rows(export):
        export.found += 1
        moment = _moment(export, row)
        if isinstance(moment, Stamp):
            dates = dates or Dates(moment)
            dates.see(moment)
        else:
            export.trend.see(moment)
    export.announced = export.found
    if dates and not dates.possible:
        raise DataError(
            f"{export.shown}:1: its times fit no order of day, month and year from 2015 on. Re-export as JSON."
        )
    for message in messages(export, dates.possible[0] if dates else ""):
        accounts.see(message, has_id=message.author != message.full_name)
    return dates


def messages(export: Export, order: str) -> Iterator[Message]:
    """The messages of an inspected file, in its order."""
    for row in _rows(export):
        moment = _moment(export, row)
        when = moment.moment(order) if isinstance(moment, Stamp) else moment
        if when is None:
            raise DataError(f"{export.shown}:{row.line}: this time cannot be read {order}. Re-export as JSON.")
        yield _message(export, row, when)


def _message(export: Export, row: Line, when: datetime) -> Message:
    full_name, text = row.cells["Author"], row.cells["Content"]
    legacy = FULL_NAME.fullmatch(full_name)
    attached = row.cells.get("Attachments", "")
    return Message(
        id=hashlib.sha256(f"{export.name}\n{row.number}".encode()).hexdigest()[:20],
        source=f"{export.name}:{row.line}",
        author=row.cells.get("AuthorID") or full_name,
        name=legacy["name"] if legacy else full_name,
        full_name=full_name,
        nickname=None,
        bot=False,
        system=is_notice(text),
        forwarded=False,
        time=when,
        text=text,
        attachments=tuple(_BETWEEN.split(attached)) if attached else (),
    )


def _moment(export: Export, row: Line) -> datetime | Stamp:
    """The time of a row: told in full since 2.42.3, before that as its culture writes it."""
    text = row.cells["Date"]
    try:
        found = datetime.fromisoformat(text) if _ISO.match(text) else read(text)
    except ValueError:
        found = None
    if found is None:
        raise DataError(f"{export.shown}:{row.line}: the time '{text}' is of no known form. Re-export as JSON.")
    return found


def _rows(export: Export) -> Iterator[Line]:
    number = 0
    try:
        with export.path.open(encoding="utf-8-sig", newline="") as stream:
            mark = ";" if re.match(r'"?\w+"?;', stream.readline()) else ","
            stream.seek(0)
            table = csv.reader(stream, delimiter=mark, strict=True)
            columns = next(table, [])
            if not {*NEEDED} <= {*columns}:
                raise DataError(refusal(ChatFile(export.path, export.name, 0), "a CSV export of DiscordChatExporter"))
            for number, cells in enumerate(table, 1):
                yield _line(export, number, table.line_num, columns, cells)
    except csv.Error as error:
        torn = "unexpected end" in str(error)
        if torn and export.may_be_torn:
            return
        advice = "or set allow_incomplete: true." if torn else "as JSON."
        raise DataError(
            f"{export.shown}:1: cut off or damaged after {number} messages ({error}). Re-export it, {advice}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{export.shown}:1: not UTF-8 ({error.reason}). Re-export it, and do not save it from an editor."
        ) from error


def _line(export: Export, number: int, line: int, columns: list[str], cells: list[str]) -> Line:
    if len(cells) != len(columns):
        raise DataError(
            f"{export.shown}:{line}: {len(cells)} cells where the header names {len(columns)}. "
            "The file was changed: re-export it."
        )
    return Line(number, line, dict(zip(columns, cells, strict=True)))
