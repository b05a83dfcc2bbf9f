"""Places in a recipe, and what is wrong there: found together, sorted, said as `file:line:col: what. What to do.`"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from runner.errors import RecipeError

_LONG = re.compile(r"'([^']{100})[^']*'")
MOST_NAMES = 20  # shown where nothing is near


ALL = ""  # in Lost: a whole section
Lost = set[tuple[str, str]]  # (section, name) of what is wrong, so that nothing is said of what merely names it


class Mark(NamedTuple):
    """A place: a file with line and column, both from 1, or a command-line value with line 0."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong, or with `warning` one thing odd."""

    mark: Mark
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.mark}: {'warning: ' if self.warning else ''}{self.message}"


class Invalid(RecipeError):
    """A recipe with problems; `problems` holds them sorted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__(*map(str, self.problems))


class Problems:
    """Collects problems; the same one found twice (in two variants, say) counts once."""

    def __init__(self) -> None:
        self._found: set[Problem] = set()

    def add(self, mark: Mark, message: str) -> None:
        self._found.add(Problem(mark, _line(message)))

    def warn(self, mark: Mark, message: str) -> None:
        self._found.add(Problem(mark, _line(message), warning=True))

    def include(self, problems: Iterable[Problem]) -> None:
        self._found.update(problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._found))

    @property
    def count(self) -> int:
        """How many errors there are so far."""
        return sum(not problem.warning for problem in self._found)

    @property
    def errors(self) -> list[Problem]:
        return sorted(problem for problem in self._found if not problem.warning)

    @property
    def warnings(self) -> list[Problem]:
        return sorted(problem for problem in self._found if problem.warning)

    def raise_errors(self) -> None:
        if self.errors:
            raise Invalid(self.errors)


def _line(message: str) -> str:
    """One line; what is quoted of the recipe is cut short."""
    return _LONG.sub(r"'\1…'", message.replace("\n", "\\n"))


def near(word: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The one name that a word is a slip of, [] where there is none."""
    return difflib.get_close_matches(word, sorted(known), n=1, cutoff=cutoff)


def suggest(word: str, known: Iterable[str], list_all: str = "Known", cutoff: float = 0.6) -> str:
    """' Did you mean 'x'?' where something is near, else a list of what there is, else ''."""
    names = sorted(set(map(str, known)))
    meant = near(word, names, cutoff)
    if meant:
        return f" Did you mean '{meant[0]}'?"
    shown = names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], "…"]
    return f" {list_all}: {', '.join(shown)}." if names else ""
