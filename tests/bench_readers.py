"""How fast exports are read: `python tests/bench_readers.py [--full | --peaks] [name …]`.

Every reader against the least that anybody could do with the same file: `json.load`, `json.loads` a line, `csv.reader`, or
a scan of the lines. Both run in turn, in one process a format, `PAIRS` times; the median counts, and the spread is shown.
read: the whole step, from file to rows, but for encoding and writing them;  written: all of it, once in three. Seconds and
rates are of CPU time, which other work on the machine disturbs least; wall time stands beside.
`--full` also reads an export of 1 GB in each format that streams, and tells the peak memory of the process that does;
`--peaks` does only that.
"""

from __future__ import annotations

import csv
import importlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SMALL, LARGE = 16_000_000, 1_000_000_000
PAIRS = 5


class Bench(NamedTuple):
    """What is read: the kind, the file, who writes it (a function of tests/exports.py), the bare work, the step's keys."""

    kind: str
    file: str
    pieces: str
    bare: str
    params: dict[str, Any]


BENCHES = {
    "discord JSON": Bench("discord", "chat.json", "discord", "json", {"speaker": "Bob"}),
    "telegram": Bench("telegram", "result.json", "telegram", "json", {"speaker": "Bob"}),
    "messenger": Bench("messenger", "message_1.json", "messenger", "json", {"speaker": "Bob"}),
    "slack": Bench("slack", "general", "slack", "json", {"speaker": "Bob"}),
    "table JSON list": Bench("table", "rows.json", "table_list", "json", {}),
    "table one-line list": Bench("table", "rows.json", "table_compact", "json", {}),
    "messages ShareGPT": Bench("messages", "talks.json", "sharegpt", "json", {}),
    "table JSON Lines": Bench("table", "rows.jsonl", "table_lines", "json lines", {}),
    "messages JSON Lines": Bench("messages", "talks.jsonl", "dialogues", "json lines", {}),
    "sillytavern": Bench("sillytavern", "chat.jsonl", "sillytavern", "json lines", {}),
    "table CSV": Bench("table", "rows.csv", "table_csv", "csv", {}),
    "discord CSV": Bench("discord", "chat.csv", "discord_csv", "csv", {"speaker": "Bob"}),
    "discord text": Bench("discord", "chat.txt", "discord_text", "lines", {"speaker": "Bob"}),
    "whatsapp": Bench("whatsapp", "_chat.txt", "whatsapp", "lines", {"speaker": "Bob"}),
    "imessage": Bench("imessage", "chat.txt", "imessage", "lines", {"speaker": "Bob"}),
    "passages": Bench("passages", "book.txt", "paragraphs", "lines", {}),
}
WHOLE = {"sillytavern"}  # a chat is one row, so that a chat of 1 GB is a row of 1 GB: not read as a stream


class Clock(NamedTuple):
    """Seconds of wall and of CPU."""

    wall: float
    cpu: float


def clocked(work: Callable[[], int]) -> tuple[Clock, int]:
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    return Clock(time.perf_counter() - wall, time.process_time() - cpu), count


def bare(bench: Bench, folder: Path) -> int:
    """The lines (or JSON files) gone through with no thought of what they say."""
    count = 0
    for path in sorted(path for path in (folder / "data").rglob("*") if path.is_file()):
        if bench.bare == "json":
            with path.open(encoding="utf-8") as stream:
                json.load(stream)
            count += 1
        elif bench.bare == "csv":
            with path.open(encoding="utf-8", newline="") as stream:
                count += sum(1 for _ in csv.reader(stream))
        else:
            with path.open(encoding="utf-8") as stream:
                for line in stream:
                    count += 1
                    if bench.bare == "json lines":
                        json.loads(line)
    return count


def read(bench: Bench, folder: Path, write: bool) -> int:
    """The whole step; without `write`, rows are made and let go. Returns how many messages or rows there were."""
    from runner import schema
    from runner.files import RowWriter
    from runner.step import Out, Step

    class Counter(RowWriter):
        def write(self, row: Any) -> None:
            self.count += 1

    class Fleeting(Out):
        def rows(self, part: str | None = None) -> RowWriter:
            return Counter(self.folder / "rows.jsonl")

        def reject(self, row: Any, reason: str) -> None:
            dropped.append(1)

    dropped: list[int] = []
    with tempfile.TemporaryDirectory(dir=folder) as made:
        held = tuple(sorted(path for path in (folder / "data").rglob("*") if path.is_file()))
        params = schema.defaults(schema.fragment("preprocess", bench.kind), {"folder": "data", **bench.params})
        step = Step("read", "preprocess", bench.kind, params, Path(made), folder=folder / "data", files=held)
        out = (Out if write else Fleeting)(Path(made))
        counts = []
        rows = out.rows
        out.rows = lambda part=None: counts.append(rows(part)) or counts[-1]  # type: ignore[method-assign,func-returns-value]
        importlib.import_module(f"runner.steps.preprocess.{bench.kind}").run(step, out)
        out.close()
        return sum(writer.count for writer in counts) + len(dropped)


