"""What this machine gives a step, known without torch: cores, memory, and settings that must precede its import."""

from __future__ import annotations

import logging
import os
from pathlib import Path


def settle() -> None:
    """Call before anything imports torch: threads that wait give up their core, and one library keeps its advice.

    Two training runs on two cores whose threads spin while they wait are eight times slower than with this.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def usable_cores() -> int:
    """The cores that this process may use; OMP_NUM_THREADS overrides it."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = limit.read_text(encoding="ascii").partition(" ") if limit.is_file() else ("max", "", "")
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
