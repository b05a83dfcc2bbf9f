"""A tiny recipe language with one kind for each thing that a schema can say, so that tests do not hang on real kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner import recipe, schema, shape
from runner.problems import Problem

REAL = schema.FOLDER
KEEPS = {"keeps": True, "columns": {}}


def text(**more: Any) -> dict[str, Any]:
    return {"description": "A text.", "type": "string", **more}


def number(**more: Any) -> dict[str, Any]:
    return {"description": "A number.", "type": "integer", **more}


def mapping(values: Any = None, properties: Any = None, **more: Any) -> dict[str, Any]:
    held = {"properties": properties, "additionalProperties": False} if properties else {"additionalProperties": values}
    return {"description": "A mapping.", "type": "object", **held, **more}


def several(**more: Any) -> dict[str, Any]:
    many = {"type": "array", "items": {"type": "string", "description": "One."}, "minItems": 1}
    return {"description": "One or several.", "anyOf": [{"type": "string"}, many], **more}


ROWS = several(**{"x-ref": "rows"})
MODEL = text(**{"x-ref": "model"})
ANY_MODEL = text(**{"x-ref": "model", "x-endpoint": True})
ASKED = {"x-ref": "prompt", "x-roles": ["system", "user", "prefill"]}
READS, WRITES = {"x-column": "reads"}, {"x-column": "writes"}

KINDS: dict[str, dict[str, Any]] = {
    "preprocess/read": {
        "x-writes": {"columns": {"id": "text", "text": "text", "profile": "object", "score": "number"}},
        "properties": {"folder": text(**{"x-ref": "folder"}), "who": text(**{"x-adds": ["role"]})},
        "required": ["folder"],
    },
    "preprocess/table": {
        "x-header": True,
        "x-writes": {"columns": {"id": "text"}},
        "properties": {"folder": text(**{"x-ref": "folder"}), "columns": mapping(text(), **{"x-renames": True})},
        "required": ["folder"],
    },
    "preprocess/split": {
        "x-writes": KEEPS,
        "x-parts": "makes",
        "properties": {"from": ROWS, "test": {"description": "A share.", "type": "number"}, "validation": number()},
        "required": ["from"],
    },
    "preprocess/shape": {
        "x-writes": KEEPS,
        "x-parts": "keeps",
        "properties": {
            "from": ROWS,
            "rename": mapping(text(), **{"x-renames": True}),
            "column": text(**READS),
            "add": mapping({"anyOf": [text(), {"type": "number"}]}, **{"x-adds-keys": True, "x-jinja": "template"}),
            "where": text(**{"x-jinja": "expression"}),
            "into": text(**WRITES, **{"x-column-type": "number"}),
            "takes": several(**{"x-column": "takes"}),
            "listed": text(**READS, **{"x-becomes": "list"}),
            "keep": several(**{"x-keeps": True}),
            "drop": several(**{"x-drops": True}),
            "bundle": {"description": "Whether.", "type": "boolean", "x-forgets": True},
            "spread": {"description": "Whether.", "type": "boolean", "x-spreads": "column"},
        },
        "required": ["from"],
    },
    "preprocess/join": {"x-writes": KEEPS, "properties": {"from": ROWS}, "required": ["from"]},
    "preprocess/lessons": {
        "x-writes": {"columns": {"messages": "list"}},
        "x-parts": "keeps",
        "properties": {
            "from": ROWS,
            "prompt": text(**{"x-ref": "prompt", "x-variables": ["heard"]}),
            "turns": text(**{"x-needs": ["turns"], "x-variables": ["memory"]}),
            "carry": several(**READS, **{"x-carries": True}),
        },
        "required": ["from"],
    },
    "preprocess/greeting": {
        "x-writes": KEEPS,
        "x-prompt-columns": False,
        "properties": {"from": ROWS, "prompt": text(**{"x-ref": "prompt"})},
        "required": ["from"],
    },
    "preprocess/pairs": {
        "x-writes": {"columns": {"chosen": "list", "rejected": "list"}},
        "properties": {
            "from": ROWS,
            "other": several(**READS, **{"x-levels": True}),
            "as": several(**WRITES, **{"x-wraps": "from"}),
        },
        "required": ["from"],
    },
    "preprocess/find": {
        "x-reads": [["query"], ["text"]],
        "x-types": {"query": ["text"]},
        "x-writes": KEEPS,
        "x-parts": "keeps",
        "x-one-of": ["take", "against"],
        "properties": {
            "from": ROWS,
            "take": mapping(
                mapping(properties={"from": {**ROWS, "x-reads": [["text"]]}, "words": number(**{"x-words": True})}),
                **{"x-adds-keys": True},
            ),
            "against": {**ROWS, "x-passes": False},
        },
        "required": ["from"],
    },
    "generate/rows": {
        "x-writes": {"keeps": True, "columns": {"id": "text"}},
        "properties": {
            "from": ROWS,
            "model": {
                "description": "One, or one a role.",
                "x-ref": "model",
                "x-endpoint": True,
                "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
            },
            "decoding": text(**{"x-ref": "decoding"}),
            "prompt": text(**ASKED),
            "when": text(**{"x-jinja": "expression"}),
            "output": {"description": "What.", "x-output": True, "anyOf": [{"type": "string"}, {"type": "object"}]},
        },
        "required": ["model", "decoding"],
    },
    "train/learn": {
        "x-reads": [["messages"], ["text", "label"]],
        "x-model": "causal",
        "properties": {
            "from": ROWS,
            "model": text(**{"x-ref": "model", "x-sorts": ["causal"]}),
            "lora": mapping(properties={"rank": number(minimum=1)}, **{"x-adapter": True}),
            "epochs": {"description": "How often.", "type": "number", "exclusiveMinimum": 0, "default": 3},
            "max_length": number(),
            "stop": mapping(
                properties={"after": number(), "on": {"description": "What.", "enum": ["loss", "accuracy"]}}
            ),
            "targets": {
                "description": "Which.",
                "default": "all",
                "anyOf": [{"type": "string", "enum": ["all"]}, {"type": "array", "items": {"type": "string"}}],
            },
            "rates": {
                "description": "Rates.",
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "array", "items": {"type": "number"}}],
            },
        },
        "required": ["from", "model"],
    },
    "train/judge": {
        "x-reads": [["text", "label"]],
        "x-model": "classifier",
        "properties": {
            "from": ROWS,
            "model": text(**{"x-ref": "model", "x-takes": "whole"}),
            "predict": {
                "description": "What.",
                "enum": ["class", "number", "numbers"],
                "default": "class",
                "x-types-for": {"number": {"label": ["number"]}, "numbers": {"label": ["list"]}},
            },
        },
        "required": ["from", "model"],
    },
    "train/prefer": {
        "x-reads": [["chosen", "rejected"]],
        "properties": {"from": ROWS, "model": MODEL},
        "required": ["from", "model"],
    },
    "merge/lora": {"properties": {"model": text(**{"x-ref": "model", "x-takes": "adapter"})}, "required": ["model"]},
    "evaluate/look": {
        "properties": {"from": ROWS, "model": several(**{"x-ref": "models"}), "by": several(**READS)},
        "required": ["model"],
    },
    "evaluate/score": {
        "x-reads": [["text"]],
        "x-writes": {"keeps": True, "columns": {"mark": "number"}},
        "properties": {"from": ROWS, "model": text(**{"x-ref": "model", "x-sorts": ["classifier"]})},
        "required": ["from", "model"],
    },
    "export/file": {"properties": {"model": MODEL}, "required": ["model"]},
}

MODES: dict[str, dict[str, Any]] = {
    "sample": {
        "properties": {
            "temperature": {"description": "How wild.", "type": "number", "minimum": 0},
            "max_new_tokens": number(minimum=1),
        }
    },
    "steer": {
        "x-weights": True,
        "properties": {
            "expert": MODEL,
            "expert_prompt": text(**ASKED),
            "alpha": {"description": "How much.", "type": "number"},
        },
        "required": ["expert"],
    },
}


class Language:
    """A project folder that speaks the tiny language."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "recipes" / "made.yaml"

    def dataset(self, name: str, files: dict[str, str]) -> None:
        (self.folder / "datasets" / name).mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (self.folder / "datasets" / name / file).write_text(content, encoding="utf-8")

    def write(self, recipe_text: str) -> Path:
        self.path.write_text(recipe_text, encoding="utf-8")
        return self.path

    def problems(self, recipe_text: str) -> list[Problem]:
        return recipe.check(self.write(recipe_text))

    def errors(self, recipe_text: str) -> list[str]:
        """What is wrong, as 'line:column: message'."""
        found = [one for one in self.problems(recipe_text) if not one.warning]
        return [f"{one.mark.line}:{one.mark.column}: {one.message}" for one in found]

    def warnings(self, recipe_text: str) -> list[str]:
        return [one.message for one in self.problems(recipe_text) if one.warning]

    def load(self, recipe_text: str, variant: Sequence[str] = (), settings: Sequence[str] = ()) -> recipe.Recipe:
        return recipe.load(self.write(recipe_text), variant, settings)


