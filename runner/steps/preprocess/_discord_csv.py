"""CSV exports of DiscordChatExporter: account ids, but no message ids, replies, pins, or count to check against."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter

from runner.errors import DataError
from runner.steps.preprocess._chat_files import ChatFile
from runner.steps.preprocess._chat_looks import refusal
from runner.steps.preprocess._discord_body import is_notice
from runner.steps.preprocess._discord_dates import Dates, Stamp, read
from runner.steps.preprocess._discord_export import Accounts, Export, Message, why_dropped
from runner.steps.preprocess._discord_text import CHANNEL_ID, short

NEEDED, USED = ("Author", "Date", "Content"), ("AuthorID", "Attachments")
_BETWEEN = re.compile(r",(?=https?://|[^,]*[\\/])")


# One row of the table: its number, the line that it ends on, and author, date, content, author's id and attachments.
Line = tuple[int, int, tuple[str, str, str, str, str]]


def inspect(export: Export, accounts: Accounts) -> Dates | None:
    """Read a file: its direction, who writes and what; returns the date orders that it allows if they may differ.

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
        export.messages.add(_message(export, accounts, row, moment))
    export.announced = export.found
    if dates and not dates.possible:
        raise DataError(
            f"{export.shown}:1: its times fit no order of day, month and year from 2015 on. Re-export as JSON."
        )
    return dates


def _message(export: Export, accounts: Accounts, row: Line, moment: datetime | Stamp) -> Message:
    number, line, (full_name, _, text, author_id, attached) = row
    author = author_id or full_name
    dropped = why_dropped(text, is_notice(text), forwarded=False)
    accounts.people.see(author, short(full_name), full_name, dropped is None, has_id=author != full_name)
    own = hashlib.sha256(f"{export.name}\n{number}".encode()).hexdigest()[:20]
    time = [moment.text] if isinstance(moment, Stamp) else moment.isoformat()
    attachments = _BETWEEN.split(attached) if attached else []
    return dropped, own, f"{export.name}:{line}", author, None, time, text, None, False, False, attachments


def _moment(export: Export, row: Line) -> datetime | Stamp:
    """The time of a row: told in full since 2.42.3, before that as its culture writes it."""
    _, line, (_, date, _, _, _) = row
    try:
        found = datetime.fromisoformat(date) if date[10:11] == "T" else read(date)
    except ValueError:
        found = None
    if found is None:
        raise DataError(f"{export.shown}:{line}: the time '{date}' is of no known form. Re-export as JSON.")
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
            size = len(columns)
            cut = itemgetter(*(columns.index(name) if name in columns else size for name in (*NEEDED, *USED)))
            for number, cells in enumerate(table, 1):
                if len(cells) != size:
                    raise DataError(_shifted(export, table.line_num, cells, size))
                cells.append("")  # of a column that is not there
                yield number, table.line_num, cut(cells)
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


def _shifted(export: Export, line: int, cells: list[str], size: int) -> str:
    return (
        f"{export.shown}:{line}: {len(cells)} cells where the header names {size}. The file was changed: re-export it."
    )
