"""What this machine gives a step, known without torch: cores, memory, and settings that must precede its import."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
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


@dataclass(frozen=True)
class Machine:
    """Where training would run. free and total: bytes of its memory; halves: it multiplies bfloat16 fast; speed:
    floating-point operations a second that training reaches there, None where that is not known."""

    device: str
    name: str
    free: float
    total: float
    halves: bool
    speed: float | None


# Operations a second that training reaches on one core, without and with AVX-512, and the share that it reaches of what
# the maker of a GPU promises for bfloat16
CORE, WIDE_CORE = 35e9, 60e9
SHARE = 0.35
# Promised dense bfloat16 products, in 10¹² operations a second (data sheets); the longer names first
PROMISED = {"GB200": 2500, "B200": 2250, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L40": 181, "A6000": 155}
PROMISED |= {"L4": 121, "A10": 125, "5090": 210, "4090": 165, "3090": 71}


def look() -> Machine | None:
    """This machine, without torch: its first visible GPU as nvidia-smi tells it, else its processor.

    None where psutil, which comes with the training stack, is not installed.
    """
    gpu = _gpu()
    if gpu or not find_spec("psutil"):
        return gpu
    import psutil

    cores, held = usable_cores(), psutil.virtual_memory()
    free = min([held.available, *_limit()])
    told = Path("/proc/cpuinfo")
    each = WIDE_CORE if told.is_file() and " avx512f " in told.read_text(encoding="utf-8", errors="replace") else CORE
    return Machine("cpu", f"{cores} core{'s' * (cores != 1)}", free, held.total, False, cores * each)


def _gpu() -> Machine | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1"):
        return None
    query = ["--query-gpu=name,memory.free,memory.total,compute_cap", "--format=csv,noheader,nounits", "-i", visible]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=5, check=True)
        name, free, total, ability = (part.strip() for part in done.stdout.splitlines()[0].split(","))
        halves = float(ability) >= 8
        promised = next((value for part, value in PROMISED.items() if part in name), None) if halves else None
        return Machine(
            "cuda", name, float(free) * 2**20, float(total) * 2**20, halves, promised and promised * 1e12 * SHARE
        )
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None  # a driver that is not there or says something else: torch would find no GPU either


def _limit() -> list[float]:
    """What a container may still take, [] outside of one."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    most = limit.read_text(encoding="ascii").strip() if limit.is_file() and used.is_file() else "max"
    return [] if most == "max" else [float(most) - float(used.read_text(encoding="ascii"))]
