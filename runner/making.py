"""What a generating step makes of the results of its scripts: rows in the order of their numbers, whatever order they came in.

Results wait in a file until all are there; only where each begins in it is kept in memory. Answers themselves are kept
by runner/replies.py, so a step that was killed asks nothing again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.asking import Script, Speakers, Unanswered, drive
from runner.errors import ServiceError
from runner.files import Row, RowWriter, dumps
from runner.spending import dollars
from runner.step import PARTS, PROVENANCE, WHOLE, Out, Step

SPOOL = "numbered.jsonl"
EVERY = 30.0  # seconds between lines in the log


@dataclass(frozen=True)
class Made:
    """One row that a script made.

    part:       of a split, None for plain rows
    reason:     why it is rejected, None where it is not
    provenance: what its answers are from, the same in every run; side: what is not (request ids)
    counts:     what is added up over all rows, by name
    """

    row: Row
    part: str | None = None
    reason: str | None = None
    provenance: list[Row] = field(default_factory=list)
    side: list[Row] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


Numbered = tuple[int, Script[list[Made]]]


def make(
    step: Step,
    out: Out,
    scripts: Callable[[], Iterable[Numbered]],
    speakers: Callable[[], Speakers],
    total: int,
    wanted: int | None = None,
    ahead: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Run the scripts and write rows.jsonl, rejected.jsonl, provenance.jsonl and side.jsonl; returns facts.

    total: scripts; wanted: stop at so many rows that are not rejected, going on for as long as there are scripts.
    ahead: what is said of them before the first question (runner/forecast.py).
    Raises ServiceError where any script ended without an answer: the others are done, and the next run tries these again.
    """
    for name in (*(f"{part}.jsonl" for part in (WHOLE, *PARTS)), "rejected.jsonl", PROVENANCE, "side.jsonl"):
        (out.folder / name).unlink(missing_ok=True)  # of a run that did not come to its end
    if step.joins:
        return _joined(step, out, wanted)
    if ahead:
        out.log(str(ahead()))
    spool = _Spool(out.folder / SPOOL)
    with speakers() as named:
        tally = _Tally(step, out, named, wanted or total, wanted)
        try:
            at_once: int | Callable[[], int] = named.at_once
            if wanted is not None:
                at_once = lambda: min(named.at_once, tally.missing)  # noqa: E731
            with out.progress(step.name, tally.total) as advance, spool:
                for number, result in drive(scripts(), named, at_once):
                    made = tally.taken(number, result)
                    if made is not None:
                        spool.write(number, made)
                    advance(tally.step, tally.note())
        finally:
            out.log(f"{tally.note()} in {time.monotonic() - tally.began:.0f} s")
        facts = named.spending.facts()
    tally.expect_no_failures()
    if step.shard:
        out.write_json("facts.json", facts)
        return facts
    return {**_written(step, out, spool), **facts}


class _Tally:
    """What a run has done so far."""

    def __init__(self, step: Step, out: Out, speakers: Speakers, total: int, wanted: int | None) -> None:
        self.name, self.out, self.speakers, self.total, self.wanted = step.name, out, speakers, total, wanted
        self.began = self._said = time.monotonic()
        self.done = self.passed = self.step = 0
        self.failed: list[tuple[int, str]] = []

    @property
    def missing(self) -> int:
        return max(0, (self.wanted or 0) - self.passed - len(self.failed))

    def taken(self, number: int, result: list[Made] | Unanswered) -> list[Made] | None:
        """Count a script's result; what is to be written of it, None where it has to be tried again."""
        self.done += 1
        before = self.passed
        if isinstance(result, Unanswered):
            self.failed.append((number, str(result)))
            made = None
        else:
            made = result
            self.passed += sum(one.reason is None for one in made)
        self.step = self.passed - before if self.wanted is not None else 1
        if time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            self.out.log(self.note())
        return made

    def note(self) -> str:
        """'120 of 2000 done, 3 failed, 512 tokens/s, $0.12'."""
        spending, seconds = self.speakers.spending, max(time.monotonic() - self.began, 1e-3)
        done = self.passed if self.wanted is not None else self.done - len(self.failed)
        pieces = [f"{done} of {self.total} done"]
        pieces += [f"{len(self.failed)} failed"] if self.failed else []
        pieces += [f"{spending.output / seconds:.0f} tokens/s"] if spending.output else []
        pieces += [dollars(spending.cost)] if spending.cost else []
        return ", ".join([*pieces, *([f"{spending.cached} from the cache"] if spending.cached else [])])

    def expect_no_failures(self) -> None:
        if self.failed:
            count, (_, reason) = len(self.failed), self.failed[0]
            said = f"{self.name}: {count} of {self.done} have no answer, the first: {reason}."
            raise ServiceError(f"{said} The others are kept: run again to try {'it' if count == 1 else 'these'} again.")


