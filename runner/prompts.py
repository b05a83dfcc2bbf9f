"""Jinja, the one expression language: sandboxed, an undefined variable is an error, includes stay in their folder.

Prompts render to messages; `where:`, `when:` and `add:` are expressions and templates of the same language.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.parser import Parser

from runner.errors import DataError
from runner.sandbox import Sandbox, words
from runner.step import Prompt

__all__ = ["evaluate", "messages", "render", "system", "uses", "words"]

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
    MemoryError,
    SyntaxError,
)


@cache
def _environment(includes: tuple[tuple[str, str], ...] = ()) -> Sandbox:
    return Sandbox(dict(includes))


@lru_cache(maxsize=10_000)
def _template(text: str, includes: tuple[tuple[str, str], ...]) -> Template:
    return _environment(includes).from_string(text)


def render(text: str, variables: dict[str, Any], includes: dict[str, str] | None = None) -> str:
    """Render a template. Raises DataError in one line where a variable is missing or the template fails."""
    held = tuple(sorted((includes or {}).items()))
    _environment(held).begin()
    try:
        return _template(text, held).render(variables)
    except FAILURES as error:
        raise DataError(f"prompt: {_said(error)}. In: {text.strip()[:60]!r}") from error


@lru_cache(maxsize=10_000)
def _expression(text: str) -> Any:
    return _environment().compile_expression(text, undefined_to_none=False)


def evaluate(text: str, variables: dict[str, Any]) -> Any:
    """The value of an expression such as `rest != ""`. Raises DataError as `render` does."""
    _environment().begin()
    try:
        return _expression(text)(**variables)
    except FAILURES as error:
        raise DataError(f"expression: {_said(error)}. In: {text.strip()[:60]!r}") from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def messages(
    prompt: Prompt, variables: dict[str, Any], texts: dict[str, Any] | None = None, turn: int = 0
) -> list[Message]:
    """One turn of a prompt as messages: system, user, assistant; roles that it lacks or leaves blank are left out."""
    held = {**variables, "texts": texts or {}}
    rendered = ((role, prompt.turns[turn].get(role)) for role in ROLES)
    made = [(role, render(text, held, prompt.includes).strip()) for role, text in rendered if text is not None]
    return [{"role": role, "content": content} for role, content in made if content]


def system(
    prompt: Prompt | None, variables: dict[str, Any] | None = None, texts: dict[str, Any] | None = None
) -> str | None:
    """The system text of a prompt, None where it has none."""
    text = prompt.turns[0].get("system") if prompt else None
    return (
        render(text, {**(variables or {}), "texts": texts or {}}, prompt.includes).strip() if prompt and text else None
    )


# What a template uses, found without rendering it.

Use = tuple[str, ...]
_INCLUDES: tuple[Any, ...] = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@lru_cache(maxsize=10_000)
def uses(text: str, expression: bool = False) -> tuple[frozenset[Use], frozenset[str]]:
    """The variables that a template needs from outside, as paths ('profile', 'tone'), and the names of its includes.

    A path stops where an index is not a constant; such an index stands in it as '?name'.
    Raises jinja2.TemplateSyntaxError, also for a filter that does not exist.
    """
    environment = _environment()
    try:
        tree = _parsed(text, environment) if expression else environment.parse(text)
        free = meta.find_undeclared_variables(tree) - set(environment.globals)
    except (ValueError, RecursionError, MemoryError) as error:
        raise TemplateSyntaxError(f"{_said(error)}", 1) from error
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        known, what = (environment.filters, "filter") if isinstance(node, nodes.Filter) else (environment.tests, "test")
        if node.name not in known:  # Jinja leaves this to the rendering where it stands inside an if
            raise TemplateSyntaxError(f"No {what} named {node.name!r}.", node.lineno)
    found = frozenset(path for path in _paths(tree) if path[0] in free)
    sources: list[Any] = [node.template for kind in _INCLUDES for node in tree.find_all(kind)]
    return found, frozenset(str(source.value) for source in sources if isinstance(source, nodes.Const))


def _parsed(text: str, environment: Sandbox) -> nodes.Template:
    """An expression as the template that writes it."""
    parser = Parser(environment, text, state="variable")
    tree = nodes.Template([nodes.Output([parser.parse_expression()], lineno=1)], lineno=1)
    if not parser.stream.eos:
        raise TemplateSyntaxError("something follows the expression", 1)
    return tree.set_environment(environment)  # type: ignore[return-value]


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