def measured(task: tuple[str, Path]) -> tuple[list[tuple[Clock, Clock]], Clock, int, int]:
    """Bare and reading in turn, then once with writing; the rows, and the lines of the file."""
    name, folder = task
    bench = BENCHES[name]
    pairs, count, lines = [], 0, 0
    read(bench, folder, write=False)
    for _ in range(PAIRS):
        plain, lines = clocked(lambda: bare(bench, folder))
        ours, count = clocked(lambda: read(bench, folder, write=False))
        pairs.append((plain, ours))
    written = sorted(clocked(lambda: read(bench, folder, write=True))[0] for _ in range(3))[1]
    return pairs, written, count, lines


def peak(task: tuple[str, Path]) -> tuple[int, int, float]:
    """Rows, the most memory that the process held (MB), seconds."""
    name, folder = task
    clock, count = clocked(lambda: read(BENCHES[name], folder, write=True))
    return (
        count,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2),
        clock.wall,
    )


def make(name: str, folder: Path, size: int) -> None:
    from tests import exports

    bench = BENCHES[name]
    (folder / "data").mkdir()
    if bench.kind == "slack":
        exports.slack(folder / "data", size)
    else:
        exports.write(folder / "data" / bench.file, getattr(exports, bench.pieces), size)


def alone(work: Callable[[Any], Any], task: Any) -> Any:
    """The work in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(work, [task])[0]


def line(name: str, pairs: list[tuple[Clock, Clock]], written: Clock, count: int, lines: int) -> str:
    """A row of the table: the ratio is bare time over reading time, of CPU; one half is the aim for JSON."""
    ours = sorted(pair[1].cpu for pair in pairs)
    ratios = sorted(plain.cpu / mine.cpu for plain, mine in pairs)
    wall = statistics.median(pair[1].wall for pair in pairs)
    plain = statistics.median(pair[0].cpu for pair in pairs)
    middle = statistics.median(ours)
    rate = f"{lines / middle:9,.0f}" if BENCHES[name].bare in ("lines", "csv", "json lines") else f"{'':9}"
    return (
        f"{name:20} {count:9,} {plain:7.2f} {middle:7.2f} {wall:7.2f} {count / middle:9,.0f} {rate} "
        f"{statistics.median(ratios):6.2f} {ratios[0]:5.2f}-{ratios[-1]:4.2f} {written.cpu:8.2f} {count / written.cpu:9,.0f}"
    )


def speeds(names: list[str]) -> None:
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"{'':20} {'messages':>9} {'bare':>7} {'read':>7} {'wall':>7} {'messages':>9} {'lines':>9} {'bare/':>6} {'spread':>10}"
        f" {'written':>8} {'messages':>9}\n"
        f"{'':20} {'':>9} {'CPU s':>7} {'CPU s':>7} {'s':>7} {'/CPU s':>9} {'/CPU s':>9} {'read':>6} {'':>10} {'CPU s':>8} {'/CPU s':>9}"
    )
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            make(name, Path(folder), SMALL)
            print(line(name, *alone(measured, (name, Path(folder)))), flush=True)


def peaks(names: list[str]) -> None:
    print(f"\n{'1 GB of':20} {'messages':>10} {'peak MB':>8} {'seconds':>8}")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            make(name, Path(folder), LARGE)
            count, held, seconds = alone(peak, (name, Path(folder)))
            print(f"{name:20} {count:10,} {held:8,} {seconds:8.0f}", flush=True)


def main() -> None:
    asked = [word for word in sys.argv[1:] if not word.startswith("--")]
    names = [name for name in BENCHES if not asked or any(word in name for word in asked)]
    if "--peaks" not in sys.argv:
        speeds(names)
    if "--full" in sys.argv or "--peaks" in sys.argv:
        peaks([name for name in names if name not in WHOLE])


if __name__ == "__main__":
    main()
