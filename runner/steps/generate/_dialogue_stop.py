"""When a dialogue ends: by a judge's scores, by its length, or because a speaker falls silent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.outputs import RANGE

SCORE, TURNS, SILENCE = "score", "turns", "silence"  # what a row's `ended` says
_NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:[.,]\d+)?(?![\w]|[.,]\d)")


@dataclass(frozen=True)
class Stop:
    """`stop:` of a recipe. turns: the most, without farewells; silence: turns without a reply in a row (0: no matter)."""

    turns: int
    silence: int = 0
    of: str | None = None
    low: int = 0
    high: int = 0
    at_least: float = 0.0
    last: int = 1
    after: int = 1

    def by_score(self, scores: Sequence[float]) -> bool:
        """Whether there are enough scores, and the last ones are all high enough."""
        enough = len(scores) >= max(self.after, self.last)
        return self.of is not None and enough and all(score >= self.at_least for score in scores[-self.last :])


def stop_of(params: Mapping[str, Any]) -> Stop:
    """From the step's `stop:` with its defaults filled in."""
    low, high = _scale(params["scale"])
    judged = {"low": low, "high": high, "at_least": params.get("at_least", high), "of": params.get("of")}
    return Stop(
        turns=params["turns"],
        silence=params.get("silence", 0),
        last=params["last"],
        after=params["after"],
        **(judged if "ask" in params else {}),
    )


def _scale(text: str) -> tuple[int, int]:
    found = RANGE.fullmatch(text)
    assert found, "the schema allows only a range"
    return int(found[1]), int(found[2])


def read_score(reply: str, low: int, high: int) -> float | None:
    """The first number of a judge's reply, the scale's own mention (0 to 5, out of 5, /5) aside.

    None where there is none, or it is not on the scale.
    """
    scale = rf"(?<!\w){low}\s*(?:to|and|through|[-–—]|\.\.+|…)\s*{high}\b|(?:/|\bout\s+of)\s*{high}(?!\w|[.,]\d)"
    found = _NUMBER.search(re.sub(scale, " ", reply, flags=re.IGNORECASE))
    if not found:
        return None
    number = float(found[0].replace(",", "."))
    return number if low <= number <= high else None
