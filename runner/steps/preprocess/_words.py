"""Words counted in any script: those between white space, and every character of scripts that write none."""

from __future__ import annotations

import re
from itertools import islice

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and Han
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")


def word_count(text: str) -> int:
    """How many words a text has."""
    return sum(1 for _ in _WORD.finditer(text))


def cut_after(text: str, words: int) -> str:
    """The text up to the end of so many words, else as it is."""
    ends = [match.end() for match in islice(_WORD.finditer(text), words)]
    return text if word_count(text) <= words else text[: ends[-1]] if ends else ""
