"""The commands that make: a recipe, one step of it, a recipe of another system; and those that keep house."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from runner import plan as planning
from runner import recipe as recipes
from runner import terminal
from runner.cli_shared import counted, load, patched, pick, say, say_results, summary, written
from runner.errors import RunnerError


@click.command()
@click.argument("name")
@patched
@click.option("--target", default="all", help="all, a verb, or step/NAME.")
def run(name: str, variant: str, settings: str, target: str) -> None:
    """Make a recipe in this one process, without Make: the same graph, the same results."""
    made = planning.make(load(name, variant, settings))
    picked = pick(made, target)
    path = written(made)
    if not any(step.why for step in picked):
        say(f"{made.recipe.label}: nothing to do, {counted(len(picked))} made.")
        say_results(made, picked)
        return
    held = read_plan(path.with_suffix(".json"))
    for step in picked:
        make_one(held, step.key, made.root)


@click.command()
@click.argument("plan_file", type=click.Path(path_type=Path))
@click.argument("key")
def execute(plan_file: Path, key: str) -> None:
    """Make one step of a written plan, and of the same goal those that read the same models. Make calls this."""
    from runner import sharing

    path = plan_file.with_suffix(".json")
    held, root, goal = read_plan(path), path.parent.parent, os.environ.get("PERSONA_GOAL", "")
    tried: set[str] = set()
    following: str | None = key
    while following:
        tried.add(following)
        make_one(held, following, root)
        following = sharing.following(held, key, goal, root, tried)


def read_plan(path: Path) -> dict[str, Any]:
    """The executor's half of a written plan."""
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held


def make_one(held: dict[str, Any], key: str, root: Path) -> None:
    """Make one step of a plan, unless it is made, and say what came out."""
    from runner.execute import execute as make_step

    record = make_step(held, key, root, say, terminal.bar, _shard())
    if record:
        say(f"{record['spec']['name']}: {summary(record)}")
        if record["spec"]["verb"] == "evaluate":
            click.echo("\n" + terminal.tables(record["facts"]))
    sys.stdout.flush()


def _shard() -> tuple[int, int] | None:
    from runner import shards

    try:
        return shards.parse(os.environ.get("SHARD", ""))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@click.command()
@click.argument("name")
@click.argument("step")
@patched
@click.option("--rows", "count", default=5, help="How many rows.")
def first(name: str, step: str, variant: str, settings: str, count: int) -> None:
    """The first rows of a generate step, to be looked at before the rest is paid. What is asked is kept for the step."""
    from runner import show as showing

    made = planning.make(load(name, variant, settings))
    wanted = step.removeprefix("step/")
    picked = pick(made, wanted)
    held = read_plan(written(made).with_suffix(".json"))
    for one in picked:
        if wanted not in (one.name, one.node.instance.written):
            make_one(held, one.key, made.root)
    for one in picked:
        if wanted in (one.name, one.node.instance.written):
            click.echo(showing.first(made, one, count, say, terminal.bar, color=sys.stdout.isatty()))


@click.command("import")
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


@click.command()
@click.argument("name")
def clean(name: str) -> None:
    """Remove what was made for one recipe, unless another recipe needs it."""
    from runner import look

    recipes.find(name)
    _say_removed(*look.clean(name))


@click.command()
def gc() -> None:
    """Remove what no recipe and no variant reaches."""
    from runner import look

    _say_removed(*look.sweep())


def _say_removed(steps: int, size: int) -> None:
    click.echo(f"{counted(steps)} removed, {size / 1e6:.1f} MB.")


@click.command()
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


@click.command("models")
def convert_models() -> None:
    """Convert the bundled models, once. Set-up calls this."""
    from runner import models, schema

    for name in schema.bundled():
        models.ensure_bundled(name, planning.artifacts(), say)
