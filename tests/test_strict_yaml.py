"""YAML is read strictly: what is read, with its place; and one clear line for whatever cannot be."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import strict_yaml
from runner.problems import Invalid
from runner.strict_yaml import Map, Seq, parse, read


def said(text: str) -> str:
    """The one line that a bad text gives."""
    with pytest.raises(Invalid) as caught:
        parse(text, "a.yaml")
    assert len(caught.value.lines) == 1
    return caught.value.lines[0]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0", 0),
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("2.", 2.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1101061234567890101", 1101061234567890101),  # an id of nineteen digits stays exact
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("2024-01-31", "2024-01-31"),
        ("12:30:45", "12:30:45"),
        ("007", "007"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1..5", "1..5"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ('"1"', "1"),
        ("'true'", "true"),
    ],
)
def test_a_word_is_what_a_user_takes_it_for(word: str, value: Any) -> None:
    made = parse(f"key: {word}\n", "a.yaml")["key"]
    assert made == value and type(made) is type(value)


def test_every_key_and_value_knows_its_place() -> None:
    doc = parse("a:\n  b: [1, two]\nc: x\n", "a.yaml")
    assert isinstance(doc, Map) and isinstance(doc["a"]["b"], Seq)
    assert str(doc.keys_at["c"]) == "a.yaml:3:1" and str(doc.values_at["c"]) == "a.yaml:3:4"
    assert str(doc["a"].keys_at["b"]) == "a.yaml:2:3" and str(doc["a"]["b"].items_at[1]) == "a.yaml:2:10"


def test_keys_are_words_whatever_they_look_like() -> None:
    assert list(parse("1: a\ntrue: b\nnull: c\n", "a.yaml")) == ["1", "true", "null"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: key 'a' appears twice; the first is at line 1. Remove one."),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second YAML document. A recipe is one document: remove the '---'."),
        (
            "a: !!python/object:os.system x\n",
            "a.yaml:1:4: the tag !!python/object:os.system means nothing here. Remove it;",
        ),
        ("a: !!set {x: null}\n", "a.yaml:1:4: the tag !!set means nothing here."),
        ("a: {b: ${x}}\n", '${x} stands unquoted inside braces, where YAML reads it otherwise. Write "${x}".'),
        ("{a: b}: c\n", "a.yaml:1:1: a list or mapping as a key. Keys are words;"),
        ("a: {{ x }}\n", "a list or mapping as a key."),
        ("<<: {a: 1}\n", "a.yaml:1:1: merge keys (<<) are no part of the recipe language. Use like: other-step."),
        ("a: *b\n", "a.yaml:1:4: *b names no finished anchor. Define &b above, not around it."),
        ("a: &x [*x]\n", "a.yaml:1:8: *x names no finished anchor."),
        ("a: &x {b: *x}\n", "*x names no finished anchor."),
        ("a:\n\tb: 1\n", "a.yaml:2:1: a tab. Indent with spaces."),
        ("a: 1\n<<<<<<< HEAD\nb: 2\n", "a.yaml:2:"),
        ("a: [1, 2\nb: 3\n", "not YAML: "),
        ('a: "open\n', "not YAML: "),
        ("a: @b\n", "a.yaml:1:4: not YAML: "),
        ("a: \0\n", "a.yaml:1:4: the character U+0000 may not stand in YAML. Remove it."),
        ("a: b\nc: \x07\n", "a.yaml:2:4: the character U+0007 may not stand in YAML. Remove it."),
        ("a: \ud800\n", "a.yaml:1:4: the character U+D800 may not stand in YAML. Remove it."),
        ("[" * 50 + "]" * 50, "a.yaml:1:41: nested more than 40 deep. Nothing in a recipe is."),
    ],
)
def test_a_slip_is_named_where_it_is(text: str, line: str) -> None:
    assert line in said(text)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a: caf\xe9\n", "1:7: not UTF-8. Save the file as UTF-8."),
        ("a: 1\n".encode("utf-16"), "1:1: not UTF-8. Save the file as UTF-8."),
        (b"a: 1\nb: \xff\xfe\n", "2:4: not UTF-8."),
        (b"# " + b"x" * 10_000_000, "1:1: longer than 1,000,000 bytes, which no recipe is. Keep data in datasets/."),
    ],
)
def test_bytes_that_are_no_recipe_give_one_line(tmp_path: Path, data: bytes, line: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(Invalid) as caught:
        read(path, "a.yaml")
    assert caught.value.lines[0].startswith(f"a.yaml:{line}")


def test_a_file_that_cannot_be_opened_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="a folder: cannot be read: "):
        read(tmp_path, "a folder")
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["\ufeffa: 1\nb: [2]\n", "a: 1\r\nb: [2]\r\n", "a: 1\nb:\n  - 2", "a: 1\rb: [2]\r"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode())
    assert read(path) == {"a": 1, "b": [2]}


def test_an_empty_file_is_nothing() -> None:
    assert parse("", "a.yaml") is None
    assert parse("# only this\n", "a.yaml") is None


def test_an_anchor_can_be_used_again() -> None:
    assert parse("a: &x {b: [1]}\nc: *x\nd: &y 3\ne: *y\n", "a.yaml")["c"] == {"b": [1]}


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(names)]
    started = time.perf_counter()
    assert "more than 50,000 values. Keep data in datasets/." in said("\n".join(lines))
    assert time.perf_counter() - started < 2


def test_aliases_cannot_nest_deeper_than_text_can() -> None:
    lines = ["a0: &a0 [[[[[[[[[[x]]]]]]]]]]"]
    lines += [f"a{at + 1}: &a{at + 1} [[[[[[[[*a{at}]]]]]]]]" for at in range(10)]
    assert "nested more than 40 deep" in said("\n".join(lines))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:{}[]-&*!|>'\"#%@`, \n\t?0.e", max_size=80))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse(text, "a.yaml")
    except Invalid as invalid:
        assert len(invalid.lines) == 1 and invalid.lines[0].startswith("a.yaml")
        assert "\n" not in invalid.lines[0]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        read(path)
    except Invalid as invalid:
        assert len(invalid.lines) == 1


def test_both_parsers_of_pyyaml_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'a: {b: [1, "x", &n {c: 1e-4}], d: *n}\ne: |\n  two\n  lines\n'
    first = parse(text, "a.yaml")
    monkeypatch.setattr(strict_yaml, "_LOADER", yaml.SafeLoader)
    second = parse(text, "a.yaml")
    assert first == second and first.values_at == second.values_at
    assert "U+0007" in said("a: b\nc: \x07\n") and "a tab" in said("a:\n\tb: 1\n")


def test_a_long_line_of_open_references_is_no_trap() -> None:
    started = time.perf_counter()
    said("a: {" + "${" * 200_000)
    assert time.perf_counter() - started < 5
