"""How one WhatsApp file writes its headers: learned from the first one, since all of a file are of one shape."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.steps.preprocess._discord_dates import EVENING, MORNING
from runner.steps.preprocess._whatsapp_marks import BIDI

_EARLY = {*MORNING, "凌晨", "早上", "清晨", "pg", "dop", "dopoledne", "पूर्वाह्न"}
_LATE = {*EVENING, "中午", "晚上", "傍晚", "ptg", "odp", "odpoledne", "अपराह्न"}
_BETWEEN = {"", "klo", "kl", "um", "at", "alas", "às", "à", "в", "г", "u", "om", "alle", "ore", "pukul"}

_HIDDEN = f"[{BIDI}]*"
_HEADER = re.compile(
    rf"{_HIDDEN}\[?{_HIDDEN}(?P<day>\d{{1,4}}{_HIDDEN}(?P<sep>[-/.])\s?{_HIDDEN}\d{{1,2}}{_HIDDEN}(?P=sep)\s?{_HIDDEN}\d{{1,4}})"
    rf"(?P<gap>{_HIDDEN}\.?,?\s[^\d\n]{{0,14}})(?P<clock>\d{{1,2}}(?P<colon>[:.])\d{{2}}(?:(?P=colon)\d{{2}})?)"
    rf"(?P<after>{_HIDDEN}\s?[^\d\s\]:–-][^\d\n\]:]{{0,11}}?)?(?P<end>\]\s?|\s[-–]\s|:\s)"
)


@dataclass(frozen=True)
class Layout:
    """`line` takes a line apart: day, clock, half (of the day, "" where it names none), rest. `example` is a header."""

    line: re.Pattern[str]
    example: str
    dots: bool


def learn(text: str) -> Layout | None:
    """The layout of a file in which this is a header; None where it is none."""
    found = _HEADER.match(text)
    if found is None:
        return None
    gap, after = _words(found["gap"]), _words(found["after"] or "")
    if gap is None or after is None:
        return None
    half = "" if "(?P<half>" in gap + after else "(?P<half>)"
    parts = (
        _shape(text[: found.start("day")] or " ").removeprefix(r"\s"),
        f"(?P<day>{_shape(found['day'])})",
        gap,
        f"(?P<clock>{_shape(found['clock'])})",
        after + half,
        _shape(found["end"]),
        "(?P<rest>.*)",
    )
    return Layout(
        re.compile(_HIDDEN + "".join(parts), re.DOTALL),
        text[: found.end("after" if found["after"] else "clock")].strip(f"[{BIDI}"),
        found["sep"] == ".",
    )


def _shape(text: str) -> str:
    """A pattern of this shape: any digits, any kind of space, with or without marks of direction."""
    made = ""
    for token in re.findall(r"\d+|\s|[^\d\s]", text):
        if token.isdecimal():
            made += r"\d{4}" if len(token) == 4 else r"\d{1,2}"
        elif token.isspace():
            made += r"\s"
        else:
            made += _HIDDEN if token in BIDI else re.escape(token)
    return made


def _words(text: str) -> str | None:
    """A pattern for what stands between date and clock, or after it; None where its words are unknown."""
    found = re.fullmatch(rf"({_HIDDEN}\.?,?\s*)(.*?)(\s*)", text)
    if found is None:
        return None
    if half(found[2]) is not None:
        return rf"{_shape(found[1])}(?P<half>[^\d\n\]]{{1,14}}?){_shape(found[3])}"
    return _shape(text) if re.sub(r"[\s.,]", "", found[2]).casefold() in _BETWEEN else None


def half(text: str) -> int | None:
    """The hours that a word for a half of the day adds: 0 or 12; None where it is no such word."""
    word = re.sub(rf"[.\s{BIDI}]", "", text).casefold()
    return 0 if word in _EARLY else 12 if word in _LATE else None
