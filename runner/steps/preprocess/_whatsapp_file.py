"""One WhatsApp chat: its lines, its messages, and the names in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from runner.errors import DataError
from runner.steps.preprocess import _whatsapp_marks as marks
from runner.steps.preprocess._batches import Section
from runner.steps.preprocess._chat_files import Advance, ChatFile, lines
from runner.steps.preprocess._chat_looks import refusal
from runner.steps.preprocess._whatsapp_dates import Evidence
from runner.steps.preprocess._whatsapp_layout import Layout, learn

SURE = 3  # as many messages of one name must begin alike before that beginning is taken for a part of the name
STRANGE = 0.01  # share of lines that look like headers of another shape; more cannot be quotations


# A message as it stands: its line, day, clock and half of the day as its header has them (no day: a line before the first
# header), and the text with the name before it.
Entry = tuple[int, str, str, str, str]
# What is made of it: the name before the text, where the text begins, why it is no speech or None, what WhatsApp's own
# words leave of the text (None: all of it), and whether it was edited.
Found = tuple[Entry, str, int, str | None, str | None, bool]


@dataclass
class Chat:
    """A file. `longer`: names with a colon in them, by what stands before it; `order`: of the numbers of its dates."""

    file: ChatFile
    layout: Layout
    conversation: str
    channel: str
    found: Section
    heads: Counter[str] = field(default_factory=Counter)
    longer: dict[str, str] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    order: str = ""
    told: bool = False  # the order is what date_order says, and nothing in the file decides it


def cut(text: str) -> tuple[str, str]:
    """What stands before the first colon, and after it; "" and all of it where WhatsApp itself speaks."""
    head, colon, rest = text.partition(": ")
    if not colon or "\n" in head:
        line, _, more = text.partition("\n")
        if not line.endswith((":", ":.")):
            return "", text
        head, rest = line.rstrip(".").rstrip(":"), more
    return ("", text) if marks.is_notice(head) else (head, rest)


def inspect(file: ChatFile, found: Section, advance: Advance) -> Chat:
    """Read a file: its layout, what its dates say, who writes, and into `found` its messages.

    Raises DataError where it is no WhatsApp chat.
    """
    layout = _layout(file)
    path = PurePosixPath(file.name)
    named = path.parent if path.stem.lower() == "_chat" and path.parent.name else path
    stem = named.stem if named.suffix.lower() in (".txt", ".zip") else named.name
    chat = Chat(file, layout, str(named.with_name(stem)), marks.title(stem), found)
    alike: dict[str, str] = {}
    before = ""
    for entry in entries(file, layout, advance):
        _, day, _, _, text = entry
        if not day:
            found.add((entry, "", 0, None, None, False))
            continue
        if day != before:
            before = day
            chat.evidence.see(before)
        head, colon, rest = text.partition(": ")
        if not colon or head not in chat.heads:  # not a name that is known already
            head, rest = cut(text)
        reason, words, edited = marks.read(rest) if head else (marks.NOTICE, rest, False)
        found.add((entry, head, len(text) - len(rest), reason, None if words is rest else words, edited))
        if head:
            chat.heads[head] += reason is None
            if alike.get(head) != "":
                second = cut(rest)[0]
                if alike.setdefault(head, second) != second:
                    alike[head] = ""
    chat.longer = {head: f"{head}: {more}" for head, more in alike.items() if more and chat.heads[head] >= SURE}
    return chat


def _layout(file: ChatFile) -> Layout:
    seen = 0
    for _, line in lines(file):
        found = learn(line)
        if found:
            return found
        seen += bool(line.strip())
        if seen > SURE:
            break
    raise DataError(refusal(file, "a WhatsApp chat"))


def entries(file: ChatFile, layout: Layout, advance: Advance) -> Iterator[Entry]:
    """The messages of a file, in its order. Raises DataError where its headers are of several shapes."""
    match = layout.line.match
    day = clock = half = text = ""
    more: list[str] = []
    first = found_count = strange = 0
    for number, line in lines(file, advance):
        found = match(line)
        if found is None:
            if not day:
                if line.strip():
                    yield number, "", "", "", line
                continue
            more.append(line)
            if (line[:1].isdigit() or line[:1] in "[\u200e") and learn(line):
                strange += 1
                if strange > max(SURE, STRANGE * found_count):
                    raise DataError(_several(file, layout, number, line))
            continue
        if day:
            yield first, day, clock, half, "\n".join([text, *more]) if more else text
        day, clock, half, text = found.group("day", "clock", "half", "rest")
        first, more = number, []
        found_count += 1
    if day:
        yield first, day, clock, half, "\n".join([text, *more])


def _several(file: ChatFile, layout: Layout, number: int, line: str) -> str:
    return (
        f"{file.shown}:{number}: '{line[:30]}…' begins otherwise than the first message ('{layout.example}'), and not "
        "only this line does. Are these several exports? Put each in a file of its own."
    )
