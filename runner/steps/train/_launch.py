"""Training in several processes (`launch:`), by accelerate: a kind of training calls `run`, and each process its `train`.

For a kind `train: name` with the module runner/steps/train/name.py:
- `run(step, out)` calls `_launch.run("name", step, out)` where `launch:` is given, else its own `train(step, out)`;
- `train(step, out)` runs in every process with the same folder. What only one process may do (write a file, say
  something) is done where `leads()`; what the others then read comes after `together()`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from runner import errors, models
from runner.errors import MachineError, RunnerError, StepError
from runner.machine import usable_cores
from runner.step import Out, Step

MARK = "\x1e"  # begins a line that a process tells the one which started it
RAISED = re.compile(r"(?:\[rank\d+\]: )?(\w+(?:\.\w+)*(?:Error|Exception): .*)")  # the end of a traceback
LAST = 30  # lines of a failed launch that go to the log


# In every process


def leads() -> bool:
    """Whether this process is the only one, or the first of several."""
    return not dist.is_initialized() or dist.get_rank() == 0


def together() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agreed(value: bool) -> bool:
    """What the first process says, for all of them: clocks differ, and all must save at the same update."""
    if not dist.is_initialized():
        return value
    said = torch.tensor([int(value)], device=models.device())
    dist.broadcast(said, 0)
    return bool(said.item())


def summed(values: list[float]) -> list[float]:
    """Each value's sum over the processes."""
    if not dist.is_initialized():
        return values
    held = torch.tensor(values, dtype=torch.float64, device=models.device())
    dist.all_reduce(held)
    return [float(one) for one in held]


# In the process of the step


def run(kind: str, step: Step, out: Out) -> dict[str, Any]:
    """Start the processes that `launch:` asks for and wait for them; returns the facts of the first one.

    An error in one of them is raised here. Raises MachineError where this machine has not what they need.
    """
    told: dict[str, Any] = {}
    command = [*_command(step), "-m", "runner.steps.train._launched", kind]
    spec, noise = out.folder / "launch.step", out.folder / "launch.log"
    spec.write_bytes(pickle.dumps((step, out.folder, os.getpid())))
    with noise.open("w", encoding="utf-8") as errors_to, _started([*command, str(spec)], step, errors_to) as process:
        _listen(process, out, told)
    spec.unlink()
    if "facts" not in told:
        _fail(step, out, told, noise)
    noise.unlink()
    facts: dict[str, Any] = told["facts"]
    return facts


def _command(step: Step) -> list[str]:
    launch = step.params["launch"]
    count, config = launch["processes"], launch.get("config")
    if models.device() == "cuda" and count > torch.cuda.device_count():
        have = f"there are {torch.cuda.device_count()} GPUs"
        raise MachineError(f"{step.name}.launch.processes: {count} are asked for, and {have}. Ask for fewer.")
    if step.params["batch"] % count:
        raise StepError(f"{step.name}.launch: {count} processes do not divide batch: {step.params['batch']}.")
    start = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        str(count),
        "--main_process_port",
        "0",
    ]
    if config and not deepspeed(step):
        return [*start, "--config_file", config]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*start, *(["--multi_gpu"] if count > 1 else []), *plain]


def deepspeed(step: Step) -> str | None:
    """The path in `launch.config` where that is a DeepSpeed configuration: for the trainer's field of that name.

    Raises StepError where it is no file or no JSON, MachineError without the package.
    """
    config = (step.params.get("launch") or {}).get("config")
    if config and not Path(config).is_file():
        raise StepError(f"{step.name}.launch.config: {config}: no such file. Paths begin where make is called.")
    if not config or not config.endswith(".json"):
        return None
    try:
        held = json.loads(Path(config).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StepError(f"{step.name}.launch.config: {config}: no JSON: {error}. Mend it.") from error
    if "zero_optimization" not in held:
        return None
    if not find_spec("deepspeed"):
        raise MachineError(f"{step.name}.launch.config: {config} needs the package deepspeed. Install it.")
    return str(Path(config).absolute())


@contextmanager
def _started(command: list[str], step: Step, noise: Any) -> Iterator[subprocess.Popen[str]]:
    """The processes, in a group of their own that ends with the block; they end by themselves where this one is killed."""
    threads = max(1, usable_cores() // step.params["launch"]["processes"])
    here = str(Path(__file__).resolve().parents[3])
    surroundings = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "ACCELERATE_USE_CPU": str(models.device() == "cpu").lower(),
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=noise, text=True, env=surroundings, start_new_session=True
    ) as process:
        try:
            yield process
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def _listen(process: subprocess.Popen[str], out: Out, told: dict[str, Any]) -> None:
    """Pass on what the first process logs and how far it is, and keep how it ended."""
    assert process.stdout
    with ExitStack() as bars:
        advance: Any = None
        for line in process.stdout:
            if not line.startswith(MARK):
                continue
            held = json.loads(line.removeprefix(MARK))
            if "log" in held:
                out.log(held["log"])
            elif "bar" in held:
                bars.close()
                advance = bars.enter_context(out.progress(*held["bar"]))
            elif "advance" in held:
                advance(*held["advance"], **held["named"])
            else:
                told.update({key: value for key, value in held.items() if key not in told})


def _fail(step: Step, out: Out, told: dict[str, Any], noise: Path) -> None:
    if "error" in told:
        kind: type[RunnerError] = getattr(errors, told["error"])
        raise kind(*told["lines"])
    lines = noise.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines[-LAST:]:
        out.log(line)
    why = next((f": {found[1]}" for line in lines if (found := RAISED.match(line))), "")
    raise StepError(f"{step.name}: a training process ended unexpectedly{why}. See {noise} for what it said.")
