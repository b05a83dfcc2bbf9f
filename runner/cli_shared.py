"""What the commands share: the options of a recipe, the recipe and its plan, and how a step is summed up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runner import plan as planning
from runner import recipe as recipes
from runner import terminal
from runner.errors import RunnerError

F = TypeVar("F", bound=Callable[..., Any])


def say(line: str) -> None:
    """A line to standard error: what is not a command's result."""
    click.echo(line, err=True)


def patched(command: F) -> F:
    """A command with the options that change its recipe: --variant and --set."""
    command = click.option("--variant", "-V", default="", help="Variants to merge in, in order: smoke or smoke,gpu.")(
        command
    )
    return click.option(
        "--set", "settings", default="", help='Single values: "steps.voice.epochs=1 matrix.trait=[openness]".'
    )(command)


def load(name: str, variant: str, settings: str) -> recipes.Recipe:
    """The recipe that a command names, proved, as those options change it."""
    from runner.variants import settings as split

    chosen = [one.strip() for one in variant.split(",") if one.strip()]
    return recipes.load(recipes.find(name), chosen, split(settings))


def pick(made: planning.Plan, target: str) -> list[planning.Planned]:
    """The steps of a target: all, a verb, or step/NAME. Raises RunnerError where there is none of that name."""
    from runner.problems import suggest
    from runner.schema import VERBS

    wanted = target.removeprefix("step/")
    known = {name for step in made.steps for name in (step.name, step.node.instance.written)}
    if wanted not in {"all", *VERBS, *known}:
        raise RunnerError(f"{made.recipe.path}: no step '{wanted}'.{suggest(wanted, known, 'Steps')}")
    return made.pick(wanted)


def written(made: planning.Plan) -> Path:
    """Write the plan for Make and the executor; returns the path of Make's."""
    with planning.writable(made.root):
        return planning.write(made)


def counted(count: int) -> str:
    """3 steps."""
    return f"{count} step{'s' * (count != 1)}"


def record_of(made: planning.Plan, step: planning.Planned) -> dict[str, Any]:
    """The step.json of a finished step."""
    record: dict[str, Any] = json.loads((made.root / "store" / step.key / "step.json").read_text(encoding="utf-8"))
    return record


def summary(record: dict[str, Any]) -> str:
    """'420 rows, 12 dropped (9 system message, 3 bot), 0.3 s'."""
    rows = record["rows"]
    out = " + ".join(f"{count} {'rows' if part == 'rows' else part}" for part, count in rows["out"].items())
    dropped = sum(rows["dropped"].values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows["dropped"].items())
    return ", ".join(
        filter(None, [out, f"{dropped} dropped ({reasons})" if dropped else "", terminal.duration(record["seconds"])])
    )


def say_results(made: planning.Plan, picked: list[planning.Planned]) -> None:
    """The tables of what was evaluated."""
    for step in picked:
        if step.node.verb == "evaluate":
            say("\n" + terminal.tables(record_of(made, step)["facts"]))
