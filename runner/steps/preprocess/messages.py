"""Conversations in the formats of published data sets, as `messages`, or as prompt, chosen and rejected."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner.errors import DataError
from runner.files import Row, RowWriter
from runner.step import Out, Step
from runner.steps.preprocess import _message_empathetic as empathetic
from runner.steps.preprocess import _message_formats as formats
from runner.steps.preprocess._dialogues import RUNS, Said, Unusable, alternating, cut_metrics, messages, system_text
from runner.steps.preprocess._reading import Unreadable
from runner.steps.preprocess._table_text import NOT_A_NUMBER, Record
from runner.steps.preprocess._tables import Table, tables

HINTS = {RUNS: "To join such turns, set join: true.", NOT_A_NUMBER: "To read NaN as no value, set nan: empty."}
IDS = ("id", "conversation_id", "conv_id", "prompt_id")


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows: id, source, messages (with `format: preference` prompt, chosen and rejected), and the columns of `keep:`.

    Raises DataError where a file is in none of the formats, or more rows than `rejects:` allows are unusable.
    """
    reader, found = _Reader(step, out), tables(step)
    counts: list[list[Any]] = []
    with out.rows() as rows, out.progress("reading", len(found)) as advance:
        for table in found:
            before = (reader.tally.read, reader.tally.count)
            name = reader.file(table, rows)
            counts.append([table.source.name, name, reader.tally.read - before[0], reader.tally.count - before[1]])
            advance(1, note=table.source.name)
    reader.finish()
    columns = ["file", "format", "rows", "unusable"]
    return {
        "metrics": {"files": len(found), **cut_metrics(reader.counts)},
        "tables": [{"title": "Files", "columns": columns, "rows": counts[:20]}],
    }


class _Reader:
    """Reads file after file: what is asked of every row, and what was found."""

    def __init__(self, step: Step, out: Out) -> None:
        self.params = step.params
        self.system = system_text(step)
        self.roles = formats.Roles(step.params.get("roles") or {})
        self.tally = Unreadable(step, out, hints=dict(HINTS))
        self.counts: Counter[str] = Counter()
        keep = step.params.get("keep") or []
        self.keep = [keep] if isinstance(keep, str) else keep

    def finish(self) -> None:
        if self.roles.unknown:
            names = ", ".join(sorted(self.roles.unknown)[:10])
            self.tally.hints["an unknown role"] = (
                f"Unknown roles: {names}. Say who is who: roles: {{user: …, assistant: …}}."
            )
        self.tally.finish()

    def file(self, table: Table, rows: RowWriter) -> str:
        """Read one file; returns the name of its format."""
        form = ""
        for record in empathetic.conversations(table.source) if self._is_empathetic(table) else table.records():
            if record[2] is not None and not form:
                form = self._format(table, record[2])
            self._record(record, form, rows)
        return form

    def _is_empathetic(self, table: Table) -> bool:
        return table.form == "csv" and set(table.header or ()) >= formats.EMPATHETIC

    def _format(self, table: Table, row: Row) -> str:
        """The format by the first row; it has to be the one that `format:` names, and preferences have to be named."""
        asked = self.params.get("format")
        found = "empathetic" if "turns" in row and "conv_id" in row else formats.detect(set(row))
        where = table.source.shown
        if asked and asked != found:
            needed = formats.EMPATHETIC if asked == "empathetic" else formats.KEYS[asked]
            lacks = sorted(needed - set(row))
            if lacks:
                raise DataError(f"{where}: not in the format {asked}: its rows lack {', '.join(lacks)}{_has(row)}.")
            found = asked
        if found is None:
            names = ", ".join([*formats.KEYS, "empathetic"])
            raise DataError(
                f"{where}: no conversations in a known format ({names}){_has(row)}. Read it with preprocess: table."
            )
        if found == "preference" and asked != found:
            raise DataError(f"{where}: pairs of answers, chosen and rejected. To read them, set format: preference.")
        return found

    def _record(self, record: Record, form: str, rows: RowWriter) -> None:
        at, place, theirs, reason, raw = record
        if theirs is None:
            self.tally.reject(at, reason, raw)
            return
        named = [theirs[key] for key in IDS if key in theirs]
        own = next((one for one in named if isinstance(one, (str, int)) and one != ""), None) if named else None
        try:
            made = {"id": place if own is None else str(own), "source": at, **self._content(form, theirs)}
            rows.write({**made, **{name: theirs.get(name) for name in self.keep}} if self.keep else made)
        except Unusable as error:
            self.tally.reject(at, str(error), row={"source": at, **theirs})
        except KeyError:
            self.tally.reject(at, formats.BROKEN, row={"source": at, **theirs})
        except ValueError:
            self.tally.reject(at, "a number or a character that JSON cannot hold", repr(theirs))
        else:
            self.tally.read += 1

    def _content(self, form: str, theirs: Row) -> Row:
        if form == "preference":
            return self._pair(*formats.preference(theirs, self.roles))
        said = empathetic.said(theirs) if form == "empathetic" else formats.FORMATS[form](theirs, self.roles)
        return {"messages": messages(said, self.params["join"], self.params["ends"], self.counts, self.system)}

    def _pair(self, prompt: list[Said], chosen: list[Said], rejected: list[Said]) -> Row:
        merge = self.params["join"]
        asked = alternating(prompt, merge)
        if self.system is not None and asked[0]["role"] != "system":
            asked = [{"role": "system", "content": self.system}, *asked]
        return {"prompt": asked, "chosen": alternating(chosen, merge), "rejected": alternating(rejected, merge)}


def _has(row: Row) -> str:
    return f" (it has: {', '.join(list(row)[:12])})"
