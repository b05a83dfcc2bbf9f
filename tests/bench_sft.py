"""What our SFT makes of this machine, against TRL's own documented script: `make bench`, or `python tests/bench_sft.py`.

The same model (SmolLM2), rows, LoRA, learning rate, rows an update and type (float32: TRL takes bfloat16 unless told
otherwise, which many CPUs multiply up to sixty times slower). Runs are interleaved and each is a process of its own, so
that what else the machine does falls on all alike; a ratio is the median over the rounds. Useful tokens are those that
are not padding. "By hand" is the fastest setting of TRL's that was found which keeps samples apart and takes the same
updates; "packed" keeps them apart too, with other updates. ROUNDS=5; LLAMAFACTORY=/path/to/llamafactory-cli joins in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.sft_runs import FACTORY, OURS, TRL  # noqa: E402 -- a script, and the package is above it

PLAIN = "TRL, as documented"
Runs = dict[str, list[dict[str, Any]]]


def child(*words: str) -> dict[str, Any]:
    """What a run in a process of its own tells, with its seconds in all."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tests.sft_runs", *words]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    return {**json.loads(told.stdout.splitlines()[-1]), "whole": time.perf_counter() - began}


def speeds(held: list[dict[str, Any]], by: str) -> list[float]:
    """Useful tokens a second of the clock (`seconds`) or of a processor (`cpu`), while training, run by run."""
    return [one["tokens"] / one[by] for one in held]


def ratio(runs: Runs, name: str, other: str, by: str) -> float:
    pairs = zip(speeds(runs[name], by), speeds(runs[other], by), strict=True)
    return median(mine / theirs for mine, theirs in pairs)


def table(runs: Runs, losses: dict[str, float]) -> None:
    heads = ("tokens/s", "ratio", "tokens/cpu-s", "ratio", "around, s", "import, s", "held-out loss")
    print(f"{'':20}" + "".join(f"{head:>14}" for head in heads))
    for name, held in runs.items():
        imports = median(one["whole"] - one["around"] - one["seconds"] for one in held)
        figures = (
            f"{median(speeds(held, 'seconds')):.1f}",
            f"{ratio(runs, name, PLAIN, 'seconds'):.2f}x",
            f"{median(speeds(held, 'cpu')):.1f}",
            f"{ratio(runs, name, PLAIN, 'cpu'):.2f}x",
            f"{median(one['around'] for one in held):.1f}",
            f"{imports:.1f}",
            f"{losses[name]:.4f}",
        )
        print(f"{name:20}" + "".join(f"{figure:>14}" for figure in figures))
    print(f"{'the base alone':20}" + " " * 14 * (len(heads) - 1) + f"{losses['the base']:>14.4f}")


def main(rounds: int) -> None:
    names = [*TRL, *([FACTORY] if os.environ.get("LLAMAFACTORY") else []), OURS]
    with tempfile.TemporaryDirectory() as place:
        base = child("model")
        runs: Runs = {name: [] for name in names}
        for at in range(rounds):
            for name, held in runs.items():
                held.append(child("run", name, base["folder"], f"{place}/{at}-{name.replace(' ', '-')}"))
                note = f"round {at + 1}, {name}: {speeds(held, 'seconds')[-1]:.1f} useful tokens/s"
                print(note, file=sys.stderr, flush=True)
        losses = child("loss", base["folder"], json.dumps({name: held[-1]["made"] for name, held in runs.items()}))
    table(runs, losses)
    work = base["work"]
    print(
        f"Of the positions that the plain script computes {work['padding']:.0%} are padding, and the logits of "
        f"{work['learned']:.0%} are learned from; it computes activations twice besides."
    )
    by_hand = ratio(runs, OURS, "TRL, by hand", "seconds")
    print(
        f"Ours against TRL by hand: {by_hand:.2f}x, by the processor's time {ratio(runs, OURS, 'TRL, by hand', 'cpu'):.2f}x."
    )


if __name__ == "__main__":
    main(int(os.environ.get("ROUNDS", "5")))
