"""`evaluate: text`: what can be said of texts without reading them: length, variety, repetition, refusals, language."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

import py3langid

from runner.errors import DataError, StepError
from runner.files import where
from runner.refusals import is_refusal
from runner.step import Out, Step, listed
from runner.steps.evaluate import _bleu

PAIRS = 500  # of texts, for BLEU within and between groups
GROUPS = 12  # most groups in the table of BLEU between groups
Gram = tuple[str, ...]


@dataclass
class Group:
    """Counts over the texts of one group; `kept` is a sample of them, drawn evenly (reservoir)."""

    texts: int = 0
    empty: int = 0
    refused: int = 0
    words: list[int] = field(default_factory=list)
    letters: int = 0
    repeated: list[float] = field(default_factory=list)
    grams: dict[int, set[int]] = field(default_factory=lambda: {1: set(), 2: set(), 3: set()})
    languages: Counter[str] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    kept: list[str] = field(default_factory=list)

    def add(self, text: str, size: int, draw: random.Random) -> None:
        words = text.split()
        self.texts += 1
        if not words:
            self.empty += 1
            return
        self.refused += is_refusal(text)
        self.words.append(len(words))
        self.letters += len(text)
        self.repeated.append(repeated(words, 3))
        for n, found in self.grams.items():
            found.update(hash(gram) for gram in _grams(words, n))
        self.languages[py3langid.classify(text)[0]] += 1
        self.seen.add(hash(text.strip()))
        if len(self.kept) < size:
            self.kept.append(text)
        elif (place := draw.randrange(self.texts)) < size:
            self.kept[place] = text

    def metrics(self) -> dict[str, Any]:
        full, total = len(self.words), sum(self.words)
        if not full:
            return {"texts": self.texts, "empty": self.empty}
        languages = {name: count / full for name, count in self.languages.most_common(5)}
        return {
            "texts": self.texts,
            "empty": self.empty,
            "words": fmean(self.words),
            "words_sd": pstdev(self.words),
            "letters": self.letters / full,
            **{f"distinct_{n}": len(found) / total for n, found in self.grams.items()},
            "repeated_trigrams": fmean(self.repeated),
            "duplicates": 1 - len(self.seen) / full,
            "refusals": self.refused / full,
            "self_bleu": _bleu.self_bleu(self.kept),
            "languages": languages,
        }


def _grams(words: list[str], n: int) -> list[Gram]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def repeated(words: list[str], n: int) -> float:
    """The share of a text's n-grams that stood in it before; 0 where it has none."""
    grams = _grams([word.casefold() for word in words], n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def run(step: Step, out: Out) -> dict[str, Any]:
    """Facts with a line a group. Distinct-n is distinct n-grams over words (Li et al. 2016), over all of a group's texts."""
    names, size, seed = listed(step.params.get("by")), step.params["sample"], step.params["seed"]
    groups: dict[tuple[str, ...], Group] = {}
    draw = random.Random(seed)
    total = sum(1 for part in step.parts() or (None,) for _ in step.rows(part))
    with out.progress("texts", total) as advance:
        for part in step.parts() or (None,):
            for row in step.rows(part):
                if not isinstance(row.get("text"), str):
                    raise DataError(
                        f"{where(row)}: text is not a text. Map the column that is one: columns: {{text: …}}."
                    )
                key = tuple(str(row.get(name)) for name in names) or ((part,) if part else ("all",))
                groups.setdefault(key, Group()).add(row["text"], size, draw)
                advance(1)
    if not groups:
        raise StepError(f"{step.name}.from: no rows to look at.")
    measured = {", ".join(key): held.metrics() for key, held in sorted(groups.items())}
    pairs = _pairs({", ".join(key): held.kept for key, held in sorted(groups.items())}, seed)
    return _facts(measured, pairs, names)


def _pairs(kept: dict[str, list[str]], seed: int) -> dict[str, dict[str, float | None]]:
    """Mean BLEU of pairs of texts, within each group and between every two; {} for one group or too many."""
    if not 1 < len(kept) <= GROUPS:
        return {}
    return {
        first: {
            second: _bleu.between(kept[first], kept[second], PAIRS, random.Random(f"{seed} {first} {second}"))
            for second in kept
        }
        for first in kept
    }


def _facts(measured: dict[str, Any], pairs: dict[str, Any], names: list[str]) -> dict[str, Any]:
    columns = ["texts", "empty", "words", "distinct-1", "distinct-2", "repeated 3-grams", "self-BLEU", "refusals"]
    rows = [[name, *_line(held)] for name, held in measured.items()]
    tables = [{"title": "Texts", "columns": [", ".join(names) or "part", *columns, "language"], "rows": rows}]
    facts: dict[str, Any] = {"metrics": {"groups": measured}, "tables": tables}
    if pairs:
        within = [held[name] for name, held in pairs.items() if held[name] is not None]
        across = [
            value
            for name, held in pairs.items()
            for other, value in held.items()
            if other != name and value is not None
        ]
        if within and across:
            facts["metrics"] |= {"bleu_within": fmean(within), "bleu_between": fmean(across)}
            line = [f"{fmean(within):.2f}", f"{fmean(across):.2f}"]
            tables.append({"title": "BLEU of two texts", "columns": ["of one group", "of two groups"], "rows": [line]})
        values = [list(held.values()) for held in pairs.values()]
        facts["plots"] = [
            {"title": "BLEU of two texts", "kind": "matrix", "rows": [*pairs], "columns": [*pairs], "values": values}
        ]
    return facts


def _line(held: dict[str, Any]) -> list[Any]:
    if "words" not in held:
        return [held["texts"], held["empty"], *[""] * 7]
    alike = f"{held['self_bleu']:.1f}" if held["self_bleu"] is not None else ""
    [(language, share)] = list(held["languages"].items())[:1]
    return [
        held["texts"],
        held["empty"],
        f"{held['words']:.1f} ± {held['words_sd']:.1f}",
        f"{held['distinct_1']:.3f}",
        f"{held['distinct_2']:.3f}",
        f"{held['repeated_trigrams']:.1%}",
        alike,
        f"{held['refusals']:.1%}",
        f"{language} {share:.0%}",
    ]
