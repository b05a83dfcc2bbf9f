"""Character cards, V1 to V3, in PNG, JSON or .charx: the person, the example dialogues or the lorebook as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner import prompts
from runner.errors import DataError
from runner.files import Row
from runner.step import Out, Step
from runner.steps.preprocess import _card_file
from runner.steps.preprocess._card_fields import Card, card
from runner.steps.preprocess._card_text import Macros, examples, parted
from runner.steps.preprocess._dialogues import Unusable, alternating, cut_metrics, messages
from runner.steps.preprocess._reading import Source, refuse, shown, sources


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, name and the card's texts; with `rows: examples` messages too, with `rows: lore` text and keys.

    Raises DataError naming every file that is no card, and where the cards hold nothing of what is asked.
    """
    problems: list[str] = []
    counts, unknown, made = Counter[str](), Counter[str](), Counter[str]()
    found = sources(step, "character cards (.png, .json or .charx)")
    with out.rows() as rows, out.progress("reading", len(found)) as advance:
        for source in found:
            try:
                held = card(source, _card_file.load(source))
            except DataError as error:
                problems += error.lines
                continue
            macros = Macros(held.char, step.params["user"], f"{source.name}:{held.name}")
            for row in _rows(step, out, source, held, macros, counts):
                rows.write(row)
                made[f"{held.name} (V{held.version})"] += 1
            unknown += macros.unknown
            advance(1, note=held.name)
        written = rows.count
    refuse(problems)
    if not written:
        what = {"examples": "example dialogues", "lore": "lorebook entries"}.get(step.params["rows"], "texts")
        raise DataError(
            f"{shown(step.folder) if step.folder else ''}: no {what} in {len(found)} cards. Read rows: cards."
        )
    table = {
        "title": "Rows by card",
        "columns": ["card", "rows"],
        "rows": [list(entry) for entry in made.most_common(20)],
    }
    notes = [
        f"{count} times {macro} stands in the texts as it is: no known macro."
        for macro, count in unknown.most_common(5)
    ]
    return {"metrics": {"cards": len(found), **cut_metrics(counts)}, "tables": [table], "notes": notes}


def _rows(step: Step, out: Out, source: Source, held: Card, macros: Macros, counts: Counter[str]) -> Iterator[Row]:
    texts = {key: macros.resolve(text.replace("\r\n", "\n")).strip() for key, text in held.texts.items()}
    texts["description"], inside = parted(texts["description"])
    dialogues = [
        said for text in (texts["mes_example"], inside) for said in examples(text, held.char, held.name, macros.user)
    ]
    row = {"id": source.name, "source": source.name, **_person(held, texts, macros)}
    if step.params["rows"] == "cards":
        sides = [[{"role": role, "content": words} for role, words in said] for said in dialogues]
        lore = [{"keys": entry.keys, "text": macros.resolve(entry.text)} for entry in held.lore if entry.enabled]
        yield {**row, "examples": sides, "lore": lore}
        return
    if step.params["rows"] == "lore":
        yield from _lore(out, source, held, macros)
        return
    for number, said in enumerate(dialogues, 1):
        at = {"id": f"{source.name}#{number}", "source": f"{source.name}#{number}"}
        try:
            yield {**row, **at, "messages": messages(said, True, step.params["ends"], counts, _system(step, row))}
        except Unusable as error:
            out.reject({**at, "messages": alternating(said, merge=True)}, str(error))


def _lore(out: Out, source: Source, held: Card, macros: Macros) -> Iterator[Row]:
    for entry in held.lore:
        at, text = f"{source.name}#{entry.id}", macros.resolve(entry.text).strip()
        row = {"id": at, "source": at, "name": held.name, "text": text, "keys": entry.keys, "constant": entry.constant}
        reason = "switched off" if not entry.enabled else None if text else "no text"
        if reason:
            out.reject(row, reason)
        else:
            yield row


def _system(step: Step, row: Row) -> str | None:
    """The system text of `prompt:`, which may use the card's texts."""
    return prompts.system(step.prompts.get("prompt"), {**step.matrix, **row}, step.texts)


def _person(held: Card, texts: dict[str, str], macros: Macros) -> Row:
    return {
        "name": held.name,
        "description": texts["description"],
        "personality": texts["personality"],
        "scenario": texts["scenario"],
        "system_prompt": texts["system_prompt"],
        "post_history": texts["post_history_instructions"],
        "greeting": texts["first_mes"],
        "greetings": [macros.resolve(text.replace("\r\n", "\n")).strip() for text in held.greetings],
    }
