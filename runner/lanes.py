"""Who may send now: each key at each base URL is a lane with its own limits, and takes as much as its server bears.

A lane begins with a few requests at a time and doubles them while all goes well. The first "too many" of a burst halves
them; from then on they grow by one each time that as many have been answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BEGIN = 8


@dataclass
class Pace:
    """At most so many a minute, evenly spread; None: no limit."""

    per_minute: float | None
    next: float = 0.0

    def ready(self) -> float:
        """When the next may go, in the clock's seconds."""
        return self.next if self.per_minute else 0.0

    def take(self, amount: float, now: float) -> None:
        if self.per_minute:
            every = 60 / self.per_minute
            # Two may follow at once after a pause: a late clock does not slow the rest
            self.next = max(self.next, now - 2 * every) + amount * every


@dataclass
class Lane:
    """One key at one base URL. `most` requests at a time; `client` sends them."""

    client: Any
    url: str
    most: int
    requests: Pace
    tokens: Pace
    limit: float = 0.0
    busy: int = 0
    until: float = 0.0  # nothing goes before this time
    epoch: int = 0  # how often it has been slowed
    _growing: bool = field(default=True)

    def __post_init__(self) -> None:
        self.limit = float(min(self.most, BEGIN))

    def ready(self) -> float:
        return max(self.until, self.requests.ready(), self.tokens.ready())

    def went_well(self) -> None:
        self.limit = min(float(self.most), self.limit + (1.0 if self._growing else 1.0 / self.limit))

    def slow(self, epoch: int, seconds: float | None) -> None:
        """Too much at a time, says the answer to a request sent in that epoch: halve it once for the whole burst."""
        if seconds:
            self.until = max(self.until, time.monotonic() + seconds)
        if epoch == self.epoch:
            self.epoch += 1
            self.limit, self._growing = max(1.0, self.limit / 2), False


class Lanes:
    """The lanes of one endpoint, and who waits for them, first come, first served. For one event loop."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = list(lanes)
        self._waiting: deque[tuple[asyncio.Future[Lane], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ended: Exception | None = None

    @property
    def most(self) -> int:
        return sum(lane.most for lane in self.lanes)

    async def take(self, tokens: int) -> Lane:
        """Wait for a lane that may send a request of about so many tokens. Raises what `end` was given."""
        if self._ended:
            raise self._ended
        future: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._dispatch()
        return await future

    def give(self, lane: Lane, correction: float = 0.0) -> None:
        """The lane's request is done; `correction`: the tokens that it took beyond those it was let through with."""
        lane.busy -= 1
        if correction:
            lane.tokens.take(correction, time.monotonic())
        self._dispatch()

    def end(self, error: Exception) -> None:
        """Nobody is let through any more."""
        self._ended = error
        for future, _ in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        if self._timer:
            self._timer.cancel()

    def _dispatch(self) -> None:
        while self._waiting:
            now = time.monotonic()
            free = [lane for lane in self.lanes if lane.busy < int(lane.limit)]
            if not free:
                return
            lane = min(free, key=lambda one: (max(one.ready(), now), one.busy))
            if lane.ready() > now:
                self._again_in(lane.ready() - now)
                return
            future, tokens = self._waiting.popleft()
            if future.done():  # who waited was cancelled
                continue
            lane.busy += 1
            lane.requests.take(1, now)
            lane.tokens.take(tokens, now)
            future.set_result(lane)

    def _again_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._dispatch)
