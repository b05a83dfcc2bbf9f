"""The entry: every command, and the only place that prints errors and chooses exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from runner import cli_look, cli_make, cli_talk, machine
from runner.errors import RunnerError


class _Commands(click.Group):
    """Turns the user's errors into lines on stderr and an exit code; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RunnerError as error:
            for line in error.lines:
                click.echo(line, err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted. Run again to go on.", err=True)
            ctx.exit(130)
        except BrokenPipeError:  # the reader of our output went away
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make persona models from recipes. `make` shows the same commands as targets."""
    _read_env(Path(".env"))
    machine.settle()


def _read_env(path: Path) -> None:
    """NAME=value lines into the environment, where it does not hold the name already."""
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise RunnerError(f"{path}: is not UTF-8. Save it as UTF-8.") from None
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            os.environ.setdefault(name.strip(), value.strip().strip("\"'"))


for _module in (cli_look, cli_make, cli_talk):
    for _command in vars(_module).values():
        if isinstance(_command, click.Command):
            main.add_command(_command)
