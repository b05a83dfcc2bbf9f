"""Conversations for training from the messages of chats: cut at silences, joined into turns that alternate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.errors import DataError
from runner.files import Row, digest
from runner.step import Out, Step
from runner.steps.preprocess._conversation_spool import Spool
from runner.steps.preprocess._conversation_turns import Heard, Turn, cut, trim, turns, word_count
from runner.steps.preprocess._dialogues import system_text

Voices = Counter[tuple[str, str]]  # how many messages each speaker (name and author id) has


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, conversation, time, source, messages, turns, speakers; pieces of a long one share `conversation`.

    Raises DataError where a time or a role is not one, `speaker:` names nobody, or nothing is left.
    """
    system = system_text(step)
    counts: Counter[str] = Counter()
    voices: Voices = Counter()
    made: Counter[str] = Counter()
    parts: tuple[str | None, ...] = step.parts() or (None,)
    for part in parts:
        with out.rows(part) as rows:
            for row in _conversations(step, out, part, system, counts, voices):
                made[str(row["turns"])] += 1
                rows.write(row)
        if not rows.count:
            raise DataError(_nothing_left(step, part, counts, voices))
    return {
        "metrics": {"cut_before_a_user_turn": counts["before"], "cut_after_the_last_answer": counts["after"]},
        "tables": [{"title": "Conversations by turns", "columns": ["turns", "conversations"], "rows": _by_turns(made)}],
    }


def _conversations(
    step: Step, out: Out, part: str | None, system: str | None, counts: Counter[str], voices: Voices
) -> Iterator[Row]:
    with Spool(out.folder) as spool:
        for row in step.rows(part):
            if not str(row.get("text") or "").strip():
                counts["no text"] += 1
                out.reject(row, "no text")
                continue
            voices[str(row.get("speaker")), str(row.get("author") or "")] += 1
            spool.add(row)
        _refuse_namesakes(step, voices)
        for messages in spool.conversations():
            for heard in _between_silences(step, messages):
                for row, reason in _pieces(step, heard, system, counts):
                    if reason is None:
                        yield row
                    else:
                        counts[reason] += 1
                        out.reject(row, reason)


def _between_silences(step: Step, messages: Iterator[tuple[Row, float]]) -> Iterator[list[Heard]]:
    silence = step.params["gap_minutes"] * 60
    heard: list[Heard] = []
    for row, gap in messages:
        if heard and gap > silence:
            yield heard
            heard = []
        heard.append(Heard(row, _role(step, row), gap))
    yield heard


def _role(step: Step, row: Row) -> str:
    speaker = step.params.get("speaker")
    if speaker is not None:
        return "assistant" if speaker in (row.get("speaker"), row.get("author")) else "user"
    role = row.get("role")
    if role not in ("assistant", "user"):
        raise DataError(
            f"{row.get('source')}: role is {role!r}, neither assistant nor user. "
            "Set speaker, here or in the step that reads the chat."
        )
    return str(role)


def _pieces(
    step: Step, heard: list[Heard], system: str | None, counts: Counter[str]
) -> Iterator[tuple[Row, str | None]]:
    """The rows of one conversation, each with the reason why it is dropped or None."""
    every = turns(heard, step.params["merge_minutes"] * 60, step.params["names"])
    made, before, after = trim(every)
    reason = _too_little(step, every, made)
    if reason:
        yield _row(every, _id(every[0].first), system), reason
        return
    counts["before"] += before
    counts["after"] += after
    conversation = _id(made[0].first)
    for piece in cut(made, step.params.get("window")):
        long = word_count(piece) > step.params.get("max_words", float("inf"))
        yield _row(piece, conversation, system), "more than max_words" if long else None


def _too_little(step: Step, every: list[Turn], made: list[Turn]) -> str | None:
    roles = {turn.role for turn in every}
    if "assistant" not in roles:
        return "the speaker says nothing"
    if "user" not in roles:
        return "nobody else speaks"
    if not made:
        return "the speaker answers nobody"
    if len(made) < step.params["min_turns"]:
        return "shorter than min_turns"
    return "fewer than min_words" if word_count(made) < step.params["min_words"] else None


def _row(made: list[Turn], conversation: str, system: str | None) -> Row:
    first = made[0].first
    said = [{"role": turn.role, "content": turn.content} for turn in made]
    return {
        "id": _id(first),
        "conversation": conversation,
        "time": first.get("time"),
        "source": first.get("source"),
        "messages": ([{"role": "system", "content": system}] if system else []) + said,
        "turns": len(made),
        "speakers": list(dict.fromkeys(speaker for turn in made for speaker in turn.speakers)),
    }


def _id(row: Row) -> str:
    """The id of a message; one made from what it says where it has none."""
    known = row.get("id") or row.get("source")
    return str(known) if known else digest([row.get(key) for key in ("conversation", "time", "speaker", "text")])[:20]


def _by_turns(made: Counter[str]) -> list[list[Any]]:
    return [[int(count), made[count]] for count in sorted(made, key=int)]


def _refuse_namesakes(step: Step, voices: Voices) -> None:
    speaker = step.params.get("speaker")
    authors = sorted({author for name, author in voices if name == speaker and author})
    if len(authors) > 1:
        raise DataError(
            f"{step.name}: '{speaker}' is the name of several authors: {', '.join(authors)}. "
            "Set speaker to one of these ids."
        )


def _nothing_left(step: Step, part: str | None, counts: Counter[str], voices: Voices) -> str:
    where = f"{step.name}.{part}" if part else step.name
    speaker = step.params.get("speaker")
    why = ", ".join(f"{count} {reason}" for reason, count in counts.most_common() if reason not in ("before", "after"))
    if speaker is not None and not any(speaker in voice for voice in voices):
        heard = ", ".join(f"{name} ({count} messages)" for (name, _), count in voices.most_common(10)) or "nobody"
        return f"{where}: no message by '{speaker}'. Set speaker to one of: {heard}."
    why = why or "no rows came in"
    return f"{where}: no conversation is left ({why}). Lower min_turns or min_words, or check speaker."
