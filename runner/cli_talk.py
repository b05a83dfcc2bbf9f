"""The commands that ask what is made: talk in the terminal, the page and the API, what a classifier says."""

from __future__ import annotations

import json
import sys

import click

from runner import plan as planning
from runner import terminal
from runner.cli_shared import load, patched, say
from runner.errors import MachineError


@click.command()
@click.argument("name")
@patched
@click.option("--entry", "-C", default="", help="Which entry of chat:; the first without it.")
@click.option("--text", default=None, help="One message, one answer, no session.")
@click.option(
    "--checkpoint", type=click.Choice(["best", "final"]), default=None, help="best (lowest validation loss) or final."
)
@click.option("--seed", default=0, help="The same seed and the same words give the same answers.")
def chat(
    name: str, variant: str, settings: str, entry: str, text: str | None, checkpoint: str | None, seed: int
) -> None:
    """Talk in the terminal."""
    from runner import chatting, talk, transcripts

    made = planning.make(load(name, variant, settings))
    cast = chatting.Cast(made, say, checkpoint)
    chosen = cast.find(entry)
    keep = None if text is not None else transcripts.fresh(made.root, made.recipe.label, chosen)
    session = talk.Session(cast, chosen, _read_line, lambda piece: click.echo(piece, nl=False), seed, keep)
    if text is not None:
        session.single(text)
        return
    if sys.stdin.isatty():
        say(f"{chosen}: type a message. {talk.SHORT}")
    try:
        session.run()
    except KeyboardInterrupt:
        click.echo()
    if keep and keep.is_file():
        say(f"Kept in {keep}")


@click.command()
@click.argument("name")
@patched
@click.option("--host", default="127.0.0.1", help="The address to listen on; 0.0.0.0 lets other machines in.")
@click.option("--port", default=8000, help="The port; 0 takes one that is free.")
@click.option("--names", default="", help="More names that the server may be called by, with commas between them.")
@click.option("--checkpoint", type=click.Choice(["best", "final"]), default=None, help="best or final, of every entry.")
def serve(name: str, variant: str, settings: str, host: str, port: int, names: str, checkpoint: str | None) -> None:
    """A chat page and an OpenAI-compatible API, for this machine alone unless asked."""
    from runner import chatting

    try:
        from runner import serving
    except ModuleNotFoundError as missing:
        raise MachineError(
            f"{missing.name}: not installed. The page and the API need it: pip install '.[serve]'"
        ) from missing
    cast = chatting.Cast(planning.make(load(name, variant, settings)), say, checkpoint)
    serving.run(cast, host, port, tuple(filter(None, names.split(","))), say)


def _read_line() -> str:
    """A line from the terminal, with its editing keys, or from a pipe."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line
    import readline  # noqa: F401  (importing it gives input() history and editing)

    return input("\nyou> ")


@click.command()
@click.argument("name")
@click.argument("model")
@patched
@click.option("--text", default=None, help="One text to judge.")
@click.option("--pair", default=None, help="The text that it is judged together with, for a model of pairs.")
@click.option(
    "--file", default=None, help="A file of texts, one a line, or JSON Lines with text; - for standard input."
)
@click.option(
    "--checkpoint", type=click.Choice(["best", "final"]), default="best", help="best (by the step's figure) or final."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How answers are printed.")
def predict(
    name: str,
    model: str,
    variant: str,
    settings: str,
    text: str | None,
    pair: str | None,
    file: str | None,
    checkpoint: str,
    form: str,
) -> None:
    """What a trained classifier or regressor says of one text, or of each in a file."""
    from runner import predicting

    rows = predicting.read(text, pair, file)
    answers = predicting.predict(planning.make(load(name, variant, settings)), model, rows, checkpoint, say)
    if form == "json":
        click.echo(json.dumps(answers, ensure_ascii=False, indent=1))
    else:
        click.echo(terminal.table(*predicting.table(answers)))
