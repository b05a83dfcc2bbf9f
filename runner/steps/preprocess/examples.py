"""Training rows by a declared rule: from plain rows by a prompt, or from the turns of dialogues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner import prompts
from runner.errors import DataError, StepError
from runner.files import Row, digest, where
from runner.prompts import Message, render
from runner.step import Out, Prompt, Step
from runner.steps.preprocess import _dialogue_turns as dialogue
from runner.steps.preprocess._dialogue_turns import Moment
from runner.steps.preprocess._expressions import variables

Part = str | None
Made = tuple[Row, str | None]  # an example with None, or what stands for it with the reason why there is none
NOTHING = "nothing to learn"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows with id, conversation (the id of the row they come from), source, the columns of `keep:`, and

    `messages` (with `prompt`; `prefill` where the answer begins with words that are not learned; `prompt` and
    `completion` beside it, with `completion: true`), `text`, `text_pair` and `label` (with `memory: each`), or `history`, `memory` and
    `utterance` (with `history` alone). Raises StepError where the keys do not make examples, DataError where none is left.
    """
    _check(step)
    counts: dict[str, Counter[Any]] = {}
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        dropped: Counter[str] = Counter()
        with out.rows(part) as rows:
            for row in step.rows(part):
                for made, reason in _examples(step, row):
                    if reason:
                        dropped[reason] += 1
                        out.reject(made, reason)
                        continue
                    counts.setdefault(part or "all", Counter())[made.get("label", "examples")] += 1
                    rows.write(made)
        if not rows.count:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "no turn of that speaker"
            raise DataError(
                f"{step.name}{'.' + part if part else ''}: no example is left ({why}). Check speaker: and prompt:."
            )
    return {"tables": [_table(counts)]}


def _check(step: Step) -> None:
    prompt, speaker = step.prompts.get("prompt"), step.params.get("speaker")
    if speaker is None and (prompt is None or "memory" in step.params or "history" in step.params):
        raise StepError(
            f"{step.name}: plain rows need a prompt: and nothing of turns. For dialogues say whose turns: speaker: …."
        )
    if prompt and "memory" in step.params:
        raise StepError(
            f"{step.name}: memory: each makes text, text_pair and label, without a prompt:. Drop one of them."
        )
    if speaker and not prompt and "memory" not in step.params and "history" not in step.params:
        raise StepError(
            f"{step.name}: say what to make of a turn: prompt: (messages), memory: each (pairs) or history: (columns)."
        )
    if prompt and speaker is None and not all("assistant" in turn for turn in prompt.turns):
        raise StepError(
            f"{step.name}.prompt: '{prompt.name}' has no assistant text, so that nothing would be learned. Add it."
        )
    if prompt and speaker and len(prompt.turns) > 1:
        raise StepError(
            f"{step.name}.prompt: '{prompt.name}' is a chain, and a dialogue has turns of its own. Use a single one."
        )


def _examples(step: Step, row: Row) -> Iterator[Made]:
    if "speaker" not in step.params:
        yield _plain(step, row)
        return
    for moment in dialogue.moments(step, row):
        if "memory" in step.params:
            yield from _pairs(step, moment)
        elif "prompt" in step.prompts:
            yield _spoken(step, moment)
        else:
            told = {
                "history": dialogue.history(step, moment.before),
                "memory": moment.turn.memory,
                "utterance": moment.turn.utterance,
            }
            yield {**_head(step, moment.row, moment), **told}, None


def _head(step: Step, row: Row, moment: Moment | None = None, variant: str = "") -> Row:
    """The columns that every example has."""
    record = str(row["id"]) if row.get("id") is not None else digest(row)[:20]
    kept = {column: _column(row, column) for column in step.params.get("keep", [])}
    head = {"id": record, "conversation": row.get("conversation") or record, "source": row.get("source")}
    if moment is None:
        return {**head, **kept}
    turn = moment.turn
    return {
        **head,
        "id": f"{record}#{turn.number}{variant}",
        "conversation": record,
        "speaker": turn.speaker,
        "turn": turn.number,
        **kept,
    }


