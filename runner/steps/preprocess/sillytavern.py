"""Conversations from chats of SillyTavern, or pairs of the answer that was kept and those that were swiped away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.errors import DataError
from runner.files import Row
from runner.step import Out, Step
from runner.steps.preprocess._dialogues import (
    Message,
    Said,
    Unusable,
    alternating,
    cut_metrics,
    messages,
    system_text,
)
from runner.steps.preprocess._reading import Source, Unreadable, look_alike, refuse, shown, sources
from runner.steps.preprocess._sillytavern_chat import Chat, Line, read


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, conversation, character and messages; with `rows: preferences` prompt, chosen and rejected.

    Raises DataError where files are no chats, several characters answer and `speaker:` names none, or nothing is left.
    """
    found, tally, counts = _files(step), Unreadable(step, out), Counter[str]()
    system, made, chats = system_text(step), Counter[str](), 0
    with out.rows() as rows, out.progress("reading", len(found)) as advance:
        for source in found:
            chat = read(source)
            chats += 1
            tally.read += len(chat.lines)
            counts["hidden"] += chat.hidden
            for broken in chat.broken:
                tally.reject(f"{source.name}:{broken.number}", broken.reason, broken.raw)
            character = _character(step, chat)
            for row in _rows(step, out, chat, character, system, counts):
                rows.write(row)
                made[character] += 1
            advance(1, note=source.name)
        written = rows.count
    tally.finish()
    if not written:
        raise DataError(f"{shown(step.folder) if step.folder else ''}: {_nothing(step, chats, counts)}")
    table = {
        "title": "Rows by character",
        "columns": ["character", "rows"],
        "rows": [list(entry) for entry in made.most_common(20)],
    }
    metrics = {"chats": chats, "hidden_messages": counts["hidden"], **cut_metrics(counts)}
    return {"metrics": metrics, "tables": [table]}


def _files(step: Step) -> list[Source]:
    found = sources(step, "chats that SillyTavern saved (.jsonl)")
    problems = []
    for source in found:
        what = look_alike(source.path)
        if not what and source.path.suffix.lower() not in (".jsonl", ".json"):
            what = "no SillyTavern chat. Move it out of the folder"
        problems += [f"{source.shown}: {what}."] if what else []
    refuse(problems)
    return found


def _character(step: Step, chat: Chat) -> str:
    """Whose answers are learned. Raises DataError where it is nobody, or any of several."""
    have, wanted = chat.characters(), step.params.get("speaker")
    listed = ", ".join(f"{name} ({count})" for name, count in have.most_common(10)) or "nobody"
    if wanted is not None and wanted not in have:
        raise DataError(
            f"{chat.source.shown}: '{wanted}' says nothing. Set speaker to one of: {listed}; or choose with files:."
        )
    if wanted is None and len(have) > 1:
        raise DataError(
            f"{chat.source.shown}: several characters answer: {listed}. Say whose voice is learned: speaker: …"
        )
    return str(wanted or next(iter(have), ""))


def _rows(step: Step, out: Out, chat: Chat, character: str, system: str | None, counts: Counter[str]) -> Iterator[Row]:
    name = chat.source.name.removesuffix(".jsonl")
    common = {"conversation": name, "character": character}
    if step.params["rows"] == "preferences":
        yield from ({**row, **common} for row in _preferences(step, out, chat, character, system))
        return
    source = f"{chat.source.name}:{chat.lines[0].number}" if chat.lines else f"{chat.source.name}:1"
    row: Row = {"id": name, "source": source, **common}
    try:
        said = _said(chat.lines, character)
        yield {**row, "messages": messages(said, True, step.params["ends"], counts, system)}
    except Unusable as error:
        out.reject(row, str(error))


def _said(lines: list[Line], character: str) -> list[Said]:
    """Roles and texts; where more than two speak, the user side names who does. Blank messages are passed over."""
    others = {line.name for line in lines if line.name != character or line.is_user}
    made = []
    for line in lines:
        own = line.name == character and not line.is_user
        prefix = f"{line.name}: " if len(others) > 1 and not own and line.name else ""
        if line.text.strip():
            made.append(("assistant" if own else "user", prefix + line.text))
    return made


def _preferences(step: Step, out: Out, chat: Chat, character: str, system: str | None) -> Iterator[Row]:
    """A row for each answer that was swiped away, after the messages before it, `context:` at most."""
    for place, line in enumerate(chat.lines):
        if line.name != character or line.is_user or not line.swipes or not line.text.strip():
            continue
        prompt = _prompt(_said(chat.lines[max(0, place - step.params["context"]) : place], character))
        for number, swipe in enumerate(line.swipes, 1):
            at = f"{chat.source.name}:{line.number}"
            row: Row = {"id": f"{at}-{number}", "source": at}
            if not prompt:
                out.reject({**row, "rejected": swipe}, "a greeting: nothing before it to answer")
                continue
            head = [{"role": "system", "content": system}] if system is not None else []
            sides = {
                key: [{"role": "assistant", "content": text}]
                for key, text in (("chosen", line.text), ("rejected", swipe))
            }
            yield {**row, "prompt": [*head, *prompt], **sides}


def _prompt(said: list[Said]) -> list[Message]:
    """From the first user turn to the last; [] where the last words are the character's own, or nothing is there."""
    made = alternating(said, merge=True)
    start = 1 if made and made[0]["role"] == "assistant" else 0
    return made[start:] if made[start:] and made[-1]["role"] == "user" else []


def _nothing(step: Step, chats: int, counts: Counter[str]) -> str:
    if step.params["rows"] == "preferences":
        return f"no answer in {chats} chats has swipes, so there is no preference. Swipe some, or read rows: conversations."
    return f"no conversation with a user turn and an answer in {chats} chats ({counts['hidden']} messages are hidden)."
