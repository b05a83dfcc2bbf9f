"""The commands. The only place that prints errors and chooses exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runner import machine, terminal
from runner import plan as planning
from runner import recipe as recipes
from runner.errors import MachineError, RunnerError
from runner.problems import Problem
from runner.references import Node

F = TypeVar("F", bound=Callable[..., Any])


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
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.strip().removeprefix("export ").partition("=")
            if equals and not name.startswith("#"):
                os.environ.setdefault(name.strip(), value.strip().strip("\"'"))


def say(line: str) -> None:
    click.echo(line, err=True)


def _variant(command: F) -> F:
    command = click.option("--variant", "-V", default="", help="Variants to merge in, in order: smoke or smoke,gpu.")(
        command
    )
    return click.option(
        "--set", "settings", default="", help='Single values: "steps.voice.epochs=1 matrix.trait=[openness]".'
    )(command)


def _load(name: str, variant: str, settings: str) -> recipes.Recipe:
    from runner.variants import settings as split

    chosen = [one.strip() for one in variant.split(",") if one.strip()]
    return recipes.load(recipes.find(name), chosen, split(settings))


# Proving and looking


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "github"]), default="text", help="How problems are printed."
)
def check(names: tuple[str, ...], form: str) -> None:
    """Prove recipes, every variant of each: all problems at once. No names: all recipes."""
    paths = [recipes.find(name) for name in names] or recipes.every()
    if not paths:
        raise RunnerError("recipes/: no recipes here. Write recipes/<name>.yaml, or run this where recipes/ is.")
    found = {path: recipes.check(path) for path in paths}
    problems = [problem for held in found.values() for problem in held]
    if form == "json":
        click.echo(json.dumps([_as_json(problem) for problem in problems], ensure_ascii=False, indent=1))
    elif form == "github":
        for problem in problems:
            level = "warning" if problem.warning else "error"
            click.echo(
                f"::{level} file={problem.mark.file},line={problem.mark.line},col={problem.mark.column}::{problem.message}"
            )
    else:
        for path, held in found.items():
            for problem in held:
                click.echo(str(problem), err=True)
            errors = sum(not problem.warning for problem in held)
            click.echo(f"{path}: {'ok' if not errors else f'{errors} problem' + 's' * (errors > 1)}")
    if any(not problem.warning for problem in problems):
        sys.exit(1)


def _as_json(problem: Problem) -> dict[str, Any]:
    level = "warning" if problem.warning else "error"
    return {
        "file": problem.mark.file,
        "line": problem.mark.line,
        "column": problem.mark.column,
        "level": level,
        "message": problem.message,
    }


@main.command()
@click.argument("name")
@_variant
@click.option("--target", default="all", help="all, a verb, or step/NAME.")
@click.option("--make", "for_make", is_flag=True, help="Write the plan for Make and print its path.")
def plan(name: str, variant: str, settings: str, target: str, for_make: bool) -> None:
    """What would run, and why."""
    made = planning.make(_load(name, variant, settings))
    picked = _pick(made, target)
    if for_make:
        path = _written(made)
        if not any(step.why for step in picked):
            say(f"{made.recipe.label}: nothing to do, {_steps(len(picked))} made.")
            _say_results(made, picked)
        click.echo(path)
        return
    rows = [
        [step.name, f"{step.node.verb} {step.node.kind}", "run" if step.why else "made", step.why or _made(made, step)]
        for step in picked
    ]
    click.echo(terminal.table(["step", "does", "state", "why"], rows))
    stale = sum(bool(step.why) for step in picked)
    click.echo(f"\n{made.recipe.label}: {stale} of {_steps(len(picked))} to run.")
    _say_estimates([step.spec for step in picked if step.why and step.node.verb == "train"], made.root)
    _say_forecasts([step for step in picked if step.why and step.node.verb == "generate"], made.root)
    chats = made.recipe.chats.values() if target == "all" else ()
    _say_tokens([*(step.node for step in picked if step.why), *(chat.node for chat in chats)])


def _say_estimates(specs: list[dict[str, Any]], root: Path) -> None:
    """What training would take here: a table, and a line for each step that will not fit."""
    here = machine.look() if specs else None
    if here is None:
        return
    from runner import estimates

    rows, lines = estimates.table(specs, root, here)
    click.echo(f"\nEstimated for {here.name} with {here.free / 2**30:.1f} GiB of {here.total / 2**30:.1f} GiB free:\n")
    click.echo(terminal.table(estimates.COLUMNS, rows))
    for line in lines:
        click.echo(line)


def _say_forecasts(steps: list[planning.Planned], root: Path) -> None:
    """What generating will ask and cost, a line a step, as far as the rows that it reads are made."""
    from runner.execute import look_ahead

    if steps:
        click.echo("\nTo be generated:\n")
    for step in steps:
        click.echo(f"{step.name}: {look_ahead(step.spec, root) or 'known once the rows that it reads are made'}")


def _say_tokens(nodes: list[Node]) -> None:
    """Models that cannot steer each other, as their tokenizers show: what names them would fail when its turn comes."""
    from runner import tokens

    for line in tokens.differences(nodes):
        click.echo(f"\n{line}")


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _pick(made: planning.Plan, target: str) -> list[planning.Planned]:
    from runner.problems import suggest
    from runner.schema import VERBS

    wanted = target.removeprefix("step/")
    known = {name for step in made.steps for name in (step.name, step.node.instance.written)}
    if wanted not in {"all", *VERBS, *known}:
        raise RunnerError(f"{made.recipe.path}: no step '{wanted}'.{suggest(wanted, known, 'Steps')}")
    return made.pick(wanted)


def _written(made: planning.Plan) -> Path:
    with planning.writable(made.root):
        return planning.write(made)


def _record(made: planning.Plan, step: planning.Planned) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((made.root / "store" / step.key / "step.json").read_text(encoding="utf-8"))
    return record


def _made(made: planning.Plan, step: planning.Planned) -> str:
    return _summary(_record(made, step))


def _summary(record: dict[str, Any]) -> str:
    """'420 rows, 12 dropped (9 system message, 3 bot), 0.3 s'."""
    rows = record["rows"]
    out = " + ".join(f"{count} {'rows' if part == 'rows' else part}" for part, count in rows["out"].items())
    dropped = sum(rows["dropped"].values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows["dropped"].items())
    return ", ".join(
        filter(None, [out, f"{dropped} dropped ({reasons})" if dropped else "", terminal.duration(record["seconds"])])
    )


def _say_results(made: planning.Plan, picked: list[planning.Planned]) -> None:
    for step in picked:
        if step.node.verb == "evaluate":
            say("\n" + terminal.tables(_record(made, step)["facts"]))


# Doing


@main.command()
@click.argument("name")
@_variant
@click.option("--target", default="all", help="all, a verb, or step/NAME.")
def run(name: str, variant: str, settings: str, target: str) -> None:
    """Make a recipe in this one process, without Make: the same graph, the same results."""
    made = planning.make(_load(name, variant, settings))
    picked = _pick(made, target)
    path = _written(made)
    if not any(step.why for step in picked):
        say(f"{made.recipe.label}: nothing to do, {_steps(len(picked))} made.")
        _say_results(made, picked)
        return
    held = _plan_file(path.with_suffix(".json"))
    for step in picked:
        _execute(held, step.key, made.root)


@main.command()
@click.argument("plan_file", type=click.Path(path_type=Path))
@click.argument("key")
def execute(plan_file: Path, key: str) -> None:
    """Make one step of a written plan, and of the same goal those that read the same models. Make calls this."""
    from runner import sharing

    path = plan_file.with_suffix(".json")
    held, root, goal = _plan_file(path), path.parent.parent, os.environ.get("PERSONA_GOAL", "")
    tried: set[str] = set()
    following: str | None = key
    while following:
        tried.add(following)
        _execute(held, following, root)
        following = sharing.following(held, key, goal, root, tried)


def _plan_file(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held


def _execute(held: dict[str, Any], key: str, root: Path) -> None:
    from runner.execute import execute as make_step

    record = make_step(held, key, root, say, terminal.bar, _shard())
    if record:
        say(f"{record['spec']['name']}: {_summary(record)}")
        if record["spec"]["verb"] == "evaluate":
            click.echo("\n" + terminal.tables(record["facts"]))
    sys.stdout.flush()


def _shard() -> tuple[int, int] | None:
    from runner import shards

    try:
        return shards.parse(os.environ.get("SHARD", ""))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@main.command()
@click.argument("name")
@click.argument("step")
@_variant
@click.option("--rows", "count", default=5, help="How many rows.")
def first(name: str, step: str, variant: str, settings: str, count: int) -> None:
    """The first rows of a generate step, to be looked at before the rest is paid. What is asked is kept for the step."""
    from runner import show as showing

    made = planning.make(_load(name, variant, settings))
    wanted = step.removeprefix("step/")
    picked = _pick(made, wanted)
    held = _plan_file(_written(made).with_suffix(".json"))
    for one in picked:
        if wanted not in (one.name, one.node.instance.written):
            _execute(held, one.key, made.root)
    for one in picked:
        if wanted in (one.name, one.node.instance.written):
            click.echo(showing.first(made, one, count, say, terminal.bar, color=sys.stdout.isatty()))


# Looking


@main.command("list")
def list_recipes() -> None:
    """Recipes and their variants."""
    from runner import look

    click.echo(terminal.table(["recipe", "title", "steps", "variants"], look.listing()))


@main.command()
@click.argument("name")
@_variant
def status(name: str, variant: str, settings: str) -> None:
    """Every step: made or not, its rows, its time."""
    made = planning.make(_load(name, variant, settings))
    rows = []
    for step in made.steps:
        record = None if step.why else _record(made, step)
        state = f"to run: {step.why}" if step.why else "made"
        rows.append(
            [
                step.name,
                f"{step.node.verb} {step.node.kind}",
                state,
                _rows(record),
                terminal.duration(record["seconds"]) if record else "",
            ]
        )
    click.echo(terminal.table(["step", "does", "state", "rows", "took"], rows))


def _rows(record: dict[str, Any] | None) -> str:
    return " + ".join(str(count) for count in record["rows"]["out"].values()) if record else ""


@main.command()
@click.argument("name")
@_variant
@click.option("--format", "form", type=click.Choice(["mermaid", "svg"]), default="mermaid", help="What is printed.")
def graph(name: str, variant: str, settings: str, form: str) -> None:
    """The recipe's graph in Mermaid, or as an SVG file's text."""
    from runner import look

    made = planning.make(_load(name, variant, settings))
    click.echo(look.svg(made) if form == "svg" else look.mermaid(made))


@main.command()
@click.argument("kind")
def explain(kind: str) -> None:
    """The keys of a kind or a decoding mode (sft, train.sft, decoding.sample); of a verb, those of all its kinds."""
    from runner import docs

    for name in docs.find(kind):
        heading, fragment, _ = docs.sections()[name]
        click.echo(f"{heading}\n{fragment['title']}. {fragment.get('description', '')}\n")
        click.echo(terminal.table(docs.COLUMNS, docs.own_keys(name)) + "\n")


@main.command()
@click.argument("names")
@_variant
def report(names: str, variant: str, settings: str) -> None:
    """Write report.html from what the steps recorded; name,other compares (also name@variant)."""
    from runner import report as reporting

    held = [name.partition("@") for name in names.split(",")]
    chosen = [(name, given.replace("@", ",") or variant) for name, _, given in held]
    click.echo(reporting.write([planning.make(_load(name, given, settings)) for name, given in chosen]))


@main.command()
@click.argument("name")
@click.argument("step")
@_variant
@click.option("--rows", "count", default=5, help="How many rows.")
def show(name: str, step: str, variant: str, settings: str, count: int) -> None:
    """The first rows of a step; for training, the text with what is learned marked."""
    from runner import show as showing

    made = planning.make(_load(name, variant, settings))
    wanted = step.removeprefix("step/")
    _pick(made, wanted)
    for one in made.steps:
        if wanted in (one.name, one.node.instance.written):
            click.echo(showing.step(made, one, count, color=sys.stdout.isatty()))


@main.command()
@click.argument("name")
@_variant
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

    made = planning.make(_load(name, variant, settings))
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


@main.command()
@click.argument("name")
@_variant
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
    cast = chatting.Cast(planning.make(_load(name, variant, settings)), say, checkpoint)
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


@main.command()
@click.argument("name")
@click.argument("model")
@_variant
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
    answers = predicting.predict(planning.make(_load(name, variant, settings)), model, rows, checkpoint, say)
    if form == "json":
        click.echo(json.dumps(answers, ensure_ascii=False, indent=1))
    else:
        click.echo(terminal.table(*predicting.table(answers)))


@main.command("import")
@click.argument("system", type=click.Choice(["selfchatbot"]))
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", "-d", type=int, default=None, help="The number in Dataset_<number>_<name>.")
def import_recipe(system: str, folder: Path | None, dataset: int | None) -> None:
    """Write a recipe from another system's folder: selfchatbot's Dataset_<number>_<name>."""
    from runner import importing

    name, text = importing.selfchatbot(folder, dataset)
    path = recipes.FOLDER / f"{name}.yaml"
    if path.exists():
        raise RunnerError(f"{path}: exists already. Move it away first.")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"{path}: written. Prove it: make check R={name}")


# Keeping house


@main.command()
@click.argument("name")
def clean(name: str) -> None:
    """Remove what was made for one recipe, unless another recipe needs it."""
    from runner import look

    recipes.find(name)
    _say_removed(*look.clean(name))


@main.command()
def gc() -> None:
    """Remove what no recipe and no variant reaches."""
    from runner import look

    _say_removed(*look.sweep())


def _say_removed(steps: int, size: int) -> None:
    click.echo(f"{_steps(steps)} removed, {size / 1e6:.1f} MB.")


@main.command()
@click.option("--check", "only_check", is_flag=True, help="Only say what is out of date.")
def docs(only_check: bool) -> None:
    """Write the editor schema and the reference from schemas/."""
    from runner import docs as writing

    if only_check:
        stale = writing.stale()
        if stale:
            raise RunnerError(*(f"{path}: out of date. Run make docs." for path in stale))
        return
    for path in writing.write():
        click.echo(str(path))


@main.command("models")
def convert_models() -> None:
    """Convert the bundled models, once. Set-up calls this."""
    from runner import models, schema

    for name in schema.bundled():
        models.ensure_bundled(name, planning.artifacts(), say)