def _column(row: Row, column: str) -> Any:
    if column not in row:
        raise DataError(f"{where(row)}: no column '{column}', which keep: names. It has: {', '.join(row)}.")
    return row[column]


# Memories chosen and not chosen


def _pairs(step: Step, moment: Moment) -> Iterator[Made]:
    if not moment.turn.memory:
        yield _head(step, moment.row, moment), "no memory was chosen"
        return
    text = dialogue.history(step, moment.before)
    if not isinstance(text, str):
        raise StepError(f"{step.name}.history: memory: each needs a text, so write one template.")
    head = _head(step, moment.row, moment, "+")
    yield {**head, "text": text, "text_pair": moment.turn.memory, "label": 1}, None
    for aspect, memory in dialogue.memories(step, moment):
        yield {**head, "id": head["id"][:-1] + f"-{aspect}", "text": text, "text_pair": memory, "label": 0}, None


# Messages


def _plain(step: Step, row: Row) -> Made:
    prompt, held = step.prompts["prompt"], variables(step, row)
    asked: list[Message] = []
    prefill = answer = ""
    for number, turn in enumerate(prompt.turns):
        said = prompts.messages(prompt, held, step.texts, number)
        if not said or said[-1]["role"] != "assistant":
            return row, NOTHING
        prefill, answer = _prefill(step, prompt, turn, held), said[-1]["content"]
        asked += [*said[:-1], {"role": "assistant", "content": prefill + answer}]
    return {**_head(step, row), **_messages(step, asked[:-1], prefill, answer)}, None


def _spoken(step: Step, moment: Moment) -> Made:
    """The talk as the speaker lives it: own turns are the assistant's; a `user` text takes the place of what was last heard."""
    prompt = step.prompts["prompt"]
    held = {**variables(step, moment.row), **dialogue.variables(step, moment)}
    said = {message["role"]: message["content"] for message in prompts.messages(prompt, held, step.texts)}
    answer = said.get("assistant", "") if "assistant" in prompt.turns[0] else moment.turn.utterance
    if not answer.strip():
        return _head(step, moment.row, moment), NOTHING
    talk = [
        {"role": "assistant" if turn.speaker == moment.turn.speaker else "user", "content": turn.utterance}
        for turn in moment.before
    ]
    if "user" in said:
        talk = [
            *(talk[:-1] if talk and talk[-1]["role"] == "user" else talk),
            {"role": "user", "content": said["user"]},
        ]
    system = [{"role": "system", "content": said["system"]}] if "system" in said else []
    prefill = _prefill(step, prompt, prompt.turns[0], held)
    return {**_head(step, moment.row, moment), **_messages(step, [*system, *talk], prefill, answer)}, None


def _prefill(step: Step, prompt: Prompt, turn: dict[str, str], held: dict[str, Any]) -> str:
    return render(turn["prefill"], held, prompt.includes) if turn.get("prefill") else ""


def _messages(step: Step, asked: list[Message], prefill: str, answer: str) -> Row:
    made: Row = {"messages": [*asked, {"role": "assistant", "content": prefill + answer}]}
    if prefill:
        made["prefill"] = prefill
    if step.params["completion"]:
        begun = [{"role": "assistant", "content": prefill}] if prefill else []
        made |= {"prompt": [*asked, *begun], "completion": [{"role": "assistant", "content": answer}]}
    return made


def _table(counts: dict[str, Counter[Any]]) -> dict[str, Any]:
    names = sorted({name for counter in counts.values() for name in counter}, key=str, reverse=True)
    titles = {1: "label 1", 0: "label 0"}
    rows = [[part, *(counter[name] for name in names)] for part, counter in counts.items()]
    return {"title": "Examples", "columns": ["part", *(titles.get(name, name) for name in names)], "rows": rows}
