"""`clean:` rules by name: what is taken out of a model's reply before it is kept. They work in the order given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

_FRAGMENT = re.compile(r".+?(?:[,.!?…，。！？]+[\"'”’)]*(?=\s|$)|$)\s*", re.DOTALL)
_LABEL = re.compile(r"[\W_]*[A-Z][\w'’.-]*(?: (?:[A-Z(][\w'’.)-]*|of|the|von|van|de)){0,3}[*_\s]*[:：][*_\s]+")
_CRIES = "hey|hi|oh|ah|wow|hmm|um|uh|absolutely"
_STARTS = "well|so|sure|certainly|of course|great|okay|ok|alright"  # words of their own, but for a comma after them
_FILLER = re.compile(rf"\W*(?:(?:{_CRIES})\b(?:[\s,.!…]+|$)|(?:{_STARTS})\b\s*(?:[,.!…]+\s*|$))+", re.IGNORECASE)
_THANKS = re.compile(r"\bthank(?:s\b|\s+you\b)", re.IGNORECASE)
_MACHINE = re.compile(r"\bA\.?I\.?\b|\b(?:artificial intelligence|language model|chat ?bot|virtual assistant)\b")
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL | re.IGNORECASE)
_EMOJI = re.compile(r"[\U0001F000-\U0001FAFF\u2600-\u27BF\u2B00-\u2BFF\u200D\uFE0F\u20E3]+")
_BRACKETS = str.maketrans("{}[]", "()()")
_PAIRS = ('""', "''", "“”", "‘’", "«»", "„“", "``")
_SIMILAR = 0.9
_SHORTEST = 3


def clean(rules: Sequence[str], text: str, names: Sequence[str] = (), heard: str = "") -> str:
    """The text after these rules, without blanks around it; '' where nothing is left.

    names: who speaks, so that `no-name` knows names that do not look like any; heard: what the text replies to, for
    `no-repeat`.
    """
    text = text.strip()
    for rule in rules:
        if rule == "no-name":
            text = _without_name(text, names)
        elif rule == "no-repeat":
            text = _without_repeat(text, heard)
        else:
            text = RULES[rule](text)
        text = text.strip()
    return text


def fragments(text: str) -> list[str]:
    """A text in pieces, cut after , . ! and ?, the blanks after them included."""
    return _FRAGMENT.findall(text)


def _kept(text: str, keep: Callable[[str], bool]) -> str:
    return "".join(piece for piece in fragments(text) if keep(piece))


def _without_name(text: str, names: Sequence[str]) -> str:
    known = [re.escape(name) for name in sorted(names, key=len, reverse=True) if name.strip()]
    if known:
        text = re.sub(rf"^[\W_]*(?:{'|'.join(known)})[*_\s]*[:：][*_\s]*", "", text, count=1, flags=re.IGNORECASE)
    found = _LABEL.match(text)
    return text[found.end() :] if found else text


def _without_repeat(text: str, heard: str) -> str:
    mine, theirs = fragments(text), fragments(heard.strip())
    if not mine or not theirs:
        return text
    pair = SequenceMatcher(None, mine[0].strip().casefold(), theirs[0].strip().casefold())
    return "".join(mine[1:]) if pair.quick_ratio() > _SIMILAR else text


def _unquoted(text: str) -> str:
    while len(text) > 1 and text[0] + text[-1] in _PAIRS and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text.strip('"“”') if text.count('"') == 1 else text


def _without_filler(text: str) -> str:
    found = _FILLER.match(text)
    return _capital(text[found.end() :]) if found else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _whole_sentences(text: str) -> str:
    ends = [found.end() for found in re.finditer(r"[.!?…。！？][\"'”’)]*(?=\s|$)", text)]
    return text[: ends[-1]] if ends else text


# In the schemas of generate: rows and generate: dialogue with a sentence each; a test compares.
RULES: dict[str, Callable[[str], str]] = {
    "after-last-blank-line": lambda text: re.split(r":[ \t]*\r?\n[ \t]*\r?\n", text)[-1],
    "first-line": lambda text: text.split("\n", 1)[0],
    "first-paragraph": lambda text: re.split(r"\n\s*\n", text, maxsplit=1)[0],
    "one-line": lambda text: " ".join(text.split()),
    "whole-sentences": _whole_sentences,
    "quotes": _unquoted,
    "asterisks": lambda text: re.sub(r"[ \t]{2,}", " ", re.sub(r"\*.*?\*", "", text, flags=re.DOTALL)),
    "parentheses": lambda text: re.sub(r"[ \t]{2,}", " ", re.sub(r"\(.*?\)", "", text, flags=re.DOTALL)),
    "capital": _capital,
    "no-name": lambda text: _without_name(text, ()),
    "no-brackets": lambda text: text.translate(_BRACKETS),
    "no-filler": _without_filler,
    "no-thanks": lambda text: _kept(text, lambda piece: not _THANKS.search(piece)),
    "no-machine": lambda text: _kept(text, lambda piece: not _MACHINE.search(piece)),
    "no-scraps": lambda text: _kept(text, lambda piece: len(piece.split()) >= _SHORTEST),
    "no-repeat": lambda text: text,
    "no-emoji": lambda text: re.sub(r"[ \t]{2,}", " ", _EMOJI.sub("", text)),
    "no-thoughts": lambda text: _THOUGHTS.sub("", text),
}
