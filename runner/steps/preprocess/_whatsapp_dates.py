"""Dates and clocks of WhatsApp files as ISO 8601. Day and month look alike: what decides is all dates of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

from runner.steps.preprocess._whatsapp_layout import half

ORDERS = ("day-first", "month-first", "year-first")
FIRST_YEAR, LAST_YEAR = 2009, 2099  # WhatsApp began in 2009; other calendars count otherwise
_DAY = timedelta(days=1)


def day(text: str, order: str) -> date | None:
    """The date that it says, read in this order; None where that is no date."""
    numbers = re.findall(r"\d+", text)
    if order == "year-first":
        numbers.reverse()
    elif order == "month-first":
        numbers = [numbers[1], numbers[0], numbers[2]]
    if len(numbers[2]) not in (2, 4) or len(numbers[0]) > 2:
        return None
    year = int(numbers[2]) + (2000 if len(numbers[2]) == 2 else 0)
    try:
        return date(year, int(numbers[1]), int(numbers[0])) if FIRST_YEAR <= year <= LAST_YEAR else None
    except ValueError:
        return None


@lru_cache(1 << 16)
def iso_day(text: str, order: str) -> str | None:
    """The date as ISO 8601."""
    found = day(text, order)
    return found.isoformat() if found else None


@lru_cache(1 << 16)
def iso_clock(text: str, word: str) -> str | None:
    """A clock with its half of the day, as 'T15:07:00'; None where there is no such time."""
    hour, minute, second = (*map(int, re.findall(r"\d+", text)), 0)[:3]
    if word:
        later = half(word)
        if later is None or hour > 12:
            return None
        hour = hour % 12 + later
    return f"T{hour:02}:{minute:02}:{second:02}" if hour < 24 and minute < 60 and second < 60 else None


@dataclass
class Evidence:
    """What the dates of a file say about the order of their numbers; it is shown each that differs from the last."""

    falls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ORDERS, 0))
    differ: bool = False
    first: dict[str, date] = field(default_factory=dict)
    last: dict[str, date] = field(default_factory=dict)

    def see(self, text: str) -> None:
        found = {order: day(text, order) for order in ORDERS}
        if not any(found[order] for order in self.falls):
            return  # no date at all; its message will be unreadable
        for order in list(self.falls):
            moment = found[order]
            if moment is None:
                del self.falls[order]
                continue
            self.falls[order] += moment < self.last.get(order, moment) - _DAY
            self.first[order] = min(moment, self.first.get(order, moment))
            self.last[order] = moment
        self.differ |= found["day-first"] != found["month-first"]

    def orders(self, dots: bool) -> list[str]:
        """The orders left, one where the file decides it; none where it holds no date."""
        if not self.last:
            return []
        left = [order for order in ORDERS[:2] if order in self.falls] or [
            order for order in ORDERS if order in self.falls
        ]
        if len(left) < 2 or not self.differ:
            return left[:1]
        straight = [order for order in left if not self.falls[order]]
        if len(straight) == 1:
            return straight
        # Dates with dots are day first in every culture.
        return left[:1] if dots else left
