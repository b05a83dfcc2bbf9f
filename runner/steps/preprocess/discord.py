"""Messages from a folder of DiscordChatExporter exports, JSON, plain text or CSV, in every channel oldest first.

Rows are written once all files are read: only then is it known who writes, which way the times run and whether every
message is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.errors import DataError
from runner.step import Out, Step
from runner.steps.preprocess import _chat, _discord_csv, _discord_json, _discord_text
from runner.steps.preprocess._batches import Batches
from runner.steps.preprocess._discord_dates import Dates, iso
from runner.steps.preprocess._discord_export import Accounts, Advance, Export
from runner.steps.preprocess._discord_folder import channels, decide_orders, exports, incomplete, told_twice

NOTE = "Plain text and CSV exports have no message ids, replies, edits or bots. JSON exports have."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker (the user name), nickname, author (the account id), time,
    text, reply_to, edited, pinned, attachments, and with `speaker:` role.

    Raises DataError, all problems together, where files are no exports, incomplete or of doubtful dates, or where the
    speaker is not there.
    """
    accounts = Accounts(no_bots=step.params["bots"] == "drop")
    with Batches(out.folder) as batches:
        files = exports(step, batches)
        with out.progress("reading", sum(export.path.stat().st_size for export in files)) as advance:
            _inspect(step, files, accounts, advance)
        accounts.join()
        speaker = _chat.speaker(step, accounts.people, "id, user name or nickname")
        rows = _all_rows(files, accounts, _chat.days(step))
        written = _chat.write(step, out, accounts.people, speaker, rows, sum(export.found for export in files))
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
        if not export.has_ids:
            advance(export.path.stat().st_size)
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


def _all_rows(files: list[Export], accounts: Accounts, days: _chat.Days) -> Iterator[_chat.Judged]:
    """Every message with the reason why it is dropped or None, each channel oldest first."""
    for parts in channels(files).values():
        seen: set[str] = set()
        for export in parts:
            has_ids = export.has_ids
            for reason, row in _rows(export, accounts):
                again = has_ids and row["id"] in seen
                yield "the same message again" if again else reason or days.reason(row["time"]), row
                if has_ids:
                    seen.add(row["id"])


def _rows(export: Export, accounts: Accounts) -> Iterator[_chat.Judged]:
    people = accounts.people.people
    names: dict[str, tuple[str, str]] = {}
    for message in reversed(export.messages) if export.newest_first else export.messages:
        reason, own, source, by, nickname, told, text, reply_to, edited, pinned, attachments = message
        if by not in names:
            author = accounts.author(by)
            names[by] = author, people[author].name
        author, speaker = names[by]
        row = {
            "id": own,
            "source": source,
            "conversation": export.conversation,
            "channel": export.channel,
            "speaker": speaker,
            "nickname": nickname,
            "author": author,
            "time": _time(export, source, told) if isinstance(told, list) else told,
            "text": text,
            "reply_to": reply_to,
            "edited": edited,
            "pinned": pinned,
            "attachments": attachments,
        }
        yield reason, row


def _time(export: Export, source: str, told: list[str]) -> str:
    time = iso(told[0], export.order)
    if time is None:
        line = source.rpartition(":")[2]
        raise DataError(f"{export.shown}:{line}: this time cannot be read {export.order}. Re-export as JSON.")
    return time
