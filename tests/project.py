"""A small project in a folder of its own: recipes/, datasets/chat and artifacts/, for tests of planning and making."""

from __future__ import annotations

import json
from pathlib import Path

MESSAGES = [
    ("watson", "Any news?"),
    ("holmes", "Observe. The mud, then the motive."),
    ("watson", "And the hat?"),
    ("holmes", "It is new."),
]

RECIPE = """\
recipe: 1
title: Small
prompts:
  persona: {system: You are Holmes.}
steps:
  chats: {preprocess: discord, folder: datasets/chat, speaker: holmes}
  turns: {preprocess: conversations, from: chats, prompt: persona}
  parts: {preprocess: split, from: turns, test: 0.25}
  newest: {preprocess: split, from: turns, test: 1, order: time}
"""


def export(days: int = 8, channel: str = "1") -> str:
    """A DiscordChatExporter file: one conversation of four messages a day."""
    messages = [
        {
            "id": str(100 * day + place),
            "type": "Default",
            "timestamp": f"2025-01-{day + 1:02}T10:0{place}:00+00:00",
            "timestampEdited": None,
            "isPinned": False,
            "content": f"{text} ({day})",
            "author": {
                "id": f"7{name == 'holmes':d}",
                "name": name,
                "discriminator": "0000",
                "nickname": name,
                "isBot": False,
            },
            "attachments": [],
            "embeds": [],
            "reactions": [],
            "mentions": [],
        }
        for day in range(days)
        for place, (name, text) in enumerate(MESSAGES)
    ]
    channel_data = {"id": channel, "type": "GuildTextChat", "category": "Rooms", "name": "sitting-room", "topic": None}
    held = {
        "guild": {"id": "5", "name": "Baker Street"},
        "channel": channel_data,
        "dateRange": {"after": None, "before": None},
    }
    return json.dumps({**held, "messages": messages, "messageCount": len(messages)})


def make(folder: Path, recipe: str = RECIPE, name: str = "small") -> Path:
    """Write the project; returns its folder."""
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    (folder / "datasets" / "chat").mkdir(parents=True, exist_ok=True)
    (folder / "recipes" / f"{name}.yaml").write_text(recipe, encoding="utf-8")
    (folder / "datasets" / "chat" / "room.json").write_text(export(), encoding="utf-8")
    return folder


def store(folder: Path) -> dict[str, bytes]:
    """Every output in the store, by <key>/<file>; what differs from run to run left out."""
    root = folder / "artifacts" / "store"
    left_out = ("step.json", "step.log", "side.jsonl")
    files = (
        path for path in root.rglob("*") if path.is_file() and path.name not in left_out and path.suffix != ".lock"
    )
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
