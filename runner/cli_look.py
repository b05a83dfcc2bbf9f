"""The commands that look and make nothing: what is wrong, what would run, what is made, what was found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from runner import machine, terminal
from runner import plan as planning
from runner import recipe as recipes
from runner.cli_shared import counted, load, patched, pick, record_of, say, say_results, summary, written
from runner.errors import RunnerError
from runner.problems import Problem
from runner.references import Node


@click.command()
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


@click.command()
@click.argument("name")
@patched
@click.option("--target", default="all", help="all, a verb, or step/NAME.")
@click.option("--make", "for_make", is_flag=True, help="Write the plan for Make and print its path.")
def plan(name: str, variant: str, settings: str, target: str, for_make: bool) -> None:
    """What would run, and why."""
    made = planning.make(load(name, variant, settings))
    picked = pick(made, target)
    if for_make:
        path = written(made)
        if not any(step.why for step in picked):
            say(f"{made.recipe.label}: nothing to do, {counted(len(picked))} made.")
            say_results(made, picked)
        click.echo(path)
        return
    rows = [
        [step.name, f"{step.node.verb} {step.node.kind}", "run" if step.why else "made", step.why or _made(made, step)]
        for step in picked
    ]
    click.echo(terminal.table(["step", "does", "state", "why"], rows))
    stale = sum(bool(step.why) for step in picked)
    click.echo(f"\n{made.recipe.label}: {stale} of {counted(len(picked))} to run.")
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


def _made(made: planning.Plan, step: planning.Planned) -> str:
    return summary(record_of(made, step))


@click.command("list")
def list_recipes() -> None:
    """Recipes and their variants."""
    from runner import look

    click.echo(terminal.table(["recipe", "title", "steps", "variants"], look.listing()))


@click.command()
@click.argument("name")
@patched
def status(name: str, variant: str, settings: str) -> None:
    """Every step: made or not, its rows, its time."""
    made = planning.make(load(name, variant, settings))
    rows = []
    for step in made.steps:
        record = None if step.why else record_of(made, step)
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


@click.command()
@click.argument("name")
@patched
@click.option("--format", "form", type=click.Choice(["mermaid", "svg"]), default="mermaid", help="What is printed.")
def graph(name: str, variant: str, settings: str, form: str) -> None:
    """The recipe's graph in Mermaid, or as an SVG file's text."""
    from runner import look

    made = planning.make(load(name, variant, settings))
    click.echo(look.svg(made) if form == "svg" else look.mermaid(made))


@click.command()
@click.argument("kind")
def explain(kind: str) -> None:
    """The keys of a kind or a decoding mode (sft, train.sft, decoding.sample); of a verb, those of all its kinds."""
    from runner import docs

    for name in docs.find(kind):
        heading, fragment, _ = docs.sections()[name]
        click.echo(f"{heading}\n{fragment['title']}. {fragment.get('description', '')}\n")
        click.echo(terminal.table(docs.COLUMNS, docs.own_keys(name)) + "\n")


@click.command()
@click.argument("names")
@patched
def report(names: str, variant: str, settings: str) -> None:
    """Write report.html from what the steps recorded; name,other compares (also name@variant)."""
    from runner import report as reporting

    held = [name.partition("@") for name in names.split(",")]
    chosen = [(name, given.replace("@", ",") or variant) for name, _, given in held]
    click.echo(reporting.write([planning.make(load(name, given, settings)) for name, given in chosen]))


@click.command()
@click.argument("name")
@click.argument("step")
@patched
@click.option("--rows", "count", default=5, help="How many rows.")
def show(name: str, step: str, variant: str, settings: str, count: int) -> None:
    """The first rows of a step; for training, the text with what is learned marked."""
    from runner import show as showing

    made = planning.make(load(name, variant, settings))
    wanted = step.removeprefix("step/")
    pick(made, wanted)
    for one in made.steps:
        if wanted in (one.name, one.node.instance.written):
            click.echo(showing.step(made, one, count, color=sys.stdout.isatty()))
