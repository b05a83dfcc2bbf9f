"""Prompts: what they render to, what they may use, and that a hostile one reaches nothing and comes to an end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError

from runner.errors import DataError
from runner.prompts import evaluate, messages, render, system, uses
from runner.step import Prompt

# What it renders


def test_a_prompt_renders_to_messages_in_order_without_blank_ones() -> None:
    prompt = Prompt("p", ({"user": " Hi {{ name }} ", "system": "Be {{ texts.how }}.", "assistant": " "},))
    assert messages(prompt, {"name": "Ann"}, {"how": "kind"}) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi Ann"},
    ]
    assert system(prompt, {}, {"how": "curt"}) == "Be curt."
    assert system(Prompt("p", ({"user": "x"},))) is None and system(None) is None


def test_a_chain_renders_turn_by_turn() -> None:
    prompt = Prompt("p", ({"user": "one"}, {"user": "two {{ x }}"}))
    assert messages(prompt, {"x": 2}, turn=1) == [{"role": "user", "content": "two 2"}]


def test_words_are_cut_from_a_text() -> None:
    assert render("{{ t | words(0, 2) }}|{{ t | words(2) }}|{{ t | words }}", {"t": " a b\nc  d "}) == "a b|c d|a b c d"
    told = {"t": "*waves* Hi (aside) you (all *so* far"}
    assert render("{{ t | without('*', '*') | without('(', ')') | trim }}", told) == "Hi  you (all  far"
    assert evaluate("t | words | length >= 2", {"t": "a b"}) is True


def test_an_expression_keeps_its_type() -> None:
    assert evaluate("(a + b) / 2", {"a": 1, "b": 4}) == 2.5
    assert evaluate('rest != "" and n in [1, 2]', {"rest": "x", "n": 2}) is True
    assert evaluate("a ~ b", {"a": 1, "b": "x"}) == "1x"


def test_files_are_included_by_name_and_nothing_else_is() -> None:
    assert (
        render("{% include 'a.txt' %}!", {"x": 1}, {"a.txt": "[{{ x }}{% include 'b.txt' %}]", "b.txt": "b"}) == "[1b]!"
    )
    for name in ("../a.txt", "/etc/passwd", "b.txt"):
        with pytest.raises(DataError, match="prompt: "):
            render(f"{{% include '{name}' %}}", {}, {"a.txt": "x"})


@pytest.mark.parametrize("text", ["{{ nothing }}", "{{ row.nothing }}", "{{ row['x'].y }}", "{{ nothing.at.all }}", "{% for a in nothing %}{% endfor %}", "{{ texts.nothing }}", "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ row | nothing }}", "{{ x", "{% if %}", "{{ row() }}", "{{ [1][5] }}"])  # fmt: skip
def test_what_is_missing_or_fails_is_one_line(text: str) -> None:
    with pytest.raises(DataError) as caught:
        render(text, {"row": {"x": 1}, "texts": {}})
    assert (
        len(caught.value.lines) == 1
        and "\n" not in caught.value.lines[0]
        and caught.value.lines[0].startswith("prompt: ")
    )
    assert text[:20] in caught.value.lines[0].replace("\\'", "'")


@pytest.mark.parametrize("text", ["nothing.x > 1", "nothing ~ 'x'", "a >", "a b", ") + (", "1 / 0", ""])
def test_an_expression_that_fails_is_one_line(text: str) -> None:
    with pytest.raises(DataError, match=r"^expression: "):
        evaluate(text, {"a": 1})


# What it uses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", set()),
        ("{{ a }} {{ b.c }} {{ d['e'].f }}", {("a",), ("b", "c"), ("d", "e", "f")}),
        ("{{ texts.who[trait][level] }}", {("texts", "who", "?trait", "?level"), ("trait",), ("level",)}),
        ("{{ a[b + 1] }}", {("a", "?"), ("b",)}),
        ("{% for m in messages %}{{ m.role }} {{ loop.index }} {{ x }}{% endfor %}", {("messages",), ("x",)}),
        ("{% set y = a %}{{ y }}", {("a",)}),
        ("{% macro f(p) %}{{ p }} {{ q }}{% endmacro %}{{ f(r) }}", {("q",), ("r",)}),
        ("{% if a is defined %}{{ a }}{% endif %}", {("a",)}),
        ("{% for i in range(3) %}{{ i }}{% endfor %}{{ dict(x=a) }}", {("a",)}),
        ("{{ a.upper() }}", {("a", "upper")}),
        ("{{ a | join(b) }}", {("a",), ("b",)}),
        ("{# {{ a }} #}{% raw %}{{ b }}{% endraw %}", set()),
    ],
)
def test_the_variables_of_a_template_are_found(text: str, found: set[tuple[str, ...]]) -> None:
    assert uses(text)[0] == found


def test_the_variables_of_an_expression_and_the_names_of_includes_are_found() -> None:
    assert uses('aspect not in ["a"] and (text | words | length >= 20 or p.name in text)', True)[0] == {
        ("aspect",),
        ("text",),
        ("p", "name"),
    }
    assert uses("{% include 'a.txt' %}{% from 'b.txt' import x %}{% include name %}") == (
        {("name",)},
        {"a.txt", "b.txt"},
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{ a",
        "{{ a | nothing }}",
        "{% if a is nothing %}{% endif %}",
        "{% nothing %}",
        "{{ " + "(" * 20000,
        "{{ " + "9" * 5000 + " }}",
    ],
)
def test_what_is_no_template_is_a_syntax_error(text: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        uses(text)


@pytest.mark.parametrize("text", ["a)", "a) or (b", "a }} {{ b", "", "a b"])
def test_what_is_no_expression_is_a_syntax_error(text: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        uses(text, True)


# What a stranger's template may not do


class Thing:
    """An object as rows never hold, with a secret."""

    _hidden = "secret"

    def open(self) -> str:
        return "opened"


REACHING = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ ['x'] | groupby('__class__') | list }}",
    "{{ [{'a': 1}] | sum(attribute='a.__class__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ thing._hidden }}",
    "{{ thing.__dict__ }}",
    "{{ thing.open.__func__.__globals__ }}",
    "{{ row.update({'x': 2}) }}",
    "{{ items.append(1) }}",
    "{{ items.clear() }}",
    "{{ row.pop('x') }}",
    "{{ '{0.__class__}'.format('x') }}",
    "{{ '{0}'.format_map({}) }}",
    "{{ '%s' % 'x' }}",
    "{{ '%s' | format('x') }}",
    "{{ lipsum() }}",
    "{{ items | random }}",
    "{{ text.encode('utf-8') }}",
    "{% set row.x = 2 %}",
    "{% import 'os' as os %}",
    "{{ (1).__class__ }}",
    "{{ render.__globals__ }}",
    "{{ environment }}",
    "{{ spend(-1) }}",
    "{{ context }}",
]


@pytest.mark.parametrize("text", REACHING)
def test_a_template_reaches_no_object_and_changes_nothing(text: str) -> None:
    held: dict[str, Any] = {"row": {"x": 1}, "items": [1, 2], "text": "t", "thing": Thing()}
    try:
        made = render(text, held)
    except DataError as error:
        assert len(error.lines) == 1
    else:
        assert made.strip() == "" or ("class" not in made and "secret" not in made and "globals" not in made), made
    assert held["row"] == {"x": 1} and held["items"] == [1, 2]


GROWING = [
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [1] * 10**9 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 2 ** 64 ** 64 }}",
    "{{ 'x'.center(10**9) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x'.ljust(10**9) }}{{ 'x'.zfill(10**9) }}",
    "{{ 'x\t'.expandtabs(10**9) }}",
    "{{ ('x' * 10000).replace('x', 'y' * 10000) }}",
    "{{ ('x' * 10000) | replace('x', 'y' * 10000) }}",
    "{{ ('x' * 10000) | replace('', 'y' * 10000) }}",
    "{{ ('y' * 10000).join(['x'] * 10000) }}",
    "{{ (['x'] * 10000) | join('y' * 10000) }}",
    "{{ ('x\n' * 10000) | indent('y' * 10000) }}",
    "{{ ('x\n' * 10000) | indent(10000) }}",
    "{{ ('x ' * 10000) | wordwrap(1, true, 'y' * 10000) }}",
    "{{ 'x'.translate({120: 'y' * 100000}) }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}" + "text " * 1000 + "{% endfor %}",
    "{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string | length }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace(x=3) %}{% for i in range(64) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% include 'self.txt' %}",
    "{{ range(99999) | map('center', 10000) | join }}",
    "{{ range(99999) | map('string') | map('center', 10000) | list | length }}",
    "{{ [range(99999) | list] * 1000 }}",
    "{{ ([range(9999) | list] * 1000) | sum(start=[]) | length }}",
    "{% for i in [1] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{{ 'x' | slice(10**9) | list }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "-" * 3000 + "1 }}",
    "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{% if x %}" * 500,
]


@pytest.mark.parametrize("text", GROWING, ids=lambda text: text[:40])
def test_a_template_that_would_run_or_grow_for_ever_is_stopped(text: str) -> None:
    started = time.perf_counter()
    try:
        made = render(text, {"x": 1}, {"self.txt": "{% include 'self.txt' %}{% include 'self.txt' %}"})
    except DataError as error:
        assert len(error.lines) == 1
    else:
        assert len(made) < 10_000_000
    assert time.perf_counter() - started < 30  # a second where nothing else runs


def test_long_rows_are_handled_all_the_same() -> None:
    text = "word " * 50_000
    assert (
        len(render("{{ text | words(0, 40000) }} {{ text.replace('word', 'longer words') | length }}", {"text": text}))
        > 100_000
    )
    rows = [{"role": "user", "content": "x" * 100} for _ in range(2000)]
    assert len(render("{% for m in rows %}{{ m.role }}: {{ m.content }}\n{% endfor %}", {"rows": rows})) > 200_000


def test_one_rendering_does_not_use_up_the_next() -> None:
    for _ in range(20):
        assert len(render("{% for i in range(50000) %}x{% endfor %}", {})) == 50_000


def test_the_same_template_gives_the_same_text_every_time() -> None:
    text = "{{ {'b': 1, 'a': 2} }} {{ [3, 1] | sort }} {{ 1 / 3 }} {{ {'b': 1, 'a': 2} | tojson }}"
    assert len({render(text, {}) for _ in range(3)}) == 1


@settings(max_examples=300, deadline=5000)
@given(st.text(alphabet="{}%#|.()[]'~+-*/ abcif ndor set 019\n", max_size=60))
def test_any_template_renders_or_fails_in_one_line(text: str) -> None:
    for work in (lambda: render(text, {"a": 1, "b": "x"}), lambda: evaluate(text, {"a": 1, "b": "x"})):
        try:
            work()
        except DataError as error:
            assert "\n" not in error.lines[0]
    try:
        uses(text)
        uses(text, True)
    except TemplateSyntaxError:
        pass