@contextmanager
def spoken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    """The tiny language in place of the real one, with a dataset folder `chats`, and the working folder moved there."""
    schemas = folder / "schemas"
    shutil.copytree(REAL / "entries", schemas / "entries")
    for name in ("models.json", "targets.json"):
        shutil.copy(REAL / name, schemas / name)
    document = json.loads((REAL / "recipe.json").read_text(encoding="utf-8"))
    entry = document["properties"]["chat"]["additionalProperties"]
    entry["properties"]["take"]["anyOf"][0]["x-kind"] = "find"
    _write(schemas / "recipe.json", document)
    for path, held in KINDS.items():
        _write(schemas / "steps" / f"{path}.json", _fragment(path, held))
    for name, held in MODES.items():
        _write(schemas / "decoding" / f"{name}.json", _fragment(name, held))
    monkeypatch.setattr(schema, "FOLDER", schemas)
    monkeypatch.chdir(folder)
    (folder / "recipes").mkdir()
    made = Language(folder)
    made.dataset("chats", {"a.txt": "hello"})
    forget()
    try:
        yield made
    finally:
        forget()


def forget() -> None:
    """Clear what is remembered of the schemas."""
    held = (schema.kinds, schema.modes, schema._load, schema.document, schema.bundled, schema.fragment, schema.mode)
    for one in (*held, schema.entry, schema.validator, recipe.targets, shape._fits):
        one.cache_clear()


def _fragment(name: str, held: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": name,
        "description": "For tests.",
        "type": "object",
        "required": [],
        "additionalProperties": False,
        **held,
    }


def _write(path: Path, held: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held), encoding="utf-8")
