"""Messages from a folder of DiscordChatExporter exports, JSON, plain text or CSV, in every channel oldest first.

The files are read twice: to learn who writes, which way the times run and whether every message is there, and for
the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.errors import DataError
from runner.files import Row
from runner.step import Out, Step
from runner.steps.preprocess import _chat, _discord_csv, _discord_json, _discord_text
from runner.steps.preprocess._discord_dates import Dates
from runner.steps.preprocess._discord_export import Accounts, Advance, Export, Message
from runner.steps.preprocess._discord_folder import channels, decide_orders, exports, incomplete, told_twice

NOTE = "Plain text and CSV exports have no message ids, replies, edits or bots. JSON exports have."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker (the user name), nickname, author (the account id), time,
    text, reply_to, edited, pinned, attachments, and with `speaker:` role.

    Raises DataError, all problems together, where files are no exports, incomplete or of doubtful dates, or where the
    speaker is not there.
    """
    files, accounts = exports(step), Accounts()
    size = sum(export.path.stat().st_size for export in files)
    with out.progress("inspecting", size) as advance:
        _inspect(step, files, accounts, advance)
    accounts.join()
    speaker = _chat.speaker(step, accounts.people, "id, user name or nickname")
    days = _chat.days(step)
    with out.progress("writing rows", size) as advance:
        rows = _all_rows(step, out, files, accounts, days, advance)
        written = _chat.write(step, out, accounts.people, speaker, rows)
    metrics = {"files": len(files), "channels": len({export.conversation for export in files})}
    return _chat.facts(written, metrics, [] if all(export.has_ids for export in files) else [NOTE])


def _inspect(step: Step, files: list[Export], accounts: Accounts, advance: Advance) -> None:
    problems: list[str] = []
    dates: dict[str, Dates] = {}
    for export in files:
        try:
            if export.has_ids:
                _discord_json.inspect(export, accounts, advance)
            elif found := _inspect_lines(step, export, accounts):
                dates[export.name] = found
        except DataError as error:
            problems += error.lines
            continue
        if not step.params["allow_incomplete"]:
            problems += filter(None, [incomplete(export)])
    problems += decide_orders(files, dates, step.params.get("date_order"))
    problems += told_twice(files)
    if problems:
        raise DataError(*problems)


def _inspect_lines(step: Step, export: Export, accounts: Accounts) -> Dates | None:
    if export.ending == ".csv":
        export.may_be_torn = step.params["allow_incomplete"]
        return _discord_csv.inspect(export, accounts)
    return _discord_text.inspect(export, accounts, step.params.get("date_order"))


def _all_rows(
    step: Step, out: Out, files: list[Export], accounts: Accounts, days: _chat.Days, advance: Advance
) -> Iterator[_chat.Judged]:
    """Every message with the reason why it is dropped or None, each channel oldest first."""
    for parts in channels(files).values():
        seen: set[str] = set()
        for export in parts:
            rows = _rows(export, accounts, days, step.params["bots"] == "drop", advance)
            for reason, row in _chat.backwards(rows, out) if export.newest_first else rows:
                yield "the same message again" if row["id"] in seen else reason, row
                seen.add(row["id"])


def _rows(
    export: Export, accounts: Accounts, days: _chat.Days, no_bots: bool, advance: Advance
) -> Iterator[_chat.Judged]:
    if export.has_ids:
        messages = _discord_json.messages(export, advance)
    else:
        messages = (_discord_csv if export.ending == ".csv" else _discord_text).messages(export, export.order)
    for message in messages:
        row = _row(message, export, accounts)
        yield _reason(message, no_bots) or days.reason(row["time"]), row
    if not export.has_ids:
        advance(export.path.stat().st_size)


def _reason(message: Message, no_bots: bool) -> str | None:
    if message.system:
        return "system message"
    if message.forwarded:
        return "forwarded"
    if no_bots and message.bot:
        return "written by a bot"
    return None if message.text.strip() else "no text (attachment, sticker or embed only)"


def _row(message: Message, export: Export, accounts: Accounts) -> Row:
    author = accounts.author(message.author)
    return {
        "id": message.id,
        "source": message.source,
        "conversation": export.conversation,
        "channel": export.channel,
        "speaker": accounts.people.people[author].name,
        "nickname": message.nickname,
        "author": author,
        "time": message.time.isoformat(),
        "text": message.text,
        "reply_to": message.reply_to,
        "edited": message.edited,
        "pinned": message.pinned,
        "attachments": list(message.attachments),
    }
