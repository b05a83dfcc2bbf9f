"""One step for each combination, ${name} filled in, and siblings that find each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.matrix import slug
from tests.language import Language, spoken


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


BASE = """\
recipe: 1
matrix: {trait: [warm, cold], alpha: [0.5, 1, 2.0]}
models: {base: smollm2-135m}
decoding: {plain: {mode: sample}}
steps:
  chats: {preprocess: read, folder: datasets/chats}
"""
ADD = "  made: {matrix: [trait, alpha], preprocess: shape, from: chats, add: "


def bodies(language: Language, text: str) -> dict[str, dict[str, Any]]:
    return {node.name: dict(node.body) for node in language.load(BASE + text).nodes if node.name != "chats"}


def test_a_step_becomes_one_for_each_combination_in_order(language: Language) -> None:
    made = bodies(language, ADD + '{a: "${trait}", b: "${alpha}", c: "at ${alpha} of ${trait}"}}\n')
    names = ["made-warm-0-5", "made-warm-1", "made-warm-2-0", "made-cold-0-5", "made-cold-1", "made-cold-2-0"]
    assert list(made) == names
    assert made["made-cold-0-5"]["add"] == {"a": "cold", "b": 0.5, "c": "at 0.5 of cold"}


def test_a_whole_reference_keeps_its_type_and_three_dots_give_the_whole_list(language: Language) -> None:
    text = (
        '  made: {matrix: {on: [true, false]}, preprocess: shape, from: chats, takes: "${names...}", where: "${on}"}\n'
    )
    base = BASE.replace("matrix: {", "matrix: {names: [id, text], ").replace(
        "datasets/chats}", "datasets/chats}\n" + text
    )
    found = language.errors(base)
    assert found == [
        '7:100: steps.made.where: false is not text. Write "false". A text.',
        '7:100: steps.made.where: true is not text. Write "true". A text.',
    ]
    base = base.replace(', where: "${on}"', ', where: "${on} == ${on}"')
    nodes = {node.name: node for node in language.load(base).nodes}
    assert nodes["made-true"].body["takes"] == ["id", "text"] and nodes["made-true"].body["where"] == "true == true"


def test_lists_of_a_steps_own_work_like_declared_ones(language: Language) -> None:
    made = bodies(
        language,
        '  made: {matrix: {who: [a, b], n: [1]}, preprocess: shape, from: chats, add: {x: "${who}", y: "${who...}${n}"}}\n',
    )
    assert made["made-a-1"]["add"] == {"x": "a", "y": "a, b1"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (ADD + '{a: "${trati}"}}\n', "steps.made.add.a: ${trati} stands for nothing here. Did you mean 'trait'?"),
        (
            ADD + '{a: "${trait"}}\n',
            "steps.made.add.a: '${trait' holds a broken ${…}. Write ${name} with a name under matrix:.",
        ),
        (ADD + '{a: "${ trait }"}}\n', "steps.made.add.a: '${ trait }' holds a broken ${…}."),
        (
            ADD.replace("[trait, alpha]", "[trait]") + '{a: "${alpha}"}}\n',
            "Add it to the step's matrix: [trait, alpha].",
        ),
        (ADD.replace("matrix: [trait, alpha], ", "") + '{a: "${trait}"}}\n', "Add it to the step's matrix: [trait]."),
        (
            ADD.replace("[trait, alpha]", "[trait, alpah]") + "{a: b}}\n",
            "7:26: steps.made.matrix: no list 'alpah'. Did you mean 'alpha'?",
        ),
        (
            ADD.replace("[trait, alpha]", "{x: [a b, a.b]}") + '{a: "${x}"}}\n',
            "two combinations are both named 'made-a-b'.",
        ),
        (
            ADD.replace("[trait, alpha]", "{x: [1], y: [2]}") + '{a: "${x}"}}\n',
            "steps.made.matrix: 'y' changes nothing in this step.",
        ),
    ],
)
def test_a_reference_that_means_nothing_is_named_once(language: Language, text: str, line: str) -> None:
    found = language.errors(BASE + text)
    assert len(found) == 1 and line in found[0]


def test_a_value_that_stands_twice_in_a_list_is_a_problem(language: Language) -> None:
    found = language.errors(BASE.replace("[warm, cold]", "[warm, cold, warm]"))
    assert found == ["2:30: matrix.trait: 'warm' stands here twice. Remove one."]


def test_too_many_combinations_are_refused_at_once(language: Language) -> None:
    wide = ", ".join(f"l{at}: [{', '.join(map(str, range(40)))}]" for at in range(10))
    started = time.perf_counter()
    found = language.errors(BASE + ADD.replace("[trait, alpha]", f"{{{wide}}}") + "{a: b}}\n")
    assert "combinations. At most 1,000: run over fewer lists." in found[0]
    assert time.perf_counter() - started < 2


def test_a_combination_may_not_take_another_steps_name(language: Language) -> None:
    found = language.errors(
        BASE + ADD.replace(", alpha]", "]") + '{a: "${trait}"}}\n  made-warm: {preprocess: join, from: chats}\n'
    )
    assert any(
        "a combination is named 'made-warm', as is one of 'made-warm'" in one or "as is one of 'made'" in one
        for one in found
    )


def test_a_step_and_a_model_may_not_share_a_name(language: Language) -> None:
    found = language.errors(BASE + "  base: {preprocess: join, from: chats}\n")
    assert found == ["7:3: steps.base: a model has this name too. Rename one: models and steps share their names."]


def test_a_matrix_key_that_changes_nothing_in_a_trained_step_is_a_problem(language: Language) -> None:
    text = "  voice: {matrix: [trait], train: learn, from: chats, columns: {label: id}, model: base}\n  look: {evaluate: look, model: voice}\n"
    found = language.errors(BASE + text)
    assert found == [
        "7:19: steps.voice.matrix: 'trait' changes nothing in this step. Use ${trait} in it, or take it out."
    ]


def test_a_matrix_key_can_be_there_for_the_steps_that_read_it(language: Language) -> None:
    text = (
        ADD.replace(", alpha]", "]")
        + "{a: b}}\n  all: {preprocess: join, from: made}\n  look: {evaluate: look, model: base, from: all, by: trait}\n"
    )
    assert language.errors(BASE + text) == []


HIDES = (
    "  all: {preprocess: shape, from: chats, add: {trait: x}}\n  made: {matrix: [trait], preprocess: shape, from: all, "
)


def test_a_list_that_hides_a_column_in_an_expression_is_a_problem(language: Language) -> None:
    found = language.errors(BASE + HIDES + "where: \"trait == 'warm'\"}\n")
    said = "steps.made.where: 'trait' is a list that the step runs over and a column too"
    assert found == [f"8:64: {said}, and here the list's value hides the column. Rename one of them."]


def test_a_list_that_hides_a_column_in_a_template_is_a_warning(language: Language) -> None:
    text = BASE + HIDES + "add: {of: '{{ trait }}'}}\n"
    assert language.errors(text) == []
    assert any("steps.made.add.of: 'trait' is a list" in one for one in language.warnings(text))


def test_a_list_with_the_name_of_a_column_that_nothing_asks_for_is_fine(language: Language) -> None:
    text = BASE + HIDES + "where: \"text == '${trait}'\"}\n"
    assert not [one for one in language.problems(text) if "hides" in one.message]


def test_a_list_that_no_step_runs_over_is_a_warning(language: Language) -> None:
    assert "matrix.alpha: no step runs over this list." in language.warnings(BASE)


@pytest.mark.parametrize(
    ("value", "name"), [("openness", "openness"), (0.5, "0-5"), (True, "true"), ("a/b c", "a-b-c"), ("…", "x")]
)
def test_a_value_is_part_of_a_name(value: Any, name: str) -> None:
    assert slug(value) == name
