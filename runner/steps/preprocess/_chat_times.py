"""Moments told in numbers as ISO 8601 (what datetime does too, in a third of its time), and local times with a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from runner.errors import StepError
from runner.step import Step

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 10**6


def utc(microseconds: int) -> str:
    """Microseconds since 1970 as an ISO 8601 time of UTC. Raises OverflowError where no calendar has the day."""
    seconds, fraction = divmod(microseconds, _SECOND)
    days, seconds = divmod(seconds, 24 * 60 * 60)
    told = f"{_day(days)}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{told}.{fraction:06}+00:00" if fraction else f"{told}+00:00"


@lru_cache(1 << 10)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).isoformat()[:11]


def zone(step: Step) -> ZoneInfo | None:
    """The zone that `zone:` names. Raises StepError where there is none of that name."""
    wanted = str(step.params.get("zone") or "")
    try:
        return ZoneInfo(wanted) if wanted else None
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = get_close_matches(wanted, sorted(available_timezones()), n=1)
        hint = f"Did you mean {close[0]}?" if close else "Write it as Europe/Berlin."
        raise StepError(f"{step.name}.zone: no time zone '{wanted}'. {hint}") from error


def in_zone(time: str, of: ZoneInfo) -> str:
    """A time as ISO 8601, with the offset of this zone where it has none."""
    moment = datetime.fromisoformat(time)
    return time if moment.tzinfo else moment.replace(tzinfo=of).isoformat()
