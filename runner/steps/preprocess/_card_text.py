"""The texts of character cards: macros such as {{char}} resolved, example messages as dialogues."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

from runner.steps.preprocess._dialogues import Said

MACRO = re.compile(r"\{\{([^{}]*)\}\}|<(BOT|CHAR|USER)>", re.IGNORECASE)
START = re.compile(r"^[ \t]*<START>[ \t]*$", re.IGNORECASE | re.MULTILINE)
DEEPEST = 5  # macros inside macros


class Macros:
    """Resolves the macros of one card. What would be random is decided by the card's id, so that it never changes."""

    def __init__(self, char: str, user: str, seed: str) -> None:
        self.char, self.user, self.seed = char, user, seed
        self.count = 0
        self.unknown: Counter[str] = Counter()

    def resolve(self, text: str) -> str:
        for _ in range(DEEPEST):
            made = MACRO.sub(self._one, text)
            if made == text:
                break
            text = made
        return text

    def _one(self, found: re.Match[str]) -> str:
        inner = (found[1] if found[2] is None else {"BOT": "char"}.get(found[2].upper(), found[2])).strip()
        name, _, rest = inner.partition("::" if "::" in inner else ":")
        name = name.strip().lower()
        if inner.startswith("//") or name in ("comment", "hidden_key", "original", "noop", "trim"):
            return ""
        if name in ("char", "user"):
            return self.char if name == "char" else self.user
        if name in ("random", "pick"):
            choices = [choice.strip() for choice in re.split(r"::|(?<!\\),", rest)]
            return choices[self._draw(len(choices))].replace("\\,", ",")
        if name == "roll":
            sides = re.sub(r"\D", "", rest.lower().rpartition("d")[2])
            return str(1 + self._draw(int(sides[:6] or 0) or 1))
        if name == "newline":
            return "\n"
        if name == "reverse":
            return rest[::-1]
        self.unknown[found[0][:40]] += 1
        return found[0]

    def _draw(self, choices: int) -> int:
        self.count += 1
        made = hashlib.sha256(f"{self.seed}:{self.count}".encode()).digest()
        return int.from_bytes(made[:8]) % choices


def parted(text: str) -> tuple[str, str]:
    """A description, and the example dialogues that some cards keep in it after a <START>; notes below them stay."""
    found = START.search(text)
    if not found:
        return text.strip(), ""
    after = text[found.end() :]
    notes = [line for line in after.splitlines() if _is_note(line)]
    return "\n".join([text[: found.start()].rstrip(), *notes]).strip(), after


def examples(text: str, char: str, name: str, user: str) -> list[list[Said]]:
    """The dialogues of a text with its macros resolved: <START> begins each, a speaker's name each message."""
    names = {user.lower(): "user", "you": "user", char.lower(): "assistant", name.lower(): "assistant"}
    opens = re.compile(
        "(" + "|".join(re.escape(one) for one in sorted(names, key=len, reverse=True)) + r")\s*:[ \t]*", re.IGNORECASE
    )
    made = []
    for block in START.split(text):
        said: list[list[str]] = []
        for line in block.splitlines():
            found = opens.match(line.lstrip())
            if found:
                said.append([names[found[1].lower()], line.lstrip()[found.end() :]])
            elif said and not _is_note(line):
                said[-1][1] += f"\n{line}"
        if said:
            made.append([(role, words.strip()) for role, words in said if words.strip()])
    return made


def _is_note(line: str) -> bool:
    """Whether a line is a note of the card's, in brackets, and nobody's words."""
    return line.strip().startswith("[") and line.strip().endswith("]")
