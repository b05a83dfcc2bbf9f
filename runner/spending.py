"""What a step's questions cost: tokens, US dollars and requests counted, and the `budget:` that they may not pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from runner.errors import ServiceError


def dollars(amount: float) -> str:
    """$12.35, and below ten cents with two digits that say something: $0.0012."""
    return f"${amount:.2f}" if amount >= 0.1 or not amount else f"${float(f'{amount:.2g}'):.10f}".rstrip("0")


class Spent(ServiceError):
    """The budget is used up."""


@dataclass
class Spending:
    """Counters of one run of a step. Several threads add to them.

    budget: {usd, tokens, requests}, each optional. A request is held against it by the most that it may cost, and booked
    by what it did cost, so that what is on its way cannot pass it either.
    """

    budget: dict[str, float] = field(default_factory=dict)
    input: int = 0
    output: int = 0
    cost: float = 0.0
    requests: int = 0
    cached: int = 0
    _held: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("usd", "tokens", "requests"), 0.0))
    _lock: Lock = field(default_factory=Lock)

    def hold(self, tokens: int, usd: float) -> bool:
        """Set aside what one request may cost; False where that must wait for others to be booked.

        Raises Spent where it does not fit though nothing is on its way.
        """
        most = {"usd": usd, "tokens": float(tokens), "requests": 1.0}
        with self._lock:
            used = {"usd": self.cost, "tokens": float(self.input + self.output), "requests": float(self.requests)}
            for name, allowed in self.budget.items():
                if used[name] + self._held[name] + most[name] > allowed + 1e-9:
                    if self._held["requests"]:
                        return False
                    raise Spent(self._said(name, used[name], allowed))
            for name, amount in most.items():
                self._held[name] += amount
        return True

    def _said(self, name: str, used: float, allowed: float) -> str:
        shown = (
            f"{used:.4g} of {allowed:.4g} US dollars are" if name == "usd" else f"{used:g} of {allowed:g} {name} are"
        )
        return f"budget: {shown} used, and the next request may not fit. Run again for as much again, or raise it."

    def book(self, held: tuple[int, float] | None, input: int, output: int, cost: float) -> None:  # noqa: A002
        """Replace what was held for one request by what it took; zeros where it had no answer. None: another run held it."""
        with self._lock:
            for name, amount in (("tokens", held[0]), ("usd", held[1]), ("requests", 1)) if held else ():
                self._held[name] -= amount
            self.requests += 1
            self.input += input
            self.output += output
            self.cost += cost

    def add(self, input: int, output: int) -> None:  # noqa: A002
        """Tokens of weights that are loaded here: they cost nothing, and no budget holds them."""
        with self._lock:
            self.input += input
            self.output += output

    def facts(self) -> dict[str, Any]:
        """For step.json."""
        tokens = {"input": self.input, "output": self.output}
        return {"tokens": tokens, "cost": round(self.cost, 6), "requests": self.requests, "from_cache": self.cached}
