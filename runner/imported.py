"""The text of a recipe for what was imported: chats, conversations, a split, a voice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMATS = {
    "DiscordChatExporter": "discord",
    "WhatsApp": "whatsapp",
    "Telegram": "telegram",
    "Slack": "slack",
    "Messenger": "messenger",
    "iMessage": "imessage",
}


def _text(value: str) -> str:
    """A text as YAML: JSON's quotes are YAML's."""
    return json.dumps(value, ensure_ascii=False)


def _shown(folder: str) -> str:
    path = Path(folder).resolve()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def recipe_text(
    title: str,
    settings: dict[str, Any],
    formats: dict[str, tuple[str, str]],
    training: dict[str, Any],
    sampling: dict[str, Any],
) -> str:
    """The recipe. `formats` has for each folder of chats its path and whose voice is learned."""
    way, names = settings["type_fine_tune"], [f"chats-{FORMATS[name]}" for name in formats]
    bits = ", bits: 4" if way == "qlora" else ""
    held_out = round((1 - training["dataset_split"]) / 2, 4)
    reads = "\n".join(
        f"  {step}: {{preprocess: {FORMATS[name]}, folder: {_text(_shown(folder))}, speaker: {_text(user)}}}"
        for step, (name, (folder, user)) in zip(names, formats.items(), strict=True)
    )
    return f"""\
# yaml-language-server: $schema=../schemas/recipe.schema.json
recipe: 1
title: {_text(title)}
about: Learns how one person writes from chats, and answers in that person's place. Imported from selfchatbot.

models:
  base: {{load: {_text(settings["model"])}{bits}}}

decoding:
  talk:
    mode: sample
{_lines(_sampling(sampling), 4)}

steps:
{reads}
  turns: {{preprocess: conversations, from: {_list(names)}, gap_minutes: 60, merge_minutes: 5, min_words: 50}}
  parts: {{preprocess: split, from: turns, validation: {held_out:g}, test: {held_out:g}, by: conversation, order: time}}
  voice:
    train: sft
    from: parts
    model: base
{_lines(_training(settings, training), 4)}
  heard: {{evaluate: perplexity, from: parts, model: [base, voice]}}

chat:
  me: {{model: voice, decoding: talk}}
"""


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _lines(pairs: dict[str, Any], indent: int) -> str:
    return "\n".join(" " * indent + f"{key}: {value}" for key, value in pairs.items())


def _sampling(held: dict[str, Any]) -> dict[str, Any]:
    """selfchatbot samples three answers and, by a mistake, always shows the first: one is enough."""
    return {**{key: f"{value:g}" for key, value in held.items()}, "max_new_tokens": 120}


def _training(settings: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    numbers = f"rank: {held['lora_r']}, alpha: {held['lora_alpha']}, dropout: {held['lora_dropout']:g}"
    targets = f"[{', '.join(map(_text, held['target_modules']))}]" if "target_modules" in held else "all"
    return {
        **({"lora": f"{{{numbers}, targets: {targets}}}"} if settings["type_fine_tune"] != "full" else {}),
        "epochs": held["epochs"],
        "stop_early": "{after: 8, on: loss}",
        "learning_rate": f"{held['learning_rate']:g}",
        "warmup": f"{held['warmup_steps_percent']:g}",
        "weight_decay": f"{held['weight_decay']:g}",
        "batch": held["batch_size"] * held["gradient_accumulation_steps"],
        "max_length": held["max_length"] or settings.get("max_length", 1024),
    }
