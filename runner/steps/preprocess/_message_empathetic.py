"""EmpatheticDialogues: CSV files without quotes, an utterance a line, in which _comma_ stands for a comma."""

from __future__ import annotations

from collections.abc import Iterator

from runner.files import Row
from runner.headers import open_text
from runner.steps.preprocess._dialogues import Said, Unusable
from runner.steps.preprocess._reading import Source
from runner.steps.preprocess._table_text import CONFLICT, OTHER_BYTES, Conflicts, Record, decoded


def conversations(source: Source) -> Iterator[Record]:
    """A record a conversation, at the line of its first utterance, with its lines as `turns`; broken lines alone."""
    open_row: Row = {}
    place = ""
    for record in _utterances(source):
        at, _, row, *_ = record
        if row is None:
            yield record
            continue
        if open_row and open_row["conv_id"] != row["conv_id"]:
            yield place, place, open_row, "", ""
            open_row = {}
        if not open_row:
            place = at
            open_row = {name: row.get(name) for name in ("conv_id", "context", "prompt")} | {"turns": []}
        open_row["turns"].append(row)
    if open_row:
        yield place, place, open_row, "", ""


def _utterances(source: Source) -> Iterator[Record]:
    conflicts = Conflicts()
    with open_text(source.path, "utf-8-sig") as stream:
        names = next(stream, "").strip().split(",")
        for number, line in enumerate(stream, 2):
            if line.isspace():
                continue
            at, fields = f"{source.name}:{number}", line.rstrip("\r\n").split(",")
            if conflicts.hold(line):
                yield at, at, None, CONFLICT, line
            elif not decoded(line):
                yield at, at, None, OTHER_BYTES, line
            elif not len(names) - 1 <= len(fields) <= len(names) + 1:
                # The last column, tags, may be left out, and an empty one may follow it.
                yield at, at, None, "another number of fields than the header", line
            else:
                row = {name: text.replace("_comma_", ",") for name, text in zip(names, fields, strict=False)}
                yield at, at, row, "", ""


def said(row: Row) -> list[Said]:
    """The utterances in order: whoever speaks first, and feels something, is the user."""
    turns = row["turns"]
    if [turn["utterance_idx"] for turn in turns] != [str(place) for place in range(1, len(turns) + 1)]:
        raise Unusable("an utterance is missing")
    first = turns[0]["speaker_idx"]
    return [("user" if turn["speaker_idx"] == first else "assistant", turn["utterance"]) for turn in turns]
