"""For tests of generating: an endpoint's entry, a decoding, a prompt, and a step of `generate: rows` run in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.files import Row, read_rows
from runner.step import Decoding, Model, Out, Prompt, Step
from runner.steps.generate import rows
from tests.conftest import make_step

GREEDY = Decoding("exact", "greedy", {"max_new_tokens": 40})
SAMPLE = Decoding("talk", "sample", {"temperature": 1.0, "max_new_tokens": 40})
HELLO = Prompt("hello", ({"user": "Hello, {{ text }}"},))


def writer(url: str | list[str], **keys: Any) -> Model:
    """An entry of an endpoint; it retries at once but for what the server asks."""
    return Model("writer", {"endpoint": url, "model": "m", "concurrency": 16, "timeout": 30, **keys})


def people(count: int) -> list[Row]:
    return [{"id": f"p{place}", "text": f"person {place}", "age": place} for place in range(count)]


def step(folder: Path, model: Model, given: Sequence[Row] | None, decoding: Decoding = GREEDY, **keys: Any) -> Step:
    prompt = keys.pop("prompt", HELLO)
    parts = {} if given is None else {"rows": list(given)}
    return make_step("generate", "rows", folder, parts, models=[model], decoding=decoding, prompt=prompt, **keys)


class Run:
    """A run of a step in a folder: what it wrote, what it said, its facts."""

    def __init__(self, folder: Path, made: Step) -> None:
        self.folder = folder
        self.said: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        out = Out(folder, say=self.said.append)
        try:
            self.facts = rows.run(made, out)
        finally:
            out.close()

    def read(self, name: str = "rows") -> list[Row]:
        path = self.folder / f"{name}.jsonl"
        return list(read_rows(path)) if path.is_file() else []

    @property
    def rows(self) -> list[Row]:
        return self.read()

    @property
    def rejected(self) -> list[tuple[str, str]]:
        return [(one["row"]["id"], one["reason"]) for one in self.read("rejected")]


def run(folder: Path, model: Model, given: Sequence[Row] | None, decoding: Decoding = GREEDY, **keys: Any) -> Run:
    return Run(folder / "out", step(folder, model, given, decoding, **keys))


def shared(made: Step, **keys: Any) -> Step:
    return replace(made, **keys)
