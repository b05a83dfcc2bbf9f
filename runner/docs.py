"""What is written from the schemas: the editor schema, the tables of docs/recipe.md, and `explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner import editor, schema
from runner.errors import RunnerError
from runner.files import write_text
from runner.problems import suggest

_COMMON = ("like", "matrix", "columns")


def explain(name: str) -> str:
    """One kind, mode or verb in words: 'train.sft', 'decoding.sample', 'train'."""
    verb, _, kind = name.replace("/", ".").partition(".")
    if verb in schema.VERBS and not kind:
        return "\n".join(f"{verb}.{one}: {schema.fragment(verb, one)['title']}" for one in schema.kinds(verb)) or f"{verb}: no kind yet."
    if verb in schema.VERBS and kind in schema.kinds(verb):
        return _section(f"{verb}: {kind}", schema.fragment(verb, kind), verb)
    if verb == "decoding" and kind in schema.modes():
        return _section(f"mode: {kind}", schema.mode(kind), "mode")
    known = [*schema.VERBS, *(one.replace("/", ".") for one in editor.kinds_with_schemas()), *(f"decoding.{one}" for one in schema.modes())]
    raise RunnerError(f"'{name}' is no kind of step.{suggest(name, known)}")


def _section(title: str, fragment: dict[str, Any], leave_out: str) -> str:
    lines = [f"### {title}", "", f"{fragment['title']}. {fragment.get('description', '')}".strip(), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += _keys(fragment, "", (leave_out, *_COMMON))
    return "\n".join(lines)


def _keys(fragment: dict[str, Any], path: str, leave_out: tuple[str, ...]) -> list[str]:
    lines = []
    for key, held in fragment.get("properties", {}).items():
        if key in leave_out:
            continue
        here = f"{path}{key}"
        default = json.dumps(held["default"], ensure_ascii=False) if "default" in held else "needed" if key in fragment.get("required", []) else ""
        lines.append(f"| `{here}` | {_type(held)} | {default} | {held.get('description', '')} |")
        if "x-arguments" not in held:
            lines += _keys(held, f"{here}.", ())
    return lines


def _type(held: dict[str, Any]) -> str:
    if "enum" in held:
        return ", ".join(str(one) for one in held["enum"])
    if "anyOf" in held:
        return " or ".join(dict.fromkeys(_type(one) for one in held["anyOf"]))
    kind = held.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else {"array": "list", "object": "mapping", "string": "text"}.get(kind, kind)


def reference() -> str:
    """docs/recipe.md: every kind and mode with its keys."""
    parts = ["# Kinds and keys", "", "Written by `make docs` from `schemas/`. Every step also takes `like`, `matrix` and, where it reads rows, `columns`.", ""]
    for verb in schema.VERBS:
        if schema.kinds(verb):
            parts += [f"## {verb}", "", *(_section(f"{verb}: {kind}", schema.fragment(verb, kind), verb) + "\n" for kind in schema.kinds(verb))]
    parts += ["## decoding", "", *(_section(f"mode: {one}", schema.mode(one), "mode") + "\n" for one in schema.modes())]
    for name in ("load", "endpoint", "prompt"):
        parts += [_section({"load": "models: load", "endpoint": "models: endpoint", "prompt": "prompts"}[name], schema.entry(name), "") + "\n"]
    return "\n".join(parts)


def files() -> dict[Path, str]:
    """Everything that is written from the schemas, by path from the project's root."""
    editor_schema = json.dumps(editor.build(), ensure_ascii=False, indent=1) + "\n"
    return {schema.FOLDER / "recipe.schema.json": editor_schema, schema.FOLDER.parent / "docs" / "recipe.md": reference()}


def write() -> list[Path]:
    """Write them; returns those that changed."""
    return [path for path, text in files().items() if write_text(path, text)]


def stale() -> list[Path]:
    """Those that differ from what the schemas say."""
    return [path for path, text in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
