"""One text scrubbed: what is found is replaced by its category's action, and looked for again until nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runner.steps.preprocess._scrub_patterns import Span

# The earlier wins where two stand at the same place; one that is kept hides those after it
ORDER = ("secrets", "emails", "urls", "ibans", "cards", "ips", "phones", "speakers", "handles")
MASKS = {category: f"<{category.removesuffix('s').upper()}>" for category in ORDER}
ROUNDS = 50  # what is removed can join what stood around it into something new; each round leaves less of the text

Detect = Callable[[str], Iterable[Span]]
Instead = Callable[[str, str], str]
Places = list[tuple[int, int]]


class ResidueError(Exception):
    """Something still matches after every round; its categories."""


class DropError(Exception):
    """The row holds something of a category whose action is drop."""


@dataclass
class Scrubber:
    """Detectors, an action a category (keep, mask, remove, pseudonym, drop), and how pseudonyms are made."""

    detectors: Sequence[Detect]
    actions: Mapping[str, str]
    instead: Instead
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def holds(self, text: str, but: Sequence[str] = ()) -> bool:
        """Whether a text holds anything that has to go, of other categories than `but`."""
        return any(span.category not in but for span in self._active(text, []))

    def clean(self, text: str) -> str:
        """The text with everything replaced that has to go, else untouched, character by character.

        Raises DropError where the whole row has to go, ResidueError where something matches after the last round.
        """
        placed: Places = []
        for _ in range(ROUNDS):
            spans = self._active(text, placed)
            if not spans:
                return text
            for span in spans:
                action = self.actions[span.category]
                self.counts[span.category, action] += 1
                if action == "drop":
                    raise DropError(span.category)
            text, placed = _replace(text, [(span, self._new(text, span)) for span in spans], placed)
        raise ResidueError(", ".join(sorted({span.category for span in spans})))

    def _new(self, text: str, span: Span) -> str:
        action = self.actions[span.category]
        if action == "pseudonym":
            return span.instead or self.instead(span.category, text[span.start : span.end])
        return MASKS[span.category] if action == "mask" else ""

    def _active(self, text: str, placed: Places) -> list[Span]:
        """What has to go, in order and without overlaps: the longest first, then by category; nothing that we put there."""
        found = {span for detect in self.detectors for span in detect(text)}
        kept = [span for span in found if self.actions[span.category] == "keep"]
        chosen: list[Span] = []
        for span in sorted(
            found.difference(kept), key=lambda span: (span.start - span.end, ORDER.index(span.category), span.start)
        ):
            hidden = any(_overlap(span, one) and ORDER.index(one.category) < ORDER.index(span.category) for one in kept)
            ours = any(start <= span.start and span.end <= end for start, end in placed)
            if not hidden and not ours and not any(_overlap(span, one) for one in chosen):
                chosen.append(span)
        return sorted(chosen)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _replace(text: str, spans: list[tuple[Span, str]], placed: Places) -> tuple[str, Places]:
    """The text with new words in place of the spans, and where all words of ours stand in it now."""
    made: list[str] = []
    places: Places = []
    at = size = 0
    old = list(placed)
    for span, new in [*spans, (Span(len(text), len(text), ""), "")]:
        for start, end in [place for place in old if at <= place[0] and place[1] <= span.start]:
            places.append((size + start - at, size + end - at))
            old.remove((start, end))
        made += [text[at : span.start], new]
        size += span.start - at + len(new)
        if new:
            places.append((size - len(new), size))
        at = span.end
    return "".join(made), places
