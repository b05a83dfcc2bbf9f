"""What `add:` and `where:` say, worked out for a row: a single expression keeps its type, all else is text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from types import GeneratorType
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, Undefined, nodes

from runner import prompts
from runner.errors import DataError
from runner.files import Row, where
from runner.step import Step, pick

_WHOLE = re.compile(r"\{\{[-+]?(.*?)[-+]?\}\}", re.DOTALL)


def variables(step: Step, row: Row) -> dict[str, Any]:
    """What a template of a step may use: the columns, the step's matrix values, and texts."""
    return {**row, **step.matrix, "texts": step.texts}


def value(template: Any, held: dict[str, Any]) -> Any:
    """The value of a template: of one `{{ expression }}` as it is, else text; what is no text is taken literally.

    Raises DataError where a variable is missing or the value cannot be written as JSON.
    """
    if not isinstance(template, str):
        return template
    expression = _single(template)
    return prompts.render(template, held) if expression is None else evaluate(expression, held)


def evaluate(expression: str, held: dict[str, Any]) -> Any:
    """The value of an expression as JSON. Raises DataError as `value` does."""
    return _json(prompts.evaluate(expression, held), expression)


@cache
def _single(template: str) -> str | None:
    """The expression of a template that is nothing but one `{{ … }}`, else None."""
    text = template.strip()
    try:
        body = Environment().parse(text).body
    except TemplateSyntaxError:
        return None  # rendering it says what is wrong
    output = body[0] if len(body) == 1 else None
    if (
        not isinstance(output, nodes.Output)
        or len(output.nodes) != 1
        or isinstance(output.nodes[0], nodes.TemplateData)
    ):
        return None
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else None


def _json(found: Any, expression: str) -> Any:
    if isinstance(found, Undefined):
        raise DataError(f"expression: a variable is missing. In: {expression.strip()[:60]!r}")
    if isinstance(found, Mapping):
        return {str(key): _json(item, expression) for key, item in found.items()}
    if isinstance(found, list | tuple | GeneratorType):
        return [_json(item, expression) for item in found]
    if found is None or isinstance(found, str | int) or (isinstance(found, float) and math.isfinite(found)):
        return found
    raise DataError(
        f"expression: its value {found!r:.40} is nothing that a row can hold. In: {expression.strip()[:60]!r}"
    )


def need(row: Row, column: str, key: str) -> Any:
    """The value of a column, or of a path such as 'profile.tone'. Raises DataError where there is none."""
    try:
        found = pick(row, column)
    except (KeyError, TypeError):
        found = None
    if found is None:
        raise DataError(
            f"{where(row)}: no value in column '{column}', which {key}: needs. Fill it, or drop such rows before."
        )
    return found
