"""Questionnaires as data: `inventory.yaml` in a dataset folder, by schemas/inventory.json."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner import prompts, schema, strict_yaml
from runner.errors import DataError
from runner.problems import Mark, Problems, suggest
from runner.strict_yaml import Map
from runner.wording import leaves, say

FILE = "inventory.yaml"


@dataclass(frozen=True)
class Option:
    """One possible answer: the tag that is replied with (a number, or a letter), its text, and the points that it gives."""

    tag: str
    text: str
    points: dict[str, float]


@dataclass(frozen=True)
class Item:
    """One item; `number` counts from 1. `trait` is '' where its choices belong to several."""

    number: int
    text: str
    trait: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Asked:
    """An item as it is put once: its text, and the options by the tag that stands before each here."""

    item: Item
    text: str
    options: dict[str, Option]


@dataclass(frozen=True)
class Inventory:
    """A questionnaire. traits: short name → name; reference: short name → {mean, sd, n} of a group of people."""

    title: str
    ask: str
    score: str
    traits: dict[str, str]
    opposites: tuple[tuple[str, str], ...]
    reference: dict[str, dict[str, float]]
    items: tuple[Item, ...]

    def order(self, which: int, seed: int) -> list[Asked]:
        """All items, their options in order `which`: 0 as written, 1 from last to first, then shuffled with the seed.

        A rating keeps its number wherever it stands; a choice gets the letter of its place.
        """
        return [self._put(item, which, seed) for item in self.items]

    def _put(self, item: Item, which: int, seed: int) -> Asked:
        held = list(item.options)
        if which == 1:
            held.reverse()
        elif which > 1:
            random.Random(f"{seed} {which} {item.number}").shuffle(held)
        if all(option.tag.isalpha() for option in held):
            by_tag = {chr(ord("A") + place): option for place, option in enumerate(held)}
        else:
            by_tag = {option.tag: option for option in held}
        lines = "\n".join(f"{tag} = {option.text}" for tag, option in by_tag.items())
        tags = [*by_tag]
        told = {"statement": item.text, "options": lines, "tags": f"{', '.join(tags[:-1])} or {tags[-1]}"}
        return Asked(item, prompts.render(self.ask, told).strip(), by_tag)


def read(folder: Path, files: Sequence[Path]) -> Inventory:
    """The inventory in a dataset folder. Raises DataError or RecipeError, every fault with its line."""
    path = folder / FILE
    if path not in files:
        raise DataError(f"{folder}: no {FILE} here. Write one by schemas/inventory.json.")
    doc = strict_yaml.read(path)
    problems = Problems()
    if not isinstance(doc, Map):
        raise DataError(f"{path}:1: an inventory is a mapping with title, ask, traits and items.")
    for error in schema.validator("inventory").iter_errors(doc):
        for leaf in leaves(error):
            for mark, message in say(leaf, doc, ()):
                problems.add(mark or doc.mark, message)
    problems.raise_errors()
    _check(doc, problems)
    problems.raise_errors()
    return _inventory(doc)


def _check(doc: Map, problems: Problems) -> None:
    """What the shape cannot say: names of traits, and that every item can be answered."""
    for place, item in enumerate(doc["items"]):
        mark, where = doc["items"].items_at[place], f"items.{place + 1}"
        if ("choices" in item) == ("trait" in item):
            problems.add(mark, f"{where}: give either trait: (a statement that is rated) or choices:.")
        elif "trait" in item and "options" not in doc:
            problems.add(mark, f"{where}: a statement is rated, and the file has no options:. Add them.")
    for name, at, where in _named(doc):
        if name not in doc["traits"]:
            problems.add(at, f"{where}: no trait '{name}'.{suggest(name, doc['traits'], 'Traits')}")


def _named(doc: Map) -> Iterator[tuple[str, Mark, str]]:
    """Every place that names a trait."""
    for place, item in enumerate(doc["items"], 1):
        held = [item] if "trait" in item else item.get("choices", ())
        yield from ((one["trait"], one.values_at["trait"], f"items.{place}.trait") for one in held)
    for name in doc.get("reference", ()):
        yield name, doc["reference"].keys_at[name], "reference"
    for pair in doc.get("opposites", ()):
        yield from ((name, mark, "opposites") for name, mark in zip(pair, pair.items_at, strict=True))


def _inventory(doc: Map) -> Inventory:
    items = tuple(_item(doc, number, item) for number, item in enumerate(doc["items"], 1))
    reference = {
        trait: {name: float(value) for name, value in held.items()} for trait, held in doc.get("reference", {}).items()
    }
    opposites = tuple((first, second) for first, second in doc.get("opposites", ()))
    return Inventory(
        doc["title"], doc["ask"], doc.get("score", "mean"), dict(doc["traits"]), opposites, reference, items
    )


def _item(doc: Map, number: int, item: dict[str, Any]) -> Item:
    if "choices" in item:
        options = [
            Option(chr(ord("A") + place), choice["text"], {choice["trait"]: 1.0})
            for place, choice in enumerate(item["choices"])
        ]
        return Item(number, item["text"], "", tuple(options))
    values = [int(value) for value in doc["options"]]
    ends = min(values) + max(values)
    reverse = item.get("reversed", False)
    options = [
        Option(str(value), text, {item["trait"]: float(ends - value if reverse else value)})
        for value, text in zip(values, doc["options"].values(), strict=True)
    ]
    return Item(number, item["text"], item["trait"], tuple(options))


def first(inventory: Inventory, count: int) -> Inventory:
    """The first items of an inventory."""
    return replace(inventory, items=inventory.items[:count])
