"""Messages from a folder of DiscordChatExporter exports, JSON or plain text, in every channel oldest first.

The files are read twice: to learn who writes, which way the times run and whether every message is there, and for
the rows.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, dumps, loads
from runner.step import Out, Step
from runner.steps.preprocess import _discord_json, _discord_text
from runner.steps.preprocess._discord_dates import Dates
from runner.steps.preprocess._discord_export import Advance, Export, Message, People
from runner.steps.preprocess._discord_folder import channels, decide_orders, exports, incomplete, shown, told_twice

TEXT_NOTE = "Plain text exports have no message ids, replies, edits or bots. JSON exports have."


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, channel, speaker (the user name), nickname, author (the account id), time,
    text, reply_to, edited, pinned, attachments, and with `speaker:` role.

    Raises DataError, all problems together, where files are no exports, incomplete or of doubtful dates, or where the
    speaker is not there.
    """
    files, people = exports(step), People()
    size = sum(export.path.stat().st_size for export in files)
    with out.progress("inspecting", size) as advance:
        _inspect(step, files, people, advance)
    people.join()
    speaker = _speaker(step, people)
    limits = _limits(step)
    written: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    with out.rows() as rows, out.progress("writing rows", size) as advance:
        for reason, row in _all_rows(step, out, files, people, limits, advance):
            if reason:
                dropped[reason] += 1
                out.reject(row, reason)
                continue
            written[row["author"]] += 1
            rows.write({**row, "role": "assistant" if row["author"] == speaker else "user"} if speaker else row)
    _refuse_silence(step, people, speaker, written, dropped)
    return _facts(files, people, written)


def _inspect(step: Step, files: list[Export], people: People, advance: Advance) -> None:
    problems: list[str] = []
    dates: dict[str, Dates] = {}
    for export in files:
        try:
            if export.is_text:
                found = _discord_text.inspect(export, people, step.params.get("date_order"))
                dates |= {export.name: found} if found else {}
                advance(export.path.stat().st_size)
            else:
                _discord_json.inspect(export, people, advance)
        except DataError as error:
            problems += error.lines
            continue
        if not step.params["allow_incomplete"]:
            problems += filter(None, [incomplete(export)])
    problems += decide_orders(files, dates, step.params.get("date_order"))
    problems += told_twice(files)
    if problems:
        raise DataError(*problems)


def _speaker(step: Step, people: People) -> str | None:
    """The author id of the person that `speaker:` names."""
    wanted = step.params.get("speaker")
    if wanted is None:
        return None
    found, where = people.find(wanted), shown(step.folder) if step.folder else ""
    if not found:
        everyone = people.listed(list(people.people)) or "nobody"
        raise DataError(
            f"{where}: no author has the id, user name or nickname '{wanted}'. Set speaker to one of: {everyone}."
        )
    if len(found) > 1:
        raise DataError(
            f"{where}: '{wanted}' is the name of several: {people.listed(found)}. Set speaker to an id or a full name."
        )
    return found[0]


Limits = tuple[date | None, date | None, bool]


def _limits(step: Step) -> Limits:
    days: list[date | None] = []
    for key in ("since", "until"):
        try:
            days.append(date.fromisoformat(step.params[key]) if key in step.params else None)
        except ValueError as error:
            raise StepError(f"{step.name}.{key}: {step.params[key]} is not a date. Write it as 2024-01-31.") from error
    return days[0], days[1], step.params["bots"] == "drop"


def _all_rows(
    step: Step, out: Out, files: list[Export], people: People, limits: Limits, advance: Advance
) -> Iterator[tuple[str | None, Row]]:
    """Every message as (why it is dropped or None, its row), each channel oldest first."""
    for parts in channels(files).values():
        seen: set[str] = set()
        for export in parts:
            rows = _rows(export, people, limits, advance)
            for reason, row in _backwards(rows, out) if export.newest_first else rows:
                yield "the same message again" if row["id"] in seen else reason, row
                seen.add(row["id"])


def _rows(export: Export, people: People, limits: Limits, advance: Advance) -> Iterator[tuple[str | None, Row]]:
    if not export.is_text:
        yield from (
            (_reason(message, limits), _row(message, export, people))
            for message in _discord_json.messages(export, advance)
        )
        return
    for message in _discord_text.messages(export, export.order):
        yield _reason(message, limits), _row(message, export, people)
    advance(export.path.stat().st_size)


def _reason(message: Message, limits: Limits) -> str | None:
    since, until, no_bots = limits
    day = message.time.date()
    checks = (
        (message.system, "system message"),
        (message.forwarded, "forwarded"),
        (no_bots and message.bot, "written by a bot"),
        (not message.text.strip(), "no text (attachment, sticker or embed only)"),
        (since is not None and day < since, "before since"),
        (until is not None and day > until, "after until"),
    )
    return next((reason for applies, reason in checks if applies), None)


def _row(message: Message, export: Export, people: People) -> Row:
    author = people.author(message.author)
    return {
        "id": message.id,
        "source": message.source,
        "conversation": export.conversation,
        "channel": export.channel,
        "speaker": people.people[author].name,
        "nickname": message.nickname,
        "author": author,
        "time": message.time.isoformat(),
        "text": message.text,
        "reply_to": message.reply_to,
        "edited": message.edited,
        "pinned": message.pinned,
        "attachments": list(message.attachments),
    }


def _backwards(rows: Iterable[tuple[str | None, Row]], out: Out) -> Iterator[tuple[str | None, Row]]:
    """The rows of a file that was exported newest first, turned round through a file: memory holds a number a row."""
    starts: list[int] = []
    with tempfile.TemporaryFile(dir=out.folder) as spool:
        for entry in rows:
            starts.append(spool.tell())
            spool.write(dumps(entry).encode() + b"\n")
        for start in reversed(starts):
            spool.seek(start)
            reason, row = loads(spool.readline().decode())
            yield reason, row


def _refuse_silence(
    step: Step, people: People, speaker: str | None, written: Counter[str], dropped: Counter[str]
) -> None:
    where = shown(step.folder) if step.folder else ""
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
    if not written:
        raise DataError(
            f"{where}: nobody says anything in these exports"
            + (f" (dropped: {why})." if why else ".")
            + " Export more, or drop fewer."
        )
    if speaker and not written[speaker]:
        hint = " This author is a bot: set bots: keep." if people.people[speaker].bot else ""
        raise DataError(
            f"{where}: no message by {people.listed([speaker])} is left (dropped: {why or 'nothing'}).{hint}"
        )


def _facts(files: list[Export], people: People, written: Counter[str]) -> dict[str, Any]:
    ranked = sorted(written.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [[people.people[author].name, author, count] for author, count in ranked]
    return {
        "metrics": {
            "files": len(files),
            "channels": len({export.conversation for export in files}),
            "speakers": len(written),
        },
        "tables": [{"title": "Who speaks", "columns": ["speaker", "author", "messages"], "rows": rows[:20]}],
        "notes": [TEXT_NOTE] if any(export.is_text for export in files) else [],
    }
