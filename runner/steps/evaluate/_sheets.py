"""Answer sheets of a questionnaire: what was answered, what that scores, and how it compares with a group of people."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from scipy import stats

from runner.errors import DataError
from runner.files import Row, where
from runner.inventories import Asked, Inventory, Option

ORDER, ANSWERS = re.compile(r"order-(\d+)"), re.compile(r"shuffle(\d+)-test(\d+)")
# A number, or a letter with nothing but punctuation after it: "A good question" names no choice
FIRST = re.compile(r"[(\[\"'*]*(-?\d+(?!\w|\.\d)|[A-Za-z](?=[)\]\"'*]*(?:$|[.,:;=)\]\n])))")
TAG = re.compile(r"(?<![\w.])\d+(?!\w)|\b[A-Z]\b")
OF_AN_ANSWER = ("id", "source", "item", "text", "answer", "said", "chances")


@dataclass
class Sheet:
    """One run through an inventory: the tag of each item's answer by its number, None where there is none."""

    columns: dict[str, Any]
    answers: dict[int, str | None] = field(default_factory=dict)


# Reading answers


def parse(said: str, asked: Asked) -> Option | None:
    """The one option that a reply names: by its tag at the start ("4", "(b)", "4. I agree"), or by its whole text.

    None where it names none or several ("3 or 4", "4/5", "10"), so that no answer is made up.
    """
    reply = said.strip()
    for option in asked.options.values():
        if reply.rstrip(" .!").casefold() == option.text.rstrip(" .!").casefold():
            return option
    found = FIRST.match(reply)
    if not found:
        return None
    tags = {tag.casefold(): option for tag, option in asked.options.items()}
    others = {word.casefold() for word in TAG.findall(reply[found.end() :])} & {*tags} - {found[1].casefold()}
    return None if others else tags.get(found[1].casefold())


def sheets(rows: Iterable[Row], inventory: Inventory) -> list[Sheet]:
    """Sheets out of rows: one row an answer, as this kind writes them, or one row an item with a column a test
    (`order-0`, `shuffle0-test0`, …). Raises DataError at an item that the inventory does not have."""
    made: dict[tuple[Any, ...], Sheet] = {}
    numbers = {item.number for item in inventory.items}
    for row in rows:
        for columns, number, answer in _long(row) if "answer" in row else _wide(row):
            if number not in numbers:
                raise DataError(f"{where(row)}: item {number} is not in {inventory.title}.")
            key = tuple(sorted((name, repr(value)) for name, value in columns.items()))
            made.setdefault(key, Sheet(columns)).answers[number] = answer
    return list(made.values())


def _long(row: Row) -> Iterator[tuple[dict[str, Any], int, str | None]]:
    yield (
        {name: value for name, value in row.items() if name not in OF_AN_ANSWER},
        int(row["item"]),
        _tag(row["answer"]),
    )


def _wide(row: Row) -> Iterator[tuple[dict[str, Any], int, str | None]]:
    orders = {found[1]: name for name in row if (found := ORDER.fullmatch(name))}
    for name in row:
        found = ANSWERS.fullmatch(name)
        if found and found[1] in orders:
            file = str(row.get("source", "")).rpartition(":")[0]
            others = {key: value for key, value in row.items() if key not in OF_AN_ANSWER and not _of_a_table(key)}
            yield {**others, "file": file, "sheet": name}, int(row[orders[found[1]]]), _tag(row[name])


def _of_a_table(name: str) -> bool:
    return bool(ORDER.fullmatch(name) or ANSWERS.fullmatch(name) or name.startswith("Prompt:"))


def _tag(value: Any) -> str | None:
    if value is None or not str(value).strip():
        return None
    number = isinstance(value, float) and value.is_integer()
    return str(int(value) if number else value).strip()


# Scoring


