"""`evaluate: judge`: ratings that a model or a person gave, summed up: means with intervals, agreement, win rates."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import fmean, stdev
from typing import Any

from runner.errors import DataError, StepError
from runner.files import Row, where
from runner.step import Out, Step, listed, pick
from runner.steps.evaluate import _agreement

Groups = dict[tuple[str, ...], list[Row]]
FIRST, SECOND, TIE = "first", "second", "tie"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Facts with a line a group and rating. Ratings are numbers (mean) or words (shares); with pair:, who wins."""
    by = listed(step.params.get("by"))
    groups = _groups(step, by)
    if not groups:
        raise StepError(f"{step.name}.from: no ratings.")
    head = ", ".join(by) or "all"
    if step.params.get("pair"):
        return _wins(step, groups, head)
    names = listed(step.params.get("of")) or ["rating"]
    metrics: dict[str, Any] = {}
    rows = []
    for key, held in sorted(groups.items()):
        made = metrics.setdefault(", ".join(key), {})
        for name in names:
            made[name] = _summed(step, held, name)
            rows.append([", ".join(key), name, *_line(made[name])])
    columns = [head, "rating", "n", "mean", "95% interval", "shares"]
    if any("agreement" in one for made in metrics.values() for one in made.values()):
        columns.append("agreement")
    else:
        rows = [row[:-1] for row in rows]
    tables = [{"title": "Ratings", "columns": columns, "rows": rows}]
    return {"metrics": metrics, "tables": tables, "plots": _plots(metrics)}


def _groups(step: Step, names: list[str]) -> Groups:
    groups: Groups = {}
    for part in step.parts() or (None,):
        for row in step.rows(part):
            key = tuple(str(row.get(name)) for name in names) or ((part,) if part else ("all",))
            groups.setdefault(key, []).append(row)
    return groups


def _value(row: Row, name: str) -> Any:
    try:
        value = pick(row, name)
    except (KeyError, TypeError) as error:
        raise DataError(f"{where(row)}: has no value at {name!r}. Drop such rows before.") from error
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DataError(f"{where(row)}: {name} is neither a number nor a word. Name another column.")
    return value


def _summed(step: Step, held: list[Row], name: str) -> dict[str, Any]:
    """n, shares, and for numbers the mean, its interval and standard deviation; agreement where things were rated twice."""
    values = [_value(row, name) for row in held]
    numbers = all(isinstance(value, int | float) for value in values)
    shares = {
        str(value): count / len(values) for value, count in sorted(Counter(values).items(), key=lambda one: str(one[0]))
    }
    made: dict[str, Any] = {"n": len(values), "shares": shares if len(shares) <= 12 else {}}
    if numbers:
        made |= {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else 0.0}
        made["interval"] = _agreement.interval(values, step.params["seed"])
    if step.params.get("rated"):
        units: dict[str, list[Any]] = defaultdict(list)
        for row, value in zip(held, values, strict=True):
            units[str(_value(row, step.params["rated"]))].append(value)
        made["agreement"] = _agreement.alpha([*units.values()], numbers)
    return made


def _line(made: dict[str, Any]) -> list[Any]:
    interval = made.get("interval")
    return [
        made["n"],
        f"{made['mean']:.3f}" if "mean" in made else "",
        f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
        ", ".join(f"{value} {share:.0%}" for value, share in made["shares"].items()),
        f"{made['agreement']:.3f}" if made.get("agreement") is not None else "",
    ]


def _plots(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    series: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for group, made in metrics.items():
        for name, one in made.items():
            if "mean" in one:
                series.setdefault(name, {})[group] = one["mean"]
                low, high = one["interval"] or (one["mean"], one["mean"])
                errors.setdefault(name, {})[group] = (high - low) / 2
    return [{"title": "Ratings", "kind": "bars", "y": "mean", "series": series, "errors": errors}] if series else []


# Which of two is better


def _wins(step: Step, groups: Groups, head: str) -> dict[str, Any]:
    """How often the first of `pair:` wins. A row whose `swapped` is true showed the two the other way round."""
    ours, other = step.params["pair"]
    metrics: dict[str, Any] = {}
    rows = []
    for key, held in sorted(groups.items()):
        shown = [(_verdict(row), bool(row.get("swapped"))) for row in held]
        wins = [_won(verdict, swapped) for verdict, swapped in shown]
        made = {"n": len(wins), **_agreement.win_rate(wins, step.params["seed"]), "ties": wins.count(0.5) / len(wins)}
        made["first_shown"] = fmean(_won(verdict, False) for verdict, _ in shown)
        metrics[", ".join(key)] = made
        interval = f"{made['low']:.1%} to {made['high']:.1%}"
        line = [
            len(wins),
            f"{made['rate']:.1%}",
            interval,
            f"{made['ties']:.1%}",
            f"{made['first_shown']:.1%}",
            f"{made['p']:.3f}",
        ]
        rows.append([", ".join(key), *line])
    columns = [head, "n", f"{ours} wins", "95% interval", "ties", "the one shown first wins", "p"]
    title = f"{ours} against {other}"
    series = {ours: {group: made["rate"] for group, made in metrics.items()}}
    plots = [{"title": title, "kind": "bars", "y": "share won", "series": series}]
    notes = (
        []
        if any(row.get("swapped") for held in groups.values() for row in held)
        else [
            "Every pair was shown in one order only: a judge may prefer what stands first. Give swap: where they are asked for."
        ]
    )
    return {
        "metrics": metrics,
        "tables": [{"title": title, "columns": columns, "rows": rows}],
        "plots": plots,
        "notes": notes,
    }


def _verdict(row: Row) -> str:
    value = str(_value(row, "rating")).casefold()
    if value not in (FIRST, SECOND, TIE):
        raise DataError(
            f"{where(row)}: rating {value!r} is none of first, second, tie. Give these in output:, or map them."
        )
    return value


def _won(verdict: str, swapped: bool) -> float:
    return 0.5 if verdict == TIE else float((verdict == FIRST) != swapped)
