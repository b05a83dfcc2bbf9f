"""What `check` knows of rows that were shaped: nothing has to run for a wrong column to be found."""

from __future__ import annotations

import pytest

from runner import recipe as recipes

HEAD = """\
recipe: 1
title: Shapes
models: {minilm: minilm, base: smollm2-135m}
decoding: {plain: {mode: greedy, max_new_tokens: 9}}
prompts:
  ask: {user: "{{ facts }}"}
  voice: {system: "You are {{ role }}: {{ me.name }}, not {{ other.name }}.", assistant: "{{ utterance }}"}
steps:
  people: {preprocess: table, folder: data}
  one:    {preprocess: select, from: people, add: {who: ann, said: "{{ posts }}!"}, keep: [id, name, who, said]}
  two:    {like: one, add: {who: bob, said: "{{ posts }}?"}}
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """The problems of a recipe with these steps, without their places; unused steps are no matter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/people.csv").write_text("name,type,posts,score\nAnn,INTJ,a|b,1\n", encoding="utf-8")

    def problems(*steps: str) -> list[str]:
        path = tmp_path / "shapes.yaml"
        path.write_text(HEAD + "".join(f"  {step}\n" for step in steps), encoding="utf-8")
        return [found.message for found in recipes.check(path) if not found.warning]

    return problems


@pytest.mark.parametrize(
    "steps",
    [
        [
            "a: {preprocess: select, from: people, rename: {text: posts}, add: {n: '{{ text | length }}'}, where: n > 3, drop: [text]}"
        ],
        [
            "a: {preprocess: label, from: people, column: type, letters: [EI, JP]}",
            "b: {preprocess: select, from: a, where: EI == 'I'}",
        ],
        [
            "a: {preprocess: label, from: people, columns: {value: score}, tertiles: [low, drop, high], into: level}",
            "b: {preprocess: select, from: a, keep: [level]}",
        ],
        ["a: {preprocess: posts, from: people, columns: {text: posts}, separator: '|'}"],
        [
            "a: {preprocess: collect, from: [one, two], key: who, value: said, spread: true}",
            "b: {preprocess: select, from: a, where: ann != bob}",
        ],
        [
            "a: {preprocess: collect, from: [one, two], key: who, value: said}",
            "b: {preprocess: select, from: a, where: said.ann != said.bob}",
        ],
        [
            "a: {preprocess: collect, from: people, column: posts, draw: {rows: 2, times: 2}}",
            "b: {preprocess: posts, from: a, columns: {text: posts}}",
        ],
        [
            "a: {preprocess: pairing, from: people, as: [x, y]}",
            "b: {preprocess: select, from: a, add: {turns: '{{ [x.name, y.name] }}'}}",
            "c: {preprocess: examples, from: b, speaker: x, prompt: voice, keep: [x]}",
            "d: {preprocess: select, from: c, where: x.name and messages}",
        ],
        ["a: {preprocess: select, from: people, rename: {text: posts}, refusals: drop}"],
        ["a: {preprocess: select, from: people, add: {text: '{{ posts }}'}, refusals: drop}"],
        ["a: {preprocess: split, from: people, columns: {time: posts}, order: time, test: 0.1}"],
        [
            "a: {preprocess: collect, from: [one, two], key: who, value: said, into: all}",
            "b: {preprocess: select, from: a, where: all.ann}",
        ],
        ["a: {preprocess: mix, from: [one, two], repeat: [1, 2]}", "b: {preprocess: select, from: a, where: said}"],
        [
            "a: {preprocess: explode, from: people, column: posts, key: k, value: v}",
            "b: {preprocess: select, from: a, where: k and v and record}",
        ],
    ],
)
def test_shaped_rows_are_known(check, steps):
    assert check(*steps) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (["a: {preprocess: select, from: people, where: scor > 1}"], "scor"),
        (
            ["a: {preprocess: select, from: people, drop: [score]}", "b: {preprocess: select, from: a, where: score}"],
            "score",
        ),
        (["a: {preprocess: select, from: people, rename: {text: posts}, where: posts}"], "posts"),
        (["a: {preprocess: select, from: people, refusals: drop}"], "text"),
        (["a: {preprocess: select, from: people, together: topic}"], "topic"),
        (["a: {preprocess: label, from: people, normal: true}"], "value"),
        (["a: {preprocess: posts, from: people}"], "text"),
        (["a: {preprocess: posts, from: people, columns: {text: posts}, type: kind}"], "kind"),
        (
            [
                "a: {preprocess: collect, from: [one, two], key: who, value: said, spread: true}",
                "b: {preprocess: select, from: a, where: eve}",
            ],
            "eve",
        ),
        (
            [
                "a: {preprocess: collect, from: people, column: posts, draw: {rows: 2, times: 2}}",
                "b: {preprocess: select, from: a, where: name}",
            ],
            "name",
        ),
        (
            ["a: {preprocess: pairing, from: people, as: [x, y]}", "b: {preprocess: select, from: a, where: x.nam}"],
            "nam",
        ),
        (
            ["a: {preprocess: pairing, from: people, as: [x, y]}", "b: {preprocess: select, from: a, where: name}"],
            "name",
        ),
        (["a: {preprocess: examples, from: people, speaker: x, prompt: voice}"], "turns"),
        (
            ["a: {preprocess: select, from: people, add: {text: '{{ posts }}'}, rename: {x: text}, refusals: drop}"],
            "text",
        ),
        (["a: {preprocess: split, from: people, order: time, test: 0.1}"], "time"),
        (
            [
                "a: {preprocess: collect, from: [one, two], key: who, value: said, into: all}",
                "b: {preprocess: select, from: a, where: said}",
            ],
            "said",
        ),
        (
            [
                "a: {preprocess: collect, from: people, by: type, column: posts, into: all}",
                "b: {preprocess: select, from: a, where: posts}",
            ],
            "posts",
        ),
        (
            [
                "a: {preprocess: retrieve, from: people, columns: {query: posts}, model: minilm, take: {facts: {from: one, words: 9}}}"
            ],
            "text",
        ),
        (["a: {preprocess: explode, from: people, column: profile, key: k, value: v}"], "profile"),
    ],
)
def test_a_column_that_is_not_there_is_found_before_anything_runs(check, steps, found):
    (problem,) = check(*steps)
    assert f"'{found}'" in problem or f".{found}" in problem


def test_two_ways_to_label_are_one_too_many(check):
    (problem,) = check("a: {preprocess: label, from: people, column: type, letter: 1, normal: true}")
    assert "has letter and normal" in problem


PASSAGES = [
    "texts: {preprocess: select, from: people, rename: {text: posts}}",
    "found: {preprocess: retrieve, from: people, columns: {query: name}, model: minilm, take: {facts: {from: texts, words: 9000}}}",
]


def test_more_words_than_a_model_reads_are_found_where_passages_are_put_into_a_prompt(check):
    asked = "ask: {generate: rows, from: found, model: base, decoding: plain, prompt: ask, output: answer}"
    (problem,) = check(*PASSAGES, asked)
    assert "up to 9000 words of columns" in problem


def test_passages_are_looked_for_by_text_alone(check):
    (problem,) = check(
        PASSAGES[0],
        "listed: {preprocess: select, from: people, add: {query: 7}}",
        "found: {preprocess: retrieve, from: listed, model: minilm, take: {facts: {from: texts, words: 9}}}",
    )
    assert "needs text in column 'query', and it holds numbers" in problem
