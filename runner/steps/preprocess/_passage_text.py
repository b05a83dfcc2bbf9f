"""Paragraphs of text files, with the lines they begin on and the headings above them; answers of interview files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from runner.errors import DataError
from runner.headers import encoding_of, open_text
from runner.steps.preprocess._reading import Source
from runner.steps.preprocess._table_json import values
from runner.steps.preprocess._table_text import CONFLICT, OTHER_BYTES, Conflicts, decoded

HEADING = re.compile(
    r"(?P<marks>#{1,6})\s+(?P<text>\S.*?)\s*#*\s*$|(?P<equals>={2,6})\s*(?P<title>\S.*?)\s*(?P=equals)\s*$"
)


class Passage(NamedTuple):
    """One paragraph, or a heading; `reason` says why a line cannot be read."""

    line: int
    text: str
    heading: str | None
    is_heading: bool = False
    reason: str = ""
    number: int = 0  # the reply's place in an interview file, where several may stand on a line


def paragraphs(source: Source, encoding: str | None, blocks: bool) -> Iterator[Passage]:
    """The paragraphs of a text file: a line each, or with `blocks` what stands between blank lines.

    The headings above a paragraph are joined: 'Early life > The King's School'.
    """
    above: dict[int, str] = {}
    held: list[str] = []
    start = 0
    for number, line, reason in _lines(source, encoding):
        found = None if reason else HEADING.match(line)
        if held and (reason or found or not line.strip()):
            yield Passage(start, "\n".join(held), _path(above))
            held = []
        if reason:
            yield Passage(number, line, _path(above), reason=reason)
        elif found:
            level = len(found["marks"] or found["equals"])
            above = {depth: text for depth, text in above.items() if depth < level}
            above[level] = (found["text"] or found["title"]).strip()
            yield Passage(
                number, above[level], _path({depth: text for depth, text in above.items() if depth < level}), True
            )
        elif line.strip() and blocks:
            start = start if held else number
            held.append(line)
        elif line.strip():
            yield Passage(number, line, _path(above))
    if held:
        yield Passage(start, "\n".join(held), _path(above))


def _lines(source: Source, encoding: str | None) -> Iterator[tuple[int, str, str]]:
    """Every line with its number, and why it cannot be read or ''."""
    chosen, conflicts, number = encoding or encoding_of(source.path), Conflicts(), 0
    with open_text(source.path, chosen) as stream:
        try:
            for number, line in enumerate(stream, 1):
                reason = CONFLICT if conflicts.hold(line) else "" if decoded(line) else OTHER_BYTES
                yield number, line.rstrip("\r\n"), reason or ("a NUL character" if "\0" in line else "")
        except UnicodeError as error:
            raise DataError(f"{source.shown}:{number + 1}: not {chosen}. Name its encoding: encoding: …") from error


def _path(above: dict[int, str]) -> str | None:
    return " > ".join(above[level] for level in sorted(above)) or None


def answers(source: Source, encoding: str | None, speaker: str | None, voices: Counter[str]) -> Iterator[Passage]:
    """What is said in an interview file, [{question, reply: [{role, content}]}], the question as its heading.

    `voices` learns who says how much; with `speaker` only that one's words are given.
    """
    number = 0
    for line, value in values(source, encoding, json.JSONDecoder()):
        replies = value.get("reply") if isinstance(value, dict) else None
        if not isinstance(replies, list):
            raise DataError(
                f"{source.shown}:{line}: no interview: an entry without question and reply. Use preprocess: table."
            )
        for reply in replies:
            number += 1
            if not (isinstance(reply, dict) and isinstance(reply.get("content"), str)):
                yield Passage(line, json.dumps(reply), None, reason="a reply without content")
                continue
            question = str(value.get("question") or "")
            if not decoded(reply["content"] + question):
                yield Passage(line, json.dumps(reply), None, reason="half a character (a lone surrogate)")
                continue
            role = str(reply.get("role", ""))
            voices[role] += 1
            if speaker is None or role == speaker:
                yield Passage(line, reply["content"], question or None, number=number)
