"""What a dialogue took and where its answers are from, and what a step's report says of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import questions
from runner.asking import Answer, Ask
from runner.files import Row, digest
from runner.step import Decoding, Model, Step

NOTES = {
    "scores: unclear": "of the judge's replies held no number on its scale; they counted for nothing.",
    "memory: unclear": "of the answers that choose a memory named none or several.",
    "empty replies": "replies were empty once cleaned, and asked for again.",
    "silent turns": "turns stayed without a reply.",
    "replies: length": "replies were cut off at max_new_tokens.",
}


@dataclass
class Tally:
    """The answers of one dialogue, as they come. The cost is by the models' prices, so a cached answer costs the same."""

    name: str
    step: Step
    pairs: Mapping[str, tuple[Model, Decoding]]
    input: int = 0
    output: int = 0
    cost: float = 0.0
    answers: list[Row] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def add(self, ask: Ask, answer: Answer) -> None:
        price = self.pairs[ask.to][0].entry.get("price") or {"input": 0, "output": 0}
        self.input += answer.input
        self.output += answer.output
        self.cost += (answer.input * price["input"] + answer.output * price["output"]) / 1e6
        asked = digest([list(ask.messages), ask.schema])[:20]
        self.answers.append({"to": ask.to, "asked": asked, "sample": ask.sample, "finish": answer.finish})
        self.requests += [answer.request] if answer.request else []

    def columns(self) -> Row:
        """What the row says of it."""
        return {"tokens": {"input": self.input, "output": self.output}, "cost": round(self.cost, 9)}

    def side(self) -> list[Row]:
        """The ids of its requests."""
        return [{"id": self.name, "request": one} for one in self.requests]

    def provenance(self) -> Row:
        """Who was asked what and how, as digests where it is long; the same in every run."""
        return {
            "id": self.name,
            "models": {name: _known_as(model) for name, (model, _) in self.pairs.items()},
            "decodings": {name: {"mode": how.mode, **how.params} for name, (_, how) in self.pairs.items()},
            "seed": self.step.params["seed"],
            "answers": self.answers,
        }


def _known_as(model: Model) -> Any:
    return model.entry.get("model") or model.entry.get("load") or questions.identity(model)[0]


def counts(made: Row) -> dict[str, int]:
    """What is added up over all dialogues; the names are read by `of_all`."""
    counted = {
        "dialogues": 1,
        "turns": len(made["turns"]),
        f"ended: {made['ended']}": 1,
        f"length: {len(made['turns'])}": 1,
    }
    for turn in made["turns"]:
        if turn["aspect"]:
            name = f"aspect: {turn['speaker']}: {turn['aspect']}"
            counted[name] = counted.get(name, 0) + 1
    return counted


def of_all(facts: dict[str, Any], roles: list[str]) -> dict[str, Any]:
    """The facts of a step from the counts of its dialogues."""
    held = facts["metrics"]

    def under(name: str) -> dict[str, int]:
        return {key.removeprefix(f"{name}: "): count for key, count in held.items() if key.startswith(f"{name}: ")}

    lengths = {int(length): count for length, count in under("length").items()}
    plain = {key: count for key, count in held.items() if not key.startswith(("ended: ", "length: ", "aspect: "))}
    metrics: dict[str, Any] = {**plain, "ended": under("ended")}
    if lengths:
        metrics["turns_each"] = held["turns"] / held["dialogues"]
    rows = [[length, lengths[length]] for length in sorted(lengths)]
    tables = [{"title": "Lengths of dialogues", "columns": ["turns", "dialogues"], "rows": rows}]
    by_role = {role: under(f"aspect: {role}") for role in roles}
    aspects = sorted({aspect for held in by_role.values() for aspect in held})
    drawn = [[aspect, *(by_role[role].get(aspect, 0) for role in roles)] for aspect in aspects]
    if drawn:
        tables.append({"title": "Memories drawn on", "columns": ["memory", *roles], "rows": drawn})
    notes = [f"{held[name]} {said}" for name, said in NOTES.items() if held.get(name)]
    return {**facts, "metrics": metrics, "tables": tables, "notes": notes}
