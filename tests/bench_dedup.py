"""How dedup grows with rows: `python tests/bench_dedup.py [--full]`. Ten times the rows, quadratic, would cost a hundred times.

near:     the whole step, files in and out: rows of twenty words, every tenth with one word changed
meaning:  the whole step on ready embeddings of 384 numbers, every tenth slightly turned
search:   the same embeddings, already in a file: the search alone, as the step calls it
`--full` goes on to a million rows (near and search). Every measurement is a process of its own, three of them a size
(one at a million); the median counts.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIZE = 384
SMALL, LARGE = [10_000, 100_000], 1_000_000
Made = tuple[float, int, int, int]  # seconds, peak MB, repeats found, repeats planted


def sentences(count: int) -> Iterator[dict[str, Any]]:
    source = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(2, 9))) for _ in range(5000)]
    plain: list[list[str]] = []
    for number in range(count):
        if number % 10 == 9:
            chosen = list(plain[source.randrange(len(plain))])
            chosen[source.randrange(20)] = "edited"
        else:
            chosen = source.choices(words, k=20)
            plain = [*plain[-999:], chosen]
        yield {"id": number, "text": " ".join(chosen)}


def vectors(count: int) -> Iterator[Any]:
    """Blocks of unit vectors around many centres, every tenth a turned copy (cosine 0.97) of one before it."""
    import numpy as np

    source = np.random.default_rng(0)
    centres = source.standard_normal((max(count // 20, 10), SIZE), dtype=np.float32)
    for start in range(0, count, 10_000):
        rows = min(10_000, count - start)
        block = centres[source.integers(0, len(centres), rows)] + 0.9 * source.standard_normal(
            (rows, SIZE), dtype=np.float32
        )
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        noise = source.standard_normal((len(block[9::10]), SIZE), dtype=np.float32)
        block[9::10] = block[8::10][: len(noise)] + 0.25 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def run_step(folder: Path, rows: Iterator[dict[str, Any]], **params: Any) -> tuple[float, int]:
    from runner.files import RowWriter
    from runner.step import Input, Out, Step
    from runner.steps.preprocess import dedup

    with RowWriter(folder / "rows.jsonl") as writer:
        writer.write_all(rows)
    (folder / "out").mkdir()
    step = Step("kept", "preprocess", "dedup", params, folder, inputs={"from": (Input("before", folder),)})
    out = Out(folder / "out")
    began = time.perf_counter()
    facts = dedup.run(step, out)
    out.close()
    return time.perf_counter() - began, facts["metrics"]["repeats"]


def near(folder: Path, count: int) -> tuple[float, int]:
    return run_step(folder, sentences(count), method="near", above=0.8)


def meaning(folder: Path, count: int) -> tuple[float, int]:
    rows = ({"embedding": [round(float(one), 5) for one in vector]} for block in vectors(count) for vector in block)
    return run_step(folder, ({"id": number, **row} for number, row in enumerate(rows)), method="meaning", above=0.95)


def search(folder: Path, count: int) -> tuple[float, int]:
    import numpy as np

    from runner.steps.preprocess import _meaning

    with (folder / "vectors").open("w+b") as spool:
        for block in vectors(count):
            spool.write(block.astype(np.float32).tobytes())
        began = time.perf_counter()
        first = _meaning.first_alike(_meaning.ready(spool, count, SIZE), [0] * count, 0.95)
        return time.perf_counter() - began, int((first != np.arange(count)).sum())


def measured(task: tuple[Callable[[Path, int], tuple[float, int]], int]) -> Made:
    run, count = task
    with tempfile.TemporaryDirectory() as folder:
        seconds, found = run(Path(folder), count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)
    return seconds, peak, found, count // 10


def main() -> None:
    print(f"{'':8} {'rows':>9} {'seconds':>8} {'growth':>7} {'rows/s':>8} {'peak MB':>8} {'found':>7} of planted")
    for run, sizes in ((near, [*SMALL, LARGE]), (meaning, SMALL), (search, [*SMALL, LARGE])):
        before = 0.0
        for count in sizes:
            if count == LARGE and "--full" not in sys.argv:
                continue
            made = []
            for _ in range(1 if count == LARGE else 3):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    made.append(pool.map(measured, [(run, count)])[0])
            seconds = statistics.median(one[0] for one in made)
            growth = f"x{seconds / before:.1f}" if before else ""
            _, peak, found, planted = made[0]
            print(
                f"{run.__name__:8} {count:9,} {seconds:8.1f} {growth:>7} {count / seconds:8.0f} {peak:8,} {found / planted:7.1%}",
                flush=True,
            )
            before = seconds


if __name__ == "__main__":
    main()
