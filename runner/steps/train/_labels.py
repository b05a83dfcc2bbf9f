"""What a classifier learns to say: its labels in a fixed order, or its numbers by name, and how a row's label is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from runner.errors import DataError, StepError
from runner.files import Row
from runner.step import Step
from runner.steps._targets import class_name, numbers

Parts = dict[str, str | None]
MOST = 1000
NO_SUCH = "the label is none of labels:"


@dataclass
class Target:
    """What is predicted: the labels in the order of the outputs, or the names of the numbers.

    counts: rows of each label, by role; means: of each number, over the training rows
    """

    predict: str
    labels: list[str]
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    means: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, row: Row) -> int | list[float]:
        """The number of the row's class, or its numbers. ValueError with the reason where it has none."""
        held = row.get("label")
        if self.predict == "class":
            name = class_name(held)
            if name not in self.labels:
                raise ValueError(NO_SUCH)
            return self.labels.index(name)
        return numbers(held, self.labels if self.predict == "numbers" else [""])


# Learned of the rows


def learn(step: Step, roles: Parts, known: list[str] | None = None) -> Target:
    """The labels of the training and validation rows, in the order of `labels:`, else of `known` where these are the same,
    else sorted; or the names of the numbers. Raises StepError or DataError where nothing can be learned of them.
    """
    predict = step.params["predict"]
    if predict in ("number", "numbers"):
        return _numbers(step, roles, predict)
    counts = {role: Counter(_names(step, part)) for role, part in roles.items()}
    seen = {name for count in counts.values() for name in count}
    given = step.params.get("labels")
    if given:
        strange = sorted(seen - set(map(class_name, given)))
        if strange:
            rows = sum(count[strange[0]] for count in counts.values())
            said = f"does not name {strange[0]!r}, which {rows} rows have" + (" (and others)" if strange[1:] else "")
            raise DataError(f"{step.name}.labels: {said}. Add it, or drop these rows.")
        labels = [class_name(one) for one in given]
    else:
        labels = list(known) if known and set(known) == seen else sorted(seen, key=_order)
    made = Target(predict, labels, counts)
    _check(step, made)
    return made


def _names(step: Step, part: str | None) -> Iterator[str]:
    for row in step.rows(part):
        with suppress(ValueError):  # such rows are rejected where they are read for training
            yield class_name(row.get("label"))


def _order(name: str) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _check(step: Step, made: Target) -> None:
    train = made.counts["train"]
    if len(train) < 2:
        only = f"all of them are {next(iter(train))!r}" if train else "none has a label"
        raise DataError(f"{step.name}.from: its training rows have nothing to tell apart: {only}. Bring other labels.")
    if len(made.labels) > MOST:
        first = ", ".join(map(repr, made.labels[:3]))
        advice = "Map the right column to label, or set predict: number."
        raise DataError(f"{step.name}.from: {len(made.labels)} different labels ({first}, …). {advice}")
    missing = [label for label in made.labels if not train[label]]
    single = [label for label in made.labels if train[label] == 1]
    if missing:
        made.notes.append(
            f"No training row has the label {_listed(missing)}: it is never learned, but keeps its place."
        )
    if single:
        made.notes.append(f"Only one training row each has the label {_listed(single)}.")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _numbers(step: Step, roles: Parts, predict: str) -> Target:
    names, count = _number_names(step, predict, roles), 0
    sums = [0.0] * len(names)
    made = Target(predict, names)
    for row in step.rows(roles["train"]):
        try:
            found = made.of(row)
        except ValueError:
            continue
        count += 1
        sums = [total + one for total, one in zip(sums, found, strict=True)]  # type: ignore[arg-type]
    if not count:
        advice = "Map the column with the numbers: columns: {label: …}."
        raise DataError(
            f"{step.name}.from: no training row has {'numbers' if len(names) > 1 else 'a number'} as label. {advice}"
        )
    made.means = [total / count for total in sums]
    return made


def _number_names(step: Step, predict: str, roles: Parts) -> list[str]:
    """names:, else the columns that label is mapped from, else the keys of the first row's object, else 1, 2, …"""
    mapped = (step.params.get("columns") or {}).get("label")
    if predict == "number":
        return list(step.params.get("names") or [mapped if isinstance(mapped, str) else "number"])[:1]
    if step.params.get("names"):
        return list(step.params["names"])
    if isinstance(mapped, list):
        return [str(name) for name in mapped]
    for row in step.rows(roles["train"]):
        held = row.get("label")
        if isinstance(held, dict) and held:
            return list(held)
        if isinstance(held, list) and held:
            return [str(at) for at in range(1, len(held) + 1)]
    raise DataError(f"{step.name}.from: no training row has a list or an object of numbers as label.")


def weights(step: Step, target: Target) -> list[float] | None:
    """How much each class counts: balanced is rows / (classes · rows of the class), so that the mean over rows is 1."""
    asked = step.params.get("class_weights")
    if asked is None:
        return None
    if target.predict != "class":
        raise StepError(f"{step.name}.class_weights: only for predict: class. Remove it.")
    train = target.counts["train"]
    if asked == "balanced":
        here = [label for label in target.labels if train[label]]
        return [train.total() / (len(here) * train[label]) if train[label] else 1.0 for label in target.labels]
    strange = sorted(set(asked) - set(target.labels))
    if strange:
        raise StepError(f"{step.name}.class_weights: no label {strange[0]!r} (there are: {_listed(target.labels)}).")
    return [float(asked.get(label, 1.0)) for label in target.labels]
