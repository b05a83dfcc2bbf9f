"""Jinja that a stranger's recipe may run: it reaches no Python object, leaves nothing to chance and comes to an end."""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

from jinja2 import DictLoader, StrictUndefined, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_TEXT = 2_000_000  # characters of a text, or of all that a list holds
MOST_WORK = 50_000_000  # characters handled in one rendering
ROUND = 250  # what one round of a loop counts for
MOST_NUMBER = 10**100
FORBIDDEN = ("format", "format_map", "translate", "encode")  # of texts; {{ }} does what these are for

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "*": operator.mul,
    "**": operator.pow,
    "+": operator.add,
    "%": operator.mod,
}


class Sandbox(ImmutableSandboxedEnvironment):
    """No attribute of Python is reachable, nothing can be changed, and loops, texts, lists and numbers are bounded."""

    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self, includes: dict[str, str]) -> None:
        super().__init__(undefined=StrictUndefined, loader=DictLoader(includes), finalize=self._written)
        self._work = threading.local()
        self.filters["words"] = words
        self.filters["without"] = without
        for name in ("random", "format"):  # chance; and what grows by a number in a text
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: self._bounded(name, made) for name, made in self.filters.items()}

    def begin(self) -> None:
        """A new rendering: nothing is used up."""
        self._work.left = MOST_WORK

    def spend(self, amount: int) -> str:
        """Count work; the start of every loop's round and every macro calls this. Raises TemplateError."""
        self._work.left = getattr(self._work, "left", MOST_WORK) - amount
        if self._work.left < 0:
            raise TemplateError("it goes on too long")
        return ""

    def glued(self, *parts: Any) -> str:
        """`a ~ b`."""
        self.spend(_weight(parts))
        return "".join(map(str, parts))

    def _written(self, value: Any) -> Any:
        self.spend(_weight(value))
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Counted().visit(tree)
        return tree

    def call_binop(self, context: Any, operator_name: str, left: Any, right: Any) -> Any:
        numbers = [side for side in (left, right) if isinstance(side, int | float)]
        if operator_name == "**" and (len(numbers) < 2 or abs(right) > 64 or abs(left) > MOST_NUMBER):
            raise TemplateError(f"the power {right!s:.20} is too large")
        if operator_name == "%" and isinstance(left, str):
            raise TemplateError("write {{ }} in place of %")
        if len(numbers) < 2:
            sizes = [abs(int(side)) if side in numbers else _weight(side) for side in (left, right)]
            _bound(sizes[0] * sizes[1] if operator_name == "*" else sum(sizes))
        made = _OPERATORS[operator_name](left, right)
        if isinstance(made, int) and abs(made) > MOST_NUMBER:
            raise TemplateError("a number grows too large")
        return made

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        name, held = getattr(obj, "__name__", ""), getattr(obj, "__self__", None)
        if isinstance(held, str | list | tuple | dict):
            if name in FORBIDDEN:
                raise TemplateError(f"write {{{{ }}}} in place of {name}()")
            self.spend(_growth(name, (held, *args, *kwargs.values())))
        return super().call(context, obj, *args, **kwargs)

    def _bounded(self, name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(made)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            listed = [_listed(value) if isinstance(value, GeneratorType) else value for value in args]
            self.spend(_growth(name, (*listed, *kwargs.values())))
            return made(*listed, **kwargs)

        return bounded


class _Counted(NodeTransformer):
    """Counts every round of a loop and every macro, and bounds `~`."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's way to name them
        self.generic_visit(node)
        return _call("glued", node.nodes)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        return self._count(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._count(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._count(node)

    def _count(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.body.insert(0, nodes.ExprStmt(_call("spend", [nodes.Const(ROUND + text)])))
        return node


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def words(text: str, first: int = 0, last: int | None = None) -> str:
    """The words of a text from number `first` (from 0) up to, not with, `last`."""
    return " ".join(text.split()[first:last])


def without(text: str, start: str, end: str) -> str:
    """A text without what stands from one mark to the next other one, marks included: `*waves* hello` is ` hello`."""
    made, at = "", 0
    while start and end and (found := text.find(start, at)) >= 0:
        closed = text.find(end, found + len(start))
        if closed < 0:
            break
        made, at = made + text[at:found], closed + len(end)
    return made + text[at:]


def _weight(value: Any) -> int:
    """About how many characters a value is when written. Raises TemplateError beyond the bound."""
    total, waiting = 0, [value]
    while waiting:
        held = waiting.pop()
        total += len(held) if isinstance(held, str) else 8
        if isinstance(held, dict):
            waiting += [*held.keys(), *held.values()]
        elif isinstance(held, list | tuple | set):
            waiting += held
        _bound(total + len(waiting))
    return total


def _growth(name: str, args: tuple[Any, ...]) -> int:
    """About how many characters a filter or method handles. Raises TemplateError beyond the bound."""
    args = tuple(value for value in args if isinstance(value, str | list | tuple | dict | set | int | float))
    total = sum(map(_weight, args)) + max((abs(value) for value in args if isinstance(value, int)), default=0)
    texts = [value for value in args if isinstance(value, str)]
    if name == "replace" and len(texts) > 2:
        total += texts[0].count(texts[1]) * len(texts[2])
    elif name in ("join", "indent", "wordwrap", "expandtabs") and args:
        sizes = [abs(value) if isinstance(value, int) else _weight(value) for value in args[1:]]
        first = args[0]
        total += (len(first) if isinstance(first, str | list | tuple) else 1) * max(sizes, default=1) if sizes else 0
    elif name == "sum" and any(isinstance(value, list | tuple) for value in args[1:]):
        raise TemplateError("sum is for numbers")
    _bound(total)
    return total


def _bound(size: float) -> None:
    if size > MOST_TEXT:
        raise TemplateError("a text or list grows too long")


def _listed(items: Iterable[Any]) -> list[Any]:
    """What a filter passes on one by one, bounded as a whole."""
    made, total = [], 0
    for item in items:
        total += _weight(item)
        _bound(total)
        made.append(item)
    return made
