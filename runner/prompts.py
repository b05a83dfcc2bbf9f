"""Jinja, the one expression language: sandboxed, an undefined variable is an error, includes stay in their folder.

Prompts render to messages; `where:`, `when:` and `add:` are expressions and templates of the same language.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from jinja2 import DictLoader, StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.errors import DataError
from runner.step import Prompt

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
MOST_REPEATED = 1_000_000


class _Sandbox(ImmutableSandboxedEnvironment):
    """No attribute of Python is reachable, nothing can be changed, and no product or power grows without bound."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator_name: str, left: Any, right: Any) -> Any:
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        counts = [side for side in (left, right) if isinstance(side, int)]
        if operator_name == "**" and isinstance(right, int | float) and abs(right) > 64:
            raise TemplateError(f"the power {right} is too large")
        if sizes and counts and max(sizes) * max(counts) > MOST_REPEATED:
            raise TemplateError("a repetition is too long")
        compute: Callable[[Any, Any], Any] = operator.mul if operator_name == "*" else operator.pow
        return compute(left, right)


def words(text: str, first: int = 0, last: int | None = None) -> str:
    """The words of a text from number `first` (from 0) up to, not with, `last`."""
    return " ".join(text.split()[first:last])


@cache
def _environment(includes: tuple[tuple[str, str], ...] = ()) -> _Sandbox:
    made = _Sandbox(undefined=StrictUndefined, loader=DictLoader(dict(includes)), keep_trailing_newline=False)
    made.filters["words"] = words
    return made


@cache
def _template(text: str, includes: tuple[tuple[str, str], ...]) -> Template:
    return _environment(includes).from_string(text)


def render(text: str, variables: dict[str, Any], includes: dict[str, str] | None = None) -> str:
    """Render a template. Raises DataError in one line where a variable is missing or the template fails."""
    try:
        return _template(text, tuple(sorted((includes or {}).items()))).render(variables)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise DataError(f"prompt: {error}. In: {text.strip()[:60]!r}") from error


@cache
def _expression(text: str) -> Any:
    return _environment().compile_expression(text, undefined_to_none=False)


def evaluate(text: str, variables: dict[str, Any]) -> Any:
    """The value of an expression such as `rest != ""`. Raises DataError as `render` does."""
    try:
        return _expression(text)(**variables)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise DataError(f"expression: {error}. In: {text.strip()[:60]!r}") from error


def messages(prompt: Prompt, variables: dict[str, Any], texts: dict[str, Any] | None = None, turn: int = 0) -> list[Message]:
    """One turn of a prompt as messages, in the order system, user, assistant; roles that it lacks or leaves blank are left out."""
    held = {**variables, "texts": texts or {}}
    rendered = ((role, prompt.turns[turn].get(role)) for role in ROLES)
    made = [(role, render(text, held, prompt.includes).strip()) for role, text in rendered if text is not None]
    return [{"role": role, "content": content} for role, content in made if content]


def system(prompt: Prompt | None, variables: dict[str, Any] | None = None, texts: dict[str, Any] | None = None) -> str | None:
    """The system text of a prompt, None where it has none."""
    text = prompt.turns[0].get("system") if prompt else None
    return render(text, {**(variables or {}), "texts": texts or {}}, prompt.includes).strip() if prompt and text else None


# What a template uses, found without rendering it.

Use = tuple[str, ...]


def uses(text: str, expression: bool = False) -> tuple[set[Use], set[str]]:
    """The variables that a template needs from outside, as paths ('profile', 'tone'), and the names of its includes.

    A path stops where an index is not a constant; such an index stands in it as '?name'.
    Raises jinja2.TemplateSyntaxError.
    """
    tree = _environment().parse("{{ (" + text + ") }}" if expression else text)
    bound = {name for node in tree.find_all((nodes.Name, nodes.Macro)) for name in _bound(node)}
    found = {path for path in _paths(tree) if path[0] not in bound | {"loop"}}
    includes = {
        node.template.value for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)) if isinstance(node.template, nodes.Const)
    }
    return found, includes


def _bound(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Name) and node.ctx in ("store", "param"):
        yield node.name
    if isinstance(node, nodes.Macro):
        yield node.name


def _paths(node: nodes.Node) -> Iterator[Use]:
    """Every variable path below a node, the longest first where one holds another."""
    path = _path(node)
    if path:
        yield path
        while isinstance(node, nodes.Getattr | nodes.Getitem):
            if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const):
                yield from _paths(node.arg)
            node = node.node
        return
    for child in node.iter_child_nodes():
        yield from _paths(child)


def _path(node: nodes.Node) -> Use | None:
    if isinstance(node, nodes.Name):
        return (node.name,) if node.ctx == "load" else None
    if isinstance(node, nodes.Getattr):
        before = _path(node.node)
        return (*before, node.attr) if before else None
    if isinstance(node, nodes.Getitem):
        before = _path(node.node)
        if before is None:
            return None
        if isinstance(node.arg, nodes.Const):
            return (*before, str(node.arg.value))
        return (*before, f"?{node.arg.name}") if isinstance(node.arg, nodes.Name) else (*before, "?")
    return None
