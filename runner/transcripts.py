"""Transcripts of chats: JSON Lines, a turn a line, or Markdown to read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.errors import StepError
from runner.files import dumps

Turn = dict[str, Any]


def fresh(root: Path, label: str, entry: str) -> Path:
    """Where a conversation that begins now is kept: <artifacts>/chats/<recipe>/<time>-<entry>.jsonl."""
    began = time.strftime("%Y%m%d-%H%M%S", time.localtime())
    return root / "chats" / label / f"{began}-{entry}-{os.getpid()}.jsonl"


def write(path: Path, turns: Iterable[Turn]) -> None:
    """Write a conversation: Markdown for .md and .txt, else JSON Lines. Raises StepError where that cannot be done."""
    text = markdown(turns) if path.suffix in (".md", ".txt") else lines(turns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        os.replace(part, path)
    except OSError as error:
        raise StepError(f"{path}: {error.strerror}. Give another file.") from error


def lines(turns: Iterable[Turn]) -> str:
    """A conversation as JSON Lines."""
    return "".join(dumps(turn) + "\n" for turn in turns)


def markdown(turns: Iterable[Turn]) -> str:
    """A conversation to read: who, what, and in small print with which memory."""
    made = []
    for turn in turns:
        who = turn.get("person") or turn.get("persona") or {"user": "You"}.get(turn["role"], turn["role"])
        made.append(f"**{who}**\n\n{turn['content']}\n")
        if turn.get("aspect"):
            made.append(f"<sub>memory: {turn['aspect']} — {turn['memory']}</sub>\n")
    return "\n".join(made)
