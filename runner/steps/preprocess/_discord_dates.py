"""The times of plain text exports. Every culture writes them its own way, and day and month look alike."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from runner.steps.preprocess._discord_export import Trend

ORDERS = ("year-first", "day-first", "month-first")
MORNING = ("am", "오전", "上午", "午前", "ص", "πμ", "sa", "de", "fm", "vm", "pd", "eparadites")
EVENING = ("pm", "오후", "下午", "午後", "م", "μμ", "ch", "du", "em", "nm", "md", "epasdites")
MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
BETWEEN = {"h", "\u0433", "klo", "kl", "um", "at", "в", "o", "à", "t"}  # words between date and time that say nothing
FIRST_YEAR, LAST_YEAR = 2015, 2099  # Discord began in 2015; other calendars count otherwise

_HIDDEN = {ord(mark): None for mark in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
_ZEROS = str.maketrans("123456789", "000000000")
_SPACES = {ord(space): " " for space in "\u00a0\u202f\u2009"}


def _halves() -> re.Pattern[str]:
    # "pm" stands for PM, p.m., p. m. and p.m; longer words first, so that none hides another.
    words = sorted(MORNING + EVENING, key=len, reverse=True)
    spelt = [r"\.?\s?".join(map(re.escape, word)) + r"\.?" for word in words]
    return re.compile(r"(?<![^\W\d_])(?:" + "|".join(spelt) + r")(?![^\W\d_])", re.IGNORECASE)


_HALF = _halves()
_MONTH = re.compile(r"(?<![^\W\d_])(" + "|".join(MONTHS) + r")[a-z]*\.?(?![^\W\d_])", re.IGNORECASE)
_OFFSET = re.compile(r"\s*(?:Z|\(?(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>\d{1,2}):(?P<minutes>\d{2})\)?)$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time as written. `shape` is it with its numbers blanked out: one file has one shape."""

    text: str
    shape: str
    numbers: tuple[str, ...]
    month: int | None
    half: int | None
    zone: timezone | None

    def moment(self, order: str) -> datetime | None:
        """The time that it says, its day and month read in this order; None where that is no time."""
        if len(self.numbers) == 1:
            return _since_1970(self.numbers[0])
        date, clock = self._cut()
        day_month_year = _arrange(date, order, self.month)
        hour = _hour(int(clock[0]), self.half) if len(clock) >= 2 else None
        if day_month_year is None or hour is None:
            return None
        second = int(clock[2]) if len(clock) > 2 else 0
        micro = int(clock[3][:6].ljust(6, "0")) if len(clock) > 3 else 0
        day, month, year = day_month_year
        try:
            return datetime(year, month, day, hour, int(clock[1]), second, micro, self.zone)
        except ValueError:
            return None

    def _cut(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        date = 2 if self.month else 3
        return self.numbers[:date], self.numbers[date:]


def read(text: str) -> Stamp | None:
    """Take a time apart; None where it holds words that are not known."""
    alike = _alike(text.translate(_ZEROS))
    if alike is None or alike.zone is not None:
        return _read(text)
    return Stamp(text, alike.shape, tuple(_NUMBER.findall(text)), alike.month, alike.half, alike.zone)


@lru_cache(1 << 10)
def iso(text: str, order: str) -> str | None:
    """A time as ISO 8601, its day and month read in this order; None where that is no time."""
    stamp = read(text)
    moment = stamp.moment(order) if stamp else None
    return moment.isoformat() if moment else None


@lru_cache(1 << 10)
def _alike(zeros: str) -> Stamp | None:
    """A time with its digits made zeros: all but the numbers is the same for every time of a file, and slow to find."""
    return _read(zeros)


def _read(text: str) -> Stamp | None:
    plain = "".join(str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in text)
    plain = " ".join(plain.translate(_HIDDEN).translate(_SPACES).split())
    offset = _OFFSET.search(plain)
    zone = _zone(offset) if offset and ":" in plain[: offset.start()] else None
    plain = plain[: offset.start()] if offset and zone else plain
    month, half = _MONTH.search(plain), _HALF.search(plain)
    numbers = tuple(_NUMBER.findall(plain))
    shape = _HALF.sub("@", _MONTH.sub("%", plain))
    if any(word.casefold() not in BETWEEN for word in re.findall(r"[^\W\d_]+", shape)) or len(numbers) > 7:
        return None
    shape = re.sub(r"\d+", "#", re.sub(r"\d{4,}", "####", shape))
    shape += "z" if zone else ""
    return Stamp(text, shape, numbers, MONTHS[month[1].lower()] if month else None, _half(half), zone)


def _half(found: re.Match[str] | None) -> int | None:
    if found is None:
        return None
    return 12 if re.sub(r"[.\s]", "", found[0].casefold()) in EVENING else 0


def _zone(found: re.Match[str]) -> timezone:
    if not found["sign"]:
        return UTC
    size = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    return timezone(-size if found["sign"] == "-" else size)


def _since_1970(number: str) -> datetime | None:
    if len(number) not in (10, 13):
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(number) * (1000 if len(number) == 10 else 1))


def _hour(hour: int, half: int | None) -> int | None:
    if half is None:
        return hour
    return hour % 12 + half if 0 <= hour <= 12 else None


@lru_cache(1 << 12)
def _arrange(date: tuple[str, ...], order: str, month: int | None) -> tuple[int, int, int] | None:
    """Day, month and year of a date's numbers, None where this order cannot be."""
    if month:
        day, year = date if len(date[0]) < 4 else reversed(date)
        parts = [day, str(month), year]
    elif order == "year-first":
        parts = list(reversed(date))
    elif len(date[0]) == 4:
        return None
    else:
        parts = list(date) if order == "day-first" else [date[1], date[0], *date[2:]]
    if len(parts) != 3 or len(parts[2]) not in (2, 4) or len(parts[0]) > 2 or len(parts[1]) > 2:
        return None
    full_year = int(parts[2]) + (2000 if len(parts[2]) == 2 else 0)
    return (int(parts[0]), int(parts[1]), full_year) if FIRST_YEAR <= full_year <= LAST_YEAR else None


class Dates:
    """Which order of day and month a file can have: what its numbers allow, then what keeps its times in order."""

    def __init__(self, first: Stamp) -> None:
        self.first = first
        # Dates with dots are day first in every culture, and a month's name leaves no doubt.
        orders = ORDERS[:2] if re.match(r"#+\. ?#+\.", first.shape) else ORDERS
        self.trends = {order: Trend() for order in (ORDERS[1:2] if first.month else orders)}
        self._differ = False

    def see(self, stamp: Stamp) -> None:
        moments = {order: stamp.moment(order) for order in self.trends}
        for order, moment in moments.items():
            if moment is None:
                del self.trends[order]
            else:
                self.trends[order].see(moment)
        self._differ |= len({moment for moment in moments.values() if moment}) > 1

    @property
    def possible(self) -> list[str]:
        """The orders left; none where no order makes every time a time."""
        if not self._differ:
            return list(self.trends)[:1]
        straight = [order for order, trend in self.trends.items() if not (trend.rises and trend.falls)]
        return straight or list(self.trends)
