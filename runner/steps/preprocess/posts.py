"""A person's posts as one numbered text, with the names that would give the label away masked."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from runner.errors import DataError
from runner.files import Row, where
from runner.step import Out, Step, pick
from runner.steps.preprocess._expressions import need

Part = str | None


def run(step: Step, out: Out) -> dict[str, Any]:
    """The rows with `text` made of their first posts. `text` comes as a list, or as a text that `separator:` cuts.

    Facts: how many records name their own type before and after masking. Raises DataError where a part has no row left.
    """
    mask = _pattern(step.params.get("mask", []), step.params["mask_inside"])
    counts: Counter[tuple[Part, str]] = Counter()
    parts: tuple[Part, ...] = step.parts() or (None,)
    for part in parts:
        with out.rows(part) as rows:
            for row in step.rows(part):
                posts = _posts(step, row)
                if not any(post.strip() for post in posts):
                    out.reject(row, "no posts")
                    continue
                text = _joined(step, posts[: step.params.get("keep")])
                masked, found = mask.subn(lambda match: step.params["mask_as"], text) if mask else (text, 0)
                counts.update(_counted(step, part, row, len(posts), text, masked, found))
                rows.write({**row, "text": masked})
        if not rows.count:
            raise DataError(
                f"{step.name}{'.' + part if part else ''}: no row has posts. Check columns: {{text: …}} and separator:."
            )
    return _facts(step, parts, counts)


def _pattern(names: list[str], inside: bool) -> re.Pattern[str] | None:
    """Matches a name in any case; `inside` also in the middle of longer words, else with a plural or possessive ending."""
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    if not either:
        return None
    return re.compile(either if inside else rf"(?<!\w)(?:{either})(?=(?:['’]?s|es|['’])?(?!\w))", re.IGNORECASE)


def _posts(step: Step, row: Row) -> list[str]:
    text = need(row, "text", "posts")
    separator = step.params.get("separator")
    if isinstance(text, str) and separator:
        return text.split(separator)
    if isinstance(text, list) and all(isinstance(post, str) for post in text):
        return text
    hint = (
        "Set separator: to what stands between two posts."
        if isinstance(text, str)
        else "It must be a text or a list of texts."
    )
    raise DataError(f"{where(row)}: text is a {type(text).__name__}. {hint}")


def _joined(step: Step, posts: list[str]) -> str:
    if step.params["number"]:
        posts = [f"{number}. {post}" for number, post in enumerate(posts, 1)]
    return "\n".join(posts)


def _counted(
    step: Step, part: Part, row: Row, posts: int, text: str, masked: str, found: int
) -> dict[tuple[Part, str], int]:
    """What is counted of a record. Whether it names its own type is asked of the letters alone, not of the mask's rules."""
    made = {"records": 1, "fewer than keep": int(posts < step.params.get("keep", 0)), "masked": found}
    own = _own(step, row)
    if own:
        made |= {"with a type": 1, "before": int(own in text.casefold()), "after": int(own in masked.casefold())}
    return {(part, name): count for name, count in made.items()}


def _own(step: Step, row: Row) -> str:
    try:
        found = pick(row, step.params.get("type", "type"))
    except (KeyError, TypeError):
        return ""
    return found.strip().casefold() if isinstance(found, str) else ""


def _facts(step: Step, parts: tuple[Part, ...], counts: Counter[tuple[Part, str]]) -> dict[str, Any]:
    def total(name: str) -> int:
        return sum(counts[part, name] for part in parts)

    metrics: dict[str, Any] = {"fewer_posts_than_keep": total("fewer than keep")}
    if step.params.get("mask"):
        metrics["masked"] = total("masked")
    typed = total("with a type")
    if not typed:
        return {"metrics": metrics}
    metrics["names_its_own_type"] = {name: total(name) / typed for name in ("before", "after")}
    rows = [[part or "all", *(counts[part, name] for name in ("with a type", "before", "after"))] for part in parts]
    table = {
        "title": "Records that name their own type",
        "columns": ["part", "records", "before masking", "after"],
        "rows": rows,
    }
    return {"metrics": metrics, "tables": [table]}
