"""One WhatsApp chat: its lines, its messages, and the names in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from runner.errors import DataError
from runner.steps.preprocess import _whatsapp_marks as marks
from runner.steps.preprocess._chat_files import Advance, ChatFile, lines
from runner.steps.preprocess._chat_looks import refusal
from runner.steps.preprocess._whatsapp_dates import Evidence
from runner.steps.preprocess._whatsapp_layout import Layout, learn

SURE = 3  # as many messages of one name must begin alike before that beginning is taken for a part of the name
STRANGE = 0.01  # share of lines that look like headers of another shape; more cannot be quotations


@dataclass(slots=True)
class Entry:
    """A message as it stands: its line, the parts of its header, and the text with the name before it.

    Without a day: a line before the first header.
    """

    line: int
    day: str
    clock: str
    half: str
    text: str


@dataclass
class Chat:
    """A file. `longer`: names with a colon in them, by what stands before it; `order`: of the numbers of its dates."""

    file: ChatFile
    layout: Layout
    conversation: str
    channel: str
    heads: Counter[str] = field(default_factory=Counter)
    longer: dict[str, str] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    order: str = ""
    told: bool = False  # the order is what date_order says, and nothing in the file decides it

    def split(self, text: str) -> tuple[str, str]:
        """Name and words of what follows a header; no name before a notice."""
        head, rest = cut(text)
        name = self.longer.get(head, head)
        return (name, rest) if name == head else (name, text[len(name) + 2 :])


def cut(text: str) -> tuple[str, str]:
    """What stands before the first colon, and after it; "" and all of it where WhatsApp itself speaks."""
    head, colon, rest = text.partition(": ")
    if not colon or "\n" in head:
        line, _, more = text.partition("\n")
        if not line.endswith((":", ":.")):
            return "", text
        head, rest = line.rstrip(".").rstrip(":"), more
    return ("", text) if marks.is_notice(head) else (head, rest)


def inspect(file: ChatFile, advance: Advance) -> Chat:
    """Read a file once: its layout, what its dates say, who writes. Raises DataError where it is no WhatsApp chat."""
    layout = _layout(file)
    path = PurePosixPath(file.name)
    named = path.parent if path.stem.lower() == "_chat" and path.parent.name else path
    stem = named.stem if named.suffix.lower() in (".txt", ".zip") else named.name
    chat = Chat(file, layout, str(named.with_name(stem)), marks.title(stem))
    alike: dict[str, str] = {}
    before = ""
    for entry in entries(file, layout, advance):
        if not entry.day:
            continue
        if entry.day != before:
            before = entry.day
            chat.evidence.see(before)
        head, rest = cut(entry.text)
        if head:
            chat.heads[head] += marks.read(rest)[0] is None
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
    head: tuple[str, ...] = ()
    body: list[str] = []
    first = found_count = strange = 0
    for number, line in lines(file, advance):
        found = match(line)
        if found is None:
            if not head:
                if line.strip():
                    yield Entry(number, "", "", "", line)
                continue
            body.append(line)
            if (line[:1].isdigit() or line[:1] in "[\u200e") and learn(line):
                strange += 1
                if strange > max(SURE, STRANGE * found_count):
                    raise DataError(_several(file, layout, number, line))
            continue
        if head:
            yield Entry(first, head[0], head[1], head[2], "\n".join(body))
        first, head, body = number, found.group("day", "clock", "half"), [found["rest"]]
        found_count += 1
    if head:
        yield Entry(first, head[0], head[1], head[2], "\n".join(body))


def _several(file: ChatFile, layout: Layout, number: int, line: str) -> str:
    return (
        f"{file.shown}:{number}: '{line[:30]}…' begins otherwise than the first message ('{layout.example}'), and not "
        "only this line does. Are these several exports? Put each in a file of its own."
    )
