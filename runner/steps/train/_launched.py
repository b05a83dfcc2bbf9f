"""What each process of a launch does: `python -m runner.steps.train._launched KIND STEP`, started by runner's _launch."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch.distributed as dist
from accelerate import PartialState

from runner import models
from runner.errors import RunnerError
from runner.files import Row
from runner.step import Advance, Out
from runner.steps.train._launch import MARK, leads

WATCH = 0.5  # seconds


class Leading(Out):
    """The folder as the first process sees it: its log lines go through the process that started it."""

    def log(self, line: str) -> None:
        tell(log=line)


class Quiet(Out):
    """The folder as the other processes see it: they read it, and leave writing to the first."""

    def reject(self, row: Row, reason: str) -> None: ...

    def log(self, line: str) -> None: ...

    def side(self, row: Row) -> None: ...

    def write_json(self, name: str, value: Any) -> None: ...


def main() -> None:
    kind, spec = sys.argv[1:]
    step, folder, parent = pickle.loads(Path(spec).read_bytes())  # noqa: S301 -- written by _launch a moment ago
    threading.Thread(target=_end_with, args=(psutil.Process(parent),), daemon=True).start()
    PartialState(cpu=models.device() == "cpu")
    out = Leading(folder, _bar) if leads() else Quiet(folder)
    try:
        facts = importlib.import_module(f"runner.steps.train.{kind}").train(step, out)
    except RunnerError as error:
        tell(error=type(error).__name__, lines=error.lines)
        os._exit(1)  # the others wait for this one: no farewell
    finally:
        out.close()
    if leads():
        tell(facts=facts)
    if dist.is_initialized():
        dist.destroy_process_group()


def tell(**what: Any) -> None:
    """A line for the process that started this one."""
    sys.stdout.write(MARK + json.dumps(what, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    tell(bar=[label, total])

    def advance(*amount: Any, **named: Any) -> None:
        tell(advance=amount, named=named)

    yield advance


def _end_with(parent: psutil.Process) -> None:
    """Killed, the process of the step can no longer end this one, and its next run would train beside it."""
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        time.sleep(WATCH)
    os._exit(1)


if __name__ == "__main__":
    main()
