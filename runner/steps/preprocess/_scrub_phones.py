"""Phone numbers in a text, by the numbering plans of the world."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from phonenumbers import SUPPORTED_REGIONS, PhoneNumberMatcher

from runner.errors import StepError
from runner.steps.preprocess._scrub_patterns import Span

ENOUGH = re.compile(r"\d(?:\D{0,3}\d){5}")  # six digits near each other


def known_regions(name: str, regions: Sequence[str]) -> list[str | None]:
    """The regions whose national numbers are looked for, besides international ones. Raises StepError for an unknown one."""
    strange = [region for region in regions if region not in SUPPORTED_REGIONS]
    if strange:
        raise StepError(f"{name}.region: no region '{strange[0]}'. Give two capital letters, as DE, US or BR.")
    return list(regions) or [None]


def phones(text: str, regions: Sequence[str | None]) -> Iterator[Span]:
    """Numbers that exist by the plan of their country."""
    if ENOUGH.search(text):
        for region in regions:
            yield from (Span(match.start, match.end, "phones") for match in PhoneNumberMatcher(text, region))
