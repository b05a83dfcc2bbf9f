"""`export: card`: character cards (V2, JSON) for SillyTavern and its like, one a row."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from runner import prompts
from runner.errors import DataError
from runner.files import where
from runner.step import Out, Step
from runner.steps.export._place import deliver

FIELDS = (
    "description",
    "personality",
    "scenario",
    "first_mes",
    "mes_example",
    "creator_notes",
    "system_prompt",
    "post_history_instructions",
)


def run(step: Step, out: Out) -> dict[str, Any]:
    """A file <name>.json for each row, or a single one without `from:`; a name that comes twice gets a number.

    The shape is the Character Card V2 specification (malfoyslastname/character-card-spec-v2): every field is there, empty
    where nothing is given. Raises DataError for a card without a name.
    """
    rows = list(step.rows()) if step.inputs.get("from") else [{}]
    made: dict[str, str] = {}
    for row in rows:
        told = {**step.matrix, **row, "texts": step.texts}
        card = _card(step, told)
        if not card["name"]:
            raise DataError(f"{where(row)}: name: is empty, and a card needs one. Drop such rows before.")
        slug = _slug(card["name"])
        number = sum(name == slug or name.startswith(f"{slug}-") for name in made)
        file = f"{slug}-{number + 1}" if number else slug
        made[file] = card["name"]
        out.write_json(f"{file}.json", {"spec": "chara_card_v2", "spec_version": "2.0", "data": card})
    deliver(step, out, [f"{file}.json" for file in made])
    lines = [[name, f"{file}.json"] for file, name in made.items()]
    return {
        "metrics": {"cards": len(made)},
        "tables": [{"title": "Character cards", "columns": ["name", "file"], "rows": lines[:20]}],
    }


def _card(step: Step, told: dict[str, Any]) -> dict[str, Any]:
    def text(key: str) -> str:
        template = step.params.get(key)
        return prompts.render(template, told).strip() if template else ""

    system = prompts.system(step.prompts.get("prompt"), told, step.texts) or ""
    held = {field: text(field) for field in FIELDS}
    return {
        "name": text("name"),
        **held,
        "system_prompt": held["system_prompt"] or system,
        "alternate_greetings": [],
        "tags": list(step.params.get("tags") or []),
        "creator": step.params.get("creator") or "",
        "character_version": "",
        "extensions": {},
    }


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60] or "card"
