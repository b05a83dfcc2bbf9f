"""Passages of text files (a paragraph a line, or between blank lines) and of interview files in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.errors import DataError
from runner.files import Row
from runner.headers import form
from runner.step import Out, Step
from runner.steps.preprocess._passage_text import Passage, answers, paragraphs
from runner.steps.preprocess._reading import Source, Unreadable, look_alike, refuse, shown, sources
from runner.steps.preprocess._tables import encoding_asked

TEXTS = (".txt", ".text", ".md", ".markdown", "")


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, text, heading (null where there is none), and with `strip_source:` reference.

    Raises DataError where files are no text, several people answer and no `speaker:` is named, or nothing is left.
    """
    found = _files(step)
    tally, voices, words = Unreadable(step, out), Counter[str](), 0
    short = 0
    with out.rows() as rows, out.progress("reading", len(found)) as advance:
        for source in found:
            for passage in _passages(step, source, voices):
                at = f"{source.name}:{passage.line}"
                if passage.reason:
                    tally.reject(at, passage.reason, passage.text)
                    continue
                tally.read += 1
                row = _row(step, source, passage)
                count = len(row["text"].split())
                reason = _too_little(step, row["text"], count)
                if reason:
                    short += 1
                    out.reject(row, reason)
                    continue
                words += count
                rows.write(row)
            advance(1, note=source.name)
        written = rows.count
    _refuse(step, voices)
    tally.finish()
    if not written:
        raise DataError(
            f"{shown(step.folder) if step.folder else ''}: all {short} passages are dropped. Lower min_words."
        )
    return {"metrics": {"files": len(found), "words": words, "words_a_passage": round(words / written, 1)}}


def _files(step: Step) -> list[Source]:
    problems, made = [], []
    for source in sources(step, "text files, or interviews in JSON"):
        ending = source.path.suffix.lower()
        what = look_alike(source.path)
        if not what and ending == ".json" and form(source.path) != "list":
            what = "no interview: not a JSON list of questions with replies. Read it with preprocess: table or messages"
        elif not what and ending != ".json" and ending not in TEXTS:
            what = "no text file. Save its text as .txt, or choose others with files:"
        problems += [f"{source.shown}: {what}."] if what else []
        made.append(source)
    refuse(problems)
    return made


def _passages(step: Step, source: Source, voices: Counter[str]) -> Iterator[Passage]:
    encoding = encoding_asked(step)
    if source.path.suffix.lower() == ".json":
        return answers(source, encoding, step.params.get("speaker"), voices)
    found = paragraphs(source, encoding, blocks=step.params["paragraphs"] == "blocks")
    return found if step.params["headings"] == "keep" else (passage for passage in found if not passage.is_heading)


def _row(step: Step, source: Source, passage: Passage) -> Row:
    at = f"{source.name}:{passage.line}"
    own = f"{source.name}#{passage.number}" if passage.number else at
    row: Row = {"id": own, "source": at, "text": passage.text.strip(), "heading": passage.heading}
    marker = step.params.get("strip_source")
    if marker:
        before, found, after = passage.text.rpartition(marker)
        row |= {"text": after.strip(), "reference": (before + found).strip() or None}
    return row


def _too_little(step: Step, text: str, count: int) -> str | None:
    if not text:
        return "nothing after the source"
    return "fewer words than min_words" if count < step.params["min_words"] else None


def _refuse(step: Step, voices: Counter[str]) -> None:
    speaker, where = step.params.get("speaker"), shown(step.folder) if step.folder else ""
    listed = ", ".join(f"{name} ({count} replies)" for name, count in voices.most_common(10))
    if voices and speaker is None and len(voices) > 1:
        raise DataError(f"{where}: several answer: {listed}. Say whose words are read: speaker: …")
    if speaker is not None and not voices[speaker]:
        raise DataError(
            f"{where}: nobody named '{speaker}' answers. Set speaker to one of: {listed or 'nobody: no interview'}."
        )
