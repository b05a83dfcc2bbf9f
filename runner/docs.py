"""What is written from the schemas: the editor schema, the tables of docs/recipe.md, and `explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner import editor, schema
from runner.errors import RunnerError
from runner.files import write_text
from runner.problems import suggest

COLUMNS = ("key", "type", "default", "meaning")
_COMMON = ("like", "matrix", "columns")
_ENTRIES = {"load": "models: load", "endpoint": "models: endpoint", "prompt": "prompts"}


def sections() -> dict[str, tuple[str, dict[str, Any], str]]:
    """Every kind, mode and entry by the name that `explain` takes: (heading, schema, the key that names it)."""
    made = {}
    for one in editor.kinds_with_schemas():
        verb, _, kind = one.partition("/")
        made[f"{verb}.{kind}"] = (f"{verb}: {kind}", schema.fragment(verb, kind), verb)
    made |= {f"decoding.{one}": (f"mode: {one}", schema.mode(one), "mode") for one in schema.modes()}
    return made | {f"entry.{one}": (heading, schema.entry(one), "") for one, heading in _ENTRIES.items()}


def find(name: str) -> list[str]:
    """The names of the sections that a word means: 'train.sft', 'sft', or all of 'train'. Raises RunnerError."""
    known = sections()
    wanted = name.replace("/", ".")
    found = [one for one in known if wanted == one or wanted in one.split(".")]
    if not found:
        raise RunnerError(
            f"'{name}' is no kind of step.{suggest(wanted, {*known, *(one.split('.')[1] for one in known)})}"
        )
    return found


def keys(fragment: dict[str, Any], leave_out: tuple[str, ...], path: str = "") -> list[list[str]]:
    """A row a key: its path, type, default and meaning; nested keys follow theirs."""
    rows = []
    for key, held in fragment.get("properties", {}).items():
        if key in leave_out:
            continue
        needed = "needed" if key in fragment.get("required", []) else ""
        default = json.dumps(held["default"], ensure_ascii=False) if "default" in held else needed
        rows.append([f"{path}{key}", _type(held), default, held.get("description", "")])
        if "x-arguments" not in held:
            rows += keys(held, (), f"{path}{key}.")
    return rows


def own_keys(name: str) -> list[list[str]]:
    """The rows of one section, without the keys that all steps share."""
    _, fragment, naming = sections()[name]
    return keys(fragment, (naming, *_COMMON))


def _type(held: dict[str, Any]) -> str:
    if "enum" in held:
        return ", ".join(str(one) for one in held["enum"])
    if "anyOf" in held:
        return " or ".join(dict.fromkeys(_type(one) for one in held["anyOf"]))
    kind = held.get("type", "any")
    return (
        " or ".join(kind)
        if isinstance(kind, list)
        else {"array": "list", "object": "mapping", "string": "text"}.get(kind, kind)
    )


def reference() -> str:
    """docs/recipe.md: every kind, mode and entry with its keys."""
    parts = [
        "# Kinds and keys",
        "",
        "Written by `make docs` from `schemas/`. Every step also takes `like`, `matrix` and, where it reads rows, `columns`.",
        "",
    ]
    group = ""
    for name, (heading, fragment, _) in sections().items():
        if name.split(".")[0] != group:
            group = name.split(".")[0]
            parts += [f"## {'entries' if group == 'entry' else group}", ""]
        parts += [f"### {heading}", "", f"{fragment['title']}. {fragment.get('description', '')}".strip(), ""]
        parts += [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|"]
        parts += [f"| `{key}` | {kind} | {default} | {meaning} |" for key, kind, default, meaning in own_keys(name)]
        parts += [""]
    return "\n".join(parts)


def files() -> dict[Path, str]:
    """Everything that is written from the schemas, by path."""
    editor_schema = json.dumps(editor.build(), ensure_ascii=False, indent=1) + "\n"
    return {
        schema.FOLDER / "recipe.schema.json": editor_schema,
        schema.FOLDER.parent / "docs" / "recipe.md": reference(),
    }


def write() -> list[Path]:
    """Write them; returns those that changed."""
    return [path for path, text in files().items() if write_text(path, text)]


def stale() -> list[Path]:
    """Those that differ from what the schemas say."""
    return [path for path, text in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