class _Spool:
    """Results by number in a file, in the order in which they came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts: dict[int, tuple[Path, int]] = {}

    def __enter__(self) -> _Spool:
        self._stream, self._end = self.path.open("wb"), 0
        return self

    def __exit__(self, *held: object) -> None:
        self._stream.close()

    def write(self, number: int, made: list[Made]) -> None:
        self._starts[number] = (self.path, self._end)
        self._end += self._stream.write(
            (dumps({"number": number, "made": [vars(one) for one in made]}) + "\n").encode()
        )

    def add(self, path: Path) -> None:
        """The results in another spool's file."""
        with path.open("rb") as stream:
            start = 0
            for line in stream:
                self._starts[json.loads(line)["number"]] = (path, start)
                start += len(line)

    def __iter__(self) -> Iterator[Made]:
        """All results in the order of their numbers."""
        streams = {path: path.open("rb") for path in {path for path, _ in self._starts.values()}}
        try:
            for _, (path, start) in sorted(self._starts.items()):
                streams[path].seek(start)
                yield from (Made(**one) for one in json.loads(streams[path].readline())["made"])
        finally:
            for stream in streams.values():
                stream.close()


def _written(step: Step, out: Out, spool: _Spool, most: int | None = None) -> dict[str, Any]:
    """The step's files from all results; the spool's own file is removed."""
    counts: Counter[str] = Counter()
    passed = 0
    with ExitStack() as stack:
        parts: tuple[str | None, ...] = step.parts() or (None,)
        rows = {part: stack.enter_context(out.rows(part)) for part in parts}
        provenance = stack.enter_context(RowWriter(out.folder / PROVENANCE))
        for made in spool:
            if made.reason is None and most is not None and passed == most:
                break
            counts.update(made.counts)
            for one in made.side:
                out.side(one)
            if made.reason is None:
                rows[made.part].write(made.row)
                provenance.write_all(made.provenance)
                passed += 1
            else:
                out.reject(made.row, made.reason)
    spool.path.unlink(missing_ok=True)
    return {"metrics": dict(sorted(counts.items()))}


# Shares of a step (SHARD=2/3)


def share(numbered: Iterable[tuple[int, Any]], shard: tuple[int, int] | None) -> Iterator[tuple[int, Any]]:
    """The share x of y of numbered things: every y-th, so that none is lost or taken twice whatever their number."""
    for number, one in numbered:
        if shard is None or number % shard[1] == shard[0] - 1:
            yield number, one


def _joined(step: Step, out: Out, wanted: int | None) -> dict[str, Any]:
    """The step's files from the results of all its shards."""
    spool = _Spool(out.folder / SPOOL)
    for folder in step.joins:
        spool.add(folder / SPOOL)
    facts = _written(step, out, spool, wanted)
    held = [json.loads((folder / "facts.json").read_text(encoding="utf-8")) for folder in step.joins]
    tokens = {name: sum(one["tokens"][name] for one in held) for name in ("input", "output")}
    sums = {name: sum(one[name] for one in held) for name in ("requests", "from_cache")}
    return {**facts, "tokens": tokens, "cost": round(sum(one["cost"] for one in held), 6), **sums, "shards": len(held)}
