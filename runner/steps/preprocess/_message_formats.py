"""The ways in which published data sets write conversations, each as (role, text) pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from runner.files import Row
from runner.steps.preprocess._dialogues import Said, Unusable

TOOLS = "uses tools"
NO_TEXT = "content that is not text"
BROKEN = "not in the file's format"
TOOL_ROLES = {"tool", "function", "function_call", "observation", "ipython"}
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "seeker", "usr"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "supporter", "sys"), "assistant"),
}


class Roles:
    """Who speaks, by the names that a file uses: those of `roles:` first, then the usual ones."""

    def __init__(self, named: dict[str, Any]) -> None:
        lists = {ours: [theirs] if isinstance(theirs, str) else theirs for ours, theirs in named.items()}
        self.known = {name.lower(): ours for ours, theirs in lists.items() for name in theirs} or ROLES
        self.unknown: set[str] = set()

    def of(self, name: Any) -> str:
        key = str(name).lower()
        if key in self.known:
            return self.known[key]
        if key in TOOL_ROLES:
            raise Unusable(TOOLS)
        self.unknown.add(str(name)[:40])
        raise Unusable("an unknown role")


def text(content: Any) -> str:
    """What a message says: a text, or a list of text parts one after another. Raises Unusable."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        if all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        ):
            return "".join(part["text"] for part in content)
        if all(isinstance(part, str) for part in content):
            return "".join(content)
    raise Unusable(NO_TEXT)


def _list(row: Row, key: str) -> list[Any]:
    """A list; a cell of a CSV file may hold it as JSON."""
    held = row.get(key)
    if isinstance(held, str):
        try:
            held = json.loads(held)
        except ValueError as error:
            raise Unusable(BROKEN) from error
    if not isinstance(held, list):
        raise Unusable(BROKEN)
    return held


def _turns(held: list[Any], role: str, content: str, roles: Roles) -> list[Said]:
    made = []
    for entry in held:
        if not isinstance(entry, dict) or role not in entry:
            raise Unusable(BROKEN)
        if len(entry) > 2 and (entry.get("tool_calls") or entry.get("function_call")):
            raise Unusable(TOOLS)
        name, said = entry[role], entry.get(content)
        known = roles.known.get(name) if isinstance(name, str) else None
        made.append((known or roles.of(name), said if isinstance(said, str) else text(said)))
    return made


def _system(row: Row) -> list[Said]:
    held = row.get("system")
    return [("system", held)] if isinstance(held, str) and held.strip() else []


def openai(row: Row, roles: Roles) -> list[Said]:
    """{messages: [{role, content}]}, also TRL's."""
    return _turns(_list(row, "messages"), "role", "content", roles)


def sharegpt(row: Row, roles: Roles) -> list[Said]:
    """{conversations: [{from, value}], system?}; some write role and content there."""
    held = _list(row, "conversations")
    return _system(row) + _turns(held, *_keys(held), roles)


def _keys(held: list[Any]) -> tuple[str, str]:
    return ("from", "value") if held and isinstance(held[0], dict) and "from" in held[0] else ("role", "content")


def alpaca(row: Row, roles: Roles) -> list[Said]:
    """{instruction, input?, output, system?, history?: [[user, assistant]]}."""
    made = _system(row)
    for pair in row.get("history") or []:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)):
            raise Unusable(BROKEN)
        made += [("user", pair[0]), ("assistant", pair[1])]
    return [*made, _instruction(row), ("assistant", text(row["output"]))]


def _instruction(row: Row) -> Said:
    asked = [text(row["instruction"]), text(row.get("input") or "")]
    return "user", "\n".join(part for part in asked if part.strip())


def esconv(row: Row, roles: Roles) -> list[Said]:
    """{dialog: [{speaker: seeker | supporter, content}], situation, emotion_type, …}."""
    return _turns(_list(row, "dialog"), "speaker", "content", roles)


def ultrachat(row: Row, roles: Roles) -> list[Said]:
    """{data: [user, assistant, user, …]}."""
    return [("assistant" if place % 2 else "user", text(said)) for place, said in enumerate(_list(row, "data"))]


def completion(row: Row, roles: Roles) -> list[Said]:
    """{prompt, completion}: texts or lists of messages."""
    return _side(row["prompt"], "user", roles) + _side(row["completion"], "assistant", roles)


def _side(held: Any, role: str, roles: Roles) -> list[Said]:
    if isinstance(held, str):
        return [(role, held)]
    turns = [held] if isinstance(held, dict) else held
    if not isinstance(turns, list):
        raise Unusable(BROKEN)
    return _turns(turns, *_keys(turns), roles)


def _asked(row: Row, roles: Roles) -> list[Said]:
    """What both answers answer, where the row says it beside them: prompt, or ShareGPT's or Alpaca's keys."""
    if row.get("prompt"):
        return _side(row["prompt"], "user", roles)
    if row.get("conversations"):
        return _system(row) + _side(row["conversations"], "user", roles)
    return [*_system(row), _instruction(row)] if "instruction" in row else []


def preference(row: Row, roles: Roles) -> tuple[list[Said], list[Said], list[Said]]:
    """{prompt?, chosen, rejected} as its three sides; where both answers repeat the prompt, it is taken out of them.

    In place of prompt there may be conversations (ShareGPT), or instruction and input (Alpaca).
    """
    chosen, rejected = (_side(row[key], "assistant", roles) for key in ("chosen", "rejected"))
    common = 0
    while common < min(len(chosen), len(rejected)) - 1 and chosen[common] == rejected[common]:
        common += 1
    repeated, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
    given = _asked(row, roles)
    prompt = given if given and (not repeated or repeated[-1] != given[-1]) else repeated or given
    if given and repeated and repeated[-1] != given[-1]:
        prompt = given + repeated
    if not prompt or prompt[-1][0] != "user":
        raise Unusable("no question before the answers")
    if [role for role, _ in chosen] != ["assistant"] or [role for role, _ in rejected] != ["assistant"]:
        raise Unusable("answers of more than one turn")
    if chosen == rejected:
        raise Unusable("chosen and rejected are the same")
    return prompt, chosen, rejected


FORMATS: dict[str, Callable[[Row, Roles], list[Said]]] = {
    "openai": openai,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "esconv": esconv,
    "ultrachat": ultrachat,
    "completion": completion,
}
KEYS = {
    "preference": {"chosen", "rejected"},
    "openai": {"messages"},
    "sharegpt": {"conversations"},
    "esconv": {"dialog"},
    "alpaca": {"instruction", "output"},
    "completion": {"prompt", "completion"},
    "ultrachat": {"data"},
}
EMPATHETIC = {"conv_id", "utterance_idx", "speaker_idx", "utterance"}


def detect(keys: set[str]) -> str | None:
    """The format of a file by the keys of its first row, None where it is none of these."""
    if keys >= EMPATHETIC:
        return "empathetic"
    return next((name for name, needed in KEYS.items() if keys >= needed), None)