def score(sheet: Sheet, inventory: Inventory, blank: str) -> dict[str, float] | None:
    """The traits of one sheet: the mean, or the sum, of its items' points.

    blank: `item` leaves a blank out (a sum is scaled up to all items); `sheet` leaves out the whole sheet, which is then
    None, as is one with a trait that has no answer.
    """
    held: dict[str, list[float]] = {trait: [] for trait in inventory.traits}
    size = dict.fromkeys(inventory.traits, 0)
    for item in inventory.items:
        answer = next((one for one in item.options if one.tag == sheet.answers.get(item.number)), None)
        if answer is None and blank == "sheet":
            return None
        for trait in {trait for option in item.options for trait in option.points}:
            size[trait] += 1
            if answer:
                held[trait].append(answer.points.get(trait, 0.0))
    if any(not points for trait, points in held.items() if size[trait]):
        return None
    summed = inventory.score == "sum" or bool(inventory.items and not inventory.items[0].trait)
    return {
        trait: statistics.fmean(points) * (size[trait] if summed else 1) for trait, points in held.items() if points
    }


def kind_of(scores: dict[str, float], inventory: Inventory) -> str:
    """The type that a sheet shows: of each pair of opposites the stronger, at a tie the second."""
    return "".join(first if scores[first] > scores[second] else second for first, second in inventory.opposites)


@dataclass(frozen=True)
class Compared:
    """A trait against a group: the test that was used, its p, Cohen's d, and the interval of the difference of means."""

    test: str
    p: float
    effect: float
    low: float
    high: float


def compare(values: list[float], group: dict[str, float], level: float) -> Compared | None:
    """Two-sided t-test of sheets against a group of people; None with fewer than two sheets.

    Student's where an F-test at `level` does not tell the variances apart, else Welch's. Cohen's d takes the pooled
    standard deviation. The interval covers 1 - level.
    """
    if len(values) < 2:
        return None
    mean, sd, n = statistics.fmean(values), statistics.stdev(values), len(values)
    equal = _same_variance(sd, n, group, level)
    test = stats.ttest_ind_from_stats(mean, sd, n, group["mean"], group["sd"], group["n"], equal_var=equal)
    pooled = math.sqrt(((n - 1) * sd**2 + (group["n"] - 1) * group["sd"] ** 2) / (n + group["n"] - 2))
    error = (
        pooled * math.sqrt(1 / n + 1 / group["n"]) if equal else math.sqrt(sd**2 / n + group["sd"] ** 2 / group["n"])
    )
    half = float(stats.t.ppf(1 - level / 2, _freedom(sd, n, group, equal))) * error
    difference = mean - group["mean"]
    name = "Student" if equal else "Welch"
    return Compared(name, float(test.pvalue), difference / pooled, difference - half, difference + half)


def _same_variance(sd: float, n: int, group: dict[str, float], level: float) -> bool:
    ratio = sd**2 / group["sd"] ** 2
    below = float(stats.f.cdf(ratio, n - 1, group["n"] - 1))
    return 2 * min(below, 1 - below) > level


def _freedom(sd: float, n: int, group: dict[str, float], equal: bool) -> float:
    """Degrees of freedom: Student's, or Welch and Satterthwaite's."""
    if equal:
        return n + group["n"] - 2
    own, theirs = sd**2 / n, group["sd"] ** 2 / group["n"]
    return (own + theirs) ** 2 / (own**2 / (n - 1) + theirs**2 / (group["n"] - 1))


def correlation(scored: list[dict[str, float]], traits: Iterable[str]) -> list[list[float | None]] | None:
    """Pearson's r of every two traits over sheets, None for a trait that never varies; None with fewer than three sheets,
    and where not two traits vary."""
    names = list(traits)
    if len(scored) < 3 or sum(len({one[name] for one in scored}) > 1 for name in names) < 2:
        return None
    columns = [[one[name] for one in scored] for name in names]
    return [[_pearson(first, second) for second in columns] for first in columns]


def _pearson(first: list[float], second: list[float]) -> float | None:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.pearsonr(first, second).statistic)
