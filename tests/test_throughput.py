"""How much of what a server could answer is asked of it: C connections at a latency of L are at best C/L requests a second."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner import endpoint
from tests.asked import Run, people, step, writer

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def server(latency: float) -> Iterator[str]:
    """A server in a process of its own, so that it does not take time from what is measured."""
    command = [sys.executable, "-m", "tests.server", "--latency", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measure(folder: Path, rows: int, latency: float, connections: int) -> tuple[float, float]:
    """The share of the ideal rate that was reached, and the milliseconds of processor time that a request took here."""
    assert endpoint  # its import is no part of it
    with server(latency) as url:
        made = step(folder, writer(url, concurrency=connections), people(rows))
        began, worked = time.monotonic(), time.process_time()
        done = Run(folder / "out", made)
        taken, work = time.monotonic() - began, time.process_time() - worked
    assert len(done.rows) == rows
    return rows * latency / connections / taken, work / rows * 1000


def test_a_request_takes_little_of_a_processor(tmp_path: Path) -> None:
    """At 200 requests a second 5 ms each would be a whole core; a busy machine makes every instruction dearer."""
    assert measure(tmp_path, 300, 0.05, 16)[1] < 10


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "connections", "share"), [(50, 25, 0.95), (200, 100, 0.85)])
def test_ten_thousand_requests_at_nearly_the_rate_of_the_server(
    rate: int, connections: int, share: float, tmp_path: Path
) -> None:
    reached, _ = measure(tmp_path, 10_000, connections / rate, connections)
    assert reached >= share
