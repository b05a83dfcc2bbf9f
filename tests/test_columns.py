"""Columns, parts and test rows followed through the graph before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.flow import Flow
from tests.language import Language, spoken


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


BASE = """\
recipe: 1
matrix: {trait: [warm, cold]}
models: {base: smollm2-135m, minilm: minilm, api: {endpoint: "https://x.org/v1", model: m}}
decoding: {plain: {mode: sample}}
texts: {who: {warm: kind, cold: curt}, one: hello}
prompts: {ask: {user: "{{ text }}", assistant: "{{ learned }}"}, me: {system: You are me.}}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  parts: {preprocess: split, from: chats, test: 0.1}
"""
EMPTY = "  made: {preprocess: shape, from: chats, "


def flow(language: Language, text: str, name: str = "made") -> Flow:
    return language.load(BASE + text).flows[name]


def columns(language: Language, text: str, name: str = "made") -> set[str]:
    return set(flow(language, text, name).columns)


READ = {"id", "text", "profile", "score"}


@pytest.mark.parametrize(
    ("keys", "made"),
    [
        ("add: {new: x}}", READ | {"new"}),
        ("into: new}", READ | {"new"}),
        ("rename: {body: text}}", READ - {"text"} | {"body"}),
        ("rename: {id: text, text: id}}", READ),
        ("takes: [id, text]}", READ - {"id", "text"}),
        ("drop: text}", READ - {"text"}),
        ("keep: [id, text]}", {"id", "text"}),
        ("add: {new: x}, keep: new}", {"new"}),
        ("columns: {body: text}}", READ | {"body"}),
        ("column: text, bundle: true}", {"id", "text"}),
        ("column: text, bundle: false}", READ),
    ],
)
def test_keys_change_the_columns_as_their_schema_says(language: Language, keys: str, made: set[str]) -> None:
    assert columns(language, EMPTY + keys + "\n") == made


def test_a_key_that_adds_columns_adds_them_only_where_it_is_given(language: Language) -> None:
    assert "role" not in columns(language, "  made: {preprocess: read, folder: datasets/chats}\n")
    assert "role" in columns(language, "  made: {preprocess: read, folder: datasets/chats, who: me}\n")


def test_joined_rows_have_what_all_of_them_have(language: Language) -> None:
    text = "  a: {preprocess: shape, from: chats, add: {x: 1, y: 2, z: a}}\n  b: {preprocess: shape, from: chats, add: {y: word, z: b}, drop: id}\n"
    made = flow(language, text + "  made: {preprocess: join, from: [a, b]}\n")
    assert set(made.columns) == {"text", "profile", "score", "y", "z"}
    assert made.columns["y"] == "any" and made.values["z"] == ["a", "b"]


def test_matrix_keys_fan_in_as_columns_with_known_values(language: Language) -> None:
    text = '  a: {matrix: [trait], preprocess: shape, from: chats, add: {x: "${trait}"}}\n  made: {preprocess: join, from: a}\n'
    made = flow(language, text)
    assert made.columns["trait"] == "text" and made.values["trait"] == ["warm", "cold"]


def test_what_an_output_holds_is_known_inside_too(language: Language) -> None:
    text = "  made: {generate: rows, from: chats, model: base, decoding: plain, output: {mood: 1..5, kind: [a, b], who: {name: text, likes: list}}}\n"
    made = flow(language, text)
    assert {name: made.columns[name] for name in ("mood", "kind", "who", "who.name", "who.likes")} == {
        "mood": "number",
        "kind": "text",
        "who": "object",
        "who.name": "text",
        "who.likes": "list",
    }
    assert made.values["kind"] == ["a", "b"]


def test_a_whole_json_schema_is_followed_as_well(language: Language) -> None:
    output = "{type: object, properties: {mood: {type: integer}, who: {type: object, properties: {name: {type: string}}}, kind: {enum: [a, b]}}}"
    made = flow(language, f"  made: {{generate: rows, from: chats, model: base, decoding: plain, output: {output}}}\n")
    assert made.columns["mood"] == "number" and made.columns["who.name"] == "text" and made.values["kind"] == ["a", "b"]


def test_a_dotted_output_goes_into_an_object(language: Language) -> None:
    text = "  a: {generate: rows, from: chats, model: base, decoding: plain, output: {who: {name: text}}}\n"
    text += "  made: {generate: rows, from: a, model: base, decoding: plain, output: who.age}\n"
    assert {"who.name", "who.age"} <= columns(language, text)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("{mood: 1.5}", "steps.made.output.mood: '1.5' is no type of answer. Write text, number, list, 1..5, [a, b]"),
        ("{mood: 5..1}", "steps.made.output.mood: '5..1' is no type of answer."),
        ("{mood: [a]}", "steps.made.output.mood: a choice is a list of two or more different words or numbers."),
        ("{mood: [a, a]}", "steps.made.output.mood: a choice is a list of two or more different"),
        ("{mood: null}", "steps.made.output.mood: nothing is no type of answer."),
        ("{who: {}}", "steps.made.output.who: empty. Name what it holds: {who: text}."),
        ("{who: {name: txt}}", "steps.made.output.who.name: 'txt' is no type of answer."),
    ],
)
def test_an_output_that_cannot_be_is_one_line(language: Language, output: str, line: str) -> None:
    found = language.errors(
        BASE + f"  made: {{generate: rows, from: chats, model: base, decoding: plain, output: {output}}}\n"
    )
    assert len(found) == 1 and line in found[0]


LEARN = "  voice: {train: learn, model: base, "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            EMPTY + "column: txt}\n",
            "10:50: steps.made.column: no column 'txt' comes from 'chats'. Did you mean 'text'?",
        ),
        (
            EMPTY + "columns: {body: txt}}\n",
            "10:58: steps.made.columns.body: no column 'txt' comes from 'chats'. Did you mean 'text'?",
        ),
        (EMPTY + "columns: {body: [text, txt]}}\n", "steps.made.columns.body: no column 'txt'"),
        (EMPTY + "rename: {body: txt}}\n", "steps.made.rename.body: no column 'txt'"),
        (EMPTY + "drop: [text, txt]}\n", "10:55: steps.made.drop: no column 'txt'"),
        (EMPTY + "keep: txt}\n", "steps.made.keep: no column 'txt'"),
        (EMPTY + "rename: {body: text}, column: text}\n", "steps.made.column: no column 'text'"),
        (EMPTY + 'add: {x: "{{ txt }}"}}\n', "steps.made.add.x: no variable 'txt'. Did you mean 'text'?"),
        (EMPTY + 'add: {x: "{{ y }}", y: 1}}\n', "steps.made.add.x: no variable 'y'."),
        (EMPTY + 'add: {x: "{{ text"}}\n', "steps.made.add.x: not Jinja: "),
        (EMPTY + 'add: {x: "{{ text | nothing }}"}}\n', "steps.made.add.x: not Jinja: No filter named 'nothing'"),
        (EMPTY + "where: text and txt}\n", "steps.made.where: no variable 'txt'. Did you mean 'text'?"),
        (EMPTY + "where: text and}\n", "steps.made.where: not Jinja: "),
        (EMPTY + "where: text) or (id}\n", "steps.made.where: not Jinja: unexpected ')'"),
        (
            LEARN + "from: parts}\n",
            "10:44: steps.voice needs column 'messages', or text and label, which 'parts' does not provide (it has: id, profile, score, text). Make it in an earlier step, or map it: columns: {messages: …}.",
        ),
        (
            "  b: {preprocess: lessons, from: chats, prompt: me, turns: x}\n",
            "steps.b.turns: needs column 'turns', which 'chats' does not provide",
        ),
        ("  b: {preprocess: find, from: chats, drop: x}\n", "unknown key 'drop'"),
        (
            "  b: {preprocess: find, from: chats}\n",
            "steps.b: takes exactly one of take, against, and has none. Give one.",
        ),
        (
            "  b: {preprocess: find, from: chats, against: parts.train, take: {a: {from: chats}}}\n",
            "steps.b: takes exactly one of take, against, and has take and against. Keep one.",
        ),
        (
            "  b: {preprocess: find, from: chats, columns: {query: score}, against: chats}\n",
            "steps.b needs text in column 'query', and it holds numbers. Map another: columns: {query: …}.",
        ),
        (
            "  a: {preprocess: pairs, from: chats, other: id}\n  b: {preprocess: find, from: chats, take: {x: {from: a}}}\n",
            "steps.b needs column 'text', which 'a' does not provide (it has: chosen, rejected).",
        ),
        (
            "  v: {train: judge, from: parts, columns: {label: id}, model: base, predict: numbers}\n",
            "steps.v.predict: 'numbers' needs lists in column 'label', and it holds text.",
        ),
        (
            "  v: {train: prefer, from: parts, model: base}\n",
            "steps.v needs columns 'chosen' and 'rejected', which 'parts' does not provide",
        ),
        (
            "  b: {preprocess: greeting, from: chats, prompt: ask}\n",
            "prompts.ask.assistant, used by steps.b: no variable 'learned'. There are none here",
        ),
        (
            "  b: {preprocess: lessons, from: chats, prompt: ask}\n",
            "6:48: prompts.ask.assistant, used by steps.b: no variable 'learned'. Did you mean 'heard'?",
        ),
        ("  b: {evaluate: look, from: chats, model: base, by: [id, txt]}\n", "steps.b.by: no column 'txt'"),
    ],
)
def test_what_rows_do_not_have_is_said_with_what_they_have(language: Language, text: str, line: str) -> None:
    found = language.errors(BASE + text)
    assert any(line in one for one in found), found
    assert len(found) <= 2


def test_only_the_texts_that_a_step_uses_need_their_variables(language: Language) -> None:
    assert (
        language.errors(
            BASE + "  b: {generate: rows, from: chats, model: base, decoding: plain, prompt: ask, output: said}\n"
        )
        == []
    )


def test_one_missing_column_is_said_once_and_not_again_down_the_line(language: Language) -> None:
    text = (
        EMPTY
        + "column: nothing}\n  next: {preprocess: shape, from: made, column: nothing}\n  last: {preprocess: shape, from: next, column: nothing}\n"
    )
    assert len(language.errors(BASE + text)) == 1


def test_a_kind_gives_names_to_prompts_and_keys_give_more(language: Language) -> None:
    base = BASE.replace("learned", "heard ~ memory")
    text = "  b: {preprocess: lessons, from: chats, columns: {turns: text}, prompt: ask"
    assert "no variable 'memory'" in language.errors(base + text + "}\n")[0]
    assert language.errors(base + text + ", turns: x}\n") == []


def test_a_prompt_of_a_decoding_is_checked_for_the_step_that_decodes(language: Language) -> None:
    base = BASE.replace("decoding: {", "decoding: {st: {mode: steer, expert: base, expert_prompt: ask}, ").replace(
        "{{ text }}", "{{ trait }}"
    )
    text = "  a: {%sgenerate: rows, from: chats, model: base, decoding: st, output: said}\n"
    assert language.errors(base + text % "matrix: [trait], ") == []
    assert "prompts.ask.user, used by steps.a: no variable 'trait'" in language.errors(base + text % "")[0]


def test_values_inside_objects_are_checked_where_they_are_known(language: Language) -> None:
    text = "  a: {generate: rows, from: chats, model: base, decoding: plain, output: {who: {name: text}}}\n"
    found = language.errors(
        BASE
        + text
        + '  b: {preprocess: shape, from: a, add: {x: "{{ who.nmae }}"}, column: who.age, where: who.name.first}\n'
    )
    assert len(found) == 2
    assert "steps.b.add.x: 'who' has no 'nmae'. Did you mean 'name'?" in found[0]
    assert "steps.b.column: no column 'who.age' comes from 'a'." in found[1] or "who.age" in found[0]
    fine = '  b: {preprocess: shape, from: a, add: {x: "{{ profile.any.thing }} {{ who.items() }} {{ text.upper() }}"}, column: profile.tone}\n'
    assert language.errors(BASE + text + fine) == []


def test_whole_rows_are_wrapped_into_columns(language: Language) -> None:
    text = "  a: {preprocess: pairs, from: chats, as: [one, two]}\n"
    assert (
        language.errors(
            BASE + text + "  b: {preprocess: shape, from: a, column: two.text, columns: {text: one.text}}\n"
        )
        == []
    )
    assert (
        "no column 'two.txt'"
        in language.errors(BASE + text + "  b: {preprocess: shape, from: a, column: two.txt}\n")[0]
    )


def test_a_column_may_become_another_type(language: Language) -> None:
    text = EMPTY + "listed: text}\n  b: {preprocess: find, from: made, columns: {query: text}, against: chats}\n"
    assert "needs text in column 'query', and it holds lists" in language.errors(BASE + text)[0]


def test_columns_of_each_value_where_the_values_are_known(language: Language) -> None:
    text = '  a: {matrix: [trait], preprocess: shape, from: chats, add: {x: "${trait}"}}\n  made: {preprocess: shape, from: a, column: %s, spread: true}\n'
    assert {"warm", "cold"} <= columns(language, text % "trait")
    assert flow(language, text % "id").anything


def test_named_columns_can_be_carried_through(language: Language) -> None:
    assert columns(language, "  made: {preprocess: lessons, from: chats, prompt: me, carry: [id]}\n") == {
        "messages",
        "id",
    }


# Wording


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ texts.who[trait] }}", None),
        ("{{ texts['who'].warm }}", None),
        ("{{ texts.one }}", None),
        ("{{ texts.who[id] }}", None),  # which values come is not known
        ("{{ texts.whom[trait] }}", "texts has no 'whom'. Did you mean 'who'?"),
        ("{{ texts.who.mild }}", "texts.who has no 'mild'. It has: cold, warm."),
        ("{{ texts.who[trait][id] }}", None),
        ("{{ texts.one[trait] }}", "texts.one is one text, not a table."),
    ],
)
def test_every_cell_of_a_table_of_wording_is_there(language: Language, template: str, line: str | None) -> None:
    text = f'  a: {{matrix: [trait], preprocess: shape, from: chats, add: {{x: "{template}", y: "${{trait}}"}}}}\n'
    found = language.errors(BASE + text)
    assert (found == []) if line is None else (len(found) == 1 and line in found[0])


def test_a_missing_cell_is_found_through_columns_too(language: Language) -> None:
    text = '  a: {matrix: [trait], preprocess: shape, from: chats, add: {x: "${trait}"}}\n  b: {preprocess: shape, from: a, add: {y: "{{ texts.who[trait] }}"}}\n'
    assert language.errors(BASE + text) == []
    found = language.errors(BASE.replace(", cold: curt", "") + text)
    assert found == ["11:44: steps.b.add.y: texts.who has no 'cold'. It has: warm."]
    filtered = (
        text.replace("{preprocess: shape, from: a, ", "{preprocess: shape, from: c, ")
        + "  c: {preprocess: shape, from: a, where: trait == 'warm'}\n"
    )
    assert language.errors(BASE.replace(", cold: curt", "") + filtered) == []


# Tables


def test_the_header_of_a_table_is_followed(language: Language) -> None:
    language.dataset("tables", {"a.csv": "name,post\nx,y\n"})
    text = "  made: {preprocess: table, folder: datasets/tables, columns: {text: post}}\n"
    assert columns(language, text) == {"id", "name", "text"}
    found = language.errors(BASE + text.replace("post", "pots"))
    assert found == [
        "10:70: steps.made.columns.text: no column 'pots' comes from 'datasets/tables'. Did you mean 'post'?"
    ]


def test_a_readme_speaks_for_data_that_is_not_there(language: Language) -> None:
    language.dataset("tables", {"README.md": "---\ncolumns: [name, post]\n---\nBuy it.\n"})
    assert columns(language, "  made: {preprocess: table, folder: datasets/tables}\n") == {"id", "name", "post"}


def test_a_readme_that_cannot_be_read_is_one_line(language: Language) -> None:
    language.dataset("tables", {"README.md": "---\ncolumns: [name, post\n---\n"})
    assert len(language.errors(BASE + "  made: {preprocess: table, folder: datasets/tables}\n")) <= 1


def test_tables_that_only_a_run_can_open_may_have_any_column(language: Language) -> None:
    language.dataset("tables", {"a.parquet": "PAR1"})
    assert flow(language, "  made: {preprocess: table, folder: datasets/tables, columns: {text: post}}\n").anything


# Parts and test rows


def test_a_split_makes_the_parts_that_it_is_asked_for(language: Language) -> None:
    assert flow(language, "  made: {preprocess: split, from: chats, test: 0.1, validation: 1}\n").parts == (
        "train",
        "validation",
        "test",
    )
    assert flow(language, "  made: {preprocess: split, from: chats}\n").parts == ("train",)


LABELLED = "columns: {label: id}, "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            LEARN + LABELLED + "from: parts.test}\n",
            "steps.voice.from: would learn from rows of 'parts.test'. Train on 'parts' or its train part.",
        ),
        (
            "  a: {preprocess: join, from: parts}\n" + LEARN + LABELLED + "from: a}\n",
            "would learn from rows of 'parts.test', through 'a'.",
        ),
        (
            "  a: {preprocess: shape, from: parts, drop: score}\n  b: {preprocess: join, from: [chats, a.test]}\n"
            + LEARN
            + LABELLED
            + "from: b}\n",
            "through 'b'.",
        ),
        (
            "  a: {generate: rows, from: parts, model: base, decoding: plain, output: x}\n"
            + LEARN
            + LABELLED
            + "from: a}\n",
            "would learn from rows of 'parts.test', through 'a'.",
        ),
        (
            "  a: {preprocess: find, from: parts.train, take: {x: {from: parts.test}}}\n"
            + LEARN
            + LABELLED
            + "from: a}\n",
            "would learn from rows of 'parts.test', through 'a'.",
        ),
        (
            "  a: {preprocess: find, from: parts, take: {x: {from: parts}}}\n" + LEARN + LABELLED + "from: a}\n",
            "would learn from rows of 'parts.test', through 'a'.",
        ),
        (
            "  a: {preprocess: split, from: parts.train, test: 0.1}\n",
            "steps.a.from: these rows come from the split 'parts'; a second split lets test rows leak. Split once.",
        ),
        (
            "  b: {preprocess: shape, from: parts, drop: score}\n  a: {preprocess: split, from: b, test: 0.1}\n",
            "these rows come from the split 'parts'",
        ),
    ],
)
def test_test_rows_never_reach_training_by_any_way(language: Language, text: str, line: str) -> None:
    found = language.errors(BASE + text)
    assert len(found) == 1 and line in found[0]


@pytest.mark.parametrize(
    "text",
    [
        LEARN + LABELLED + "from: parts}\n",
        LEARN + LABELLED + "from: parts.train}\n",
        "  a: {preprocess: shape, from: parts, drop: score}\n" + LEARN + LABELLED + "from: a}\n",
        "  a: {preprocess: join, from: parts.train}\n" + LEARN + LABELLED + "from: a}\n",
        "  a: {preprocess: find, from: parts.train, against: parts.test}\n" + LEARN + LABELLED + "from: a}\n",
        "  a: {evaluate: look, from: parts.test, model: base}\n",
    ],
)
def test_what_leaks_nothing_is_allowed(language: Language, text: str) -> None:
    assert language.errors(BASE + text) == []


def test_rows_are_paired_only_where_two_values_are_left(language: Language) -> None:
    text = '  a: {matrix: [trait], preprocess: shape, from: chats, add: {x: "${trait}"}}\n  b: {preprocess: pairs, from: a, other: trait}\nvariants: {one: {matrix: {trait: [warm]}}}\n'
    found = language.errors(BASE + text)
    assert found == [
        "11:42: steps.b.other: there is only trait warm. Rows are paired where it differs: keep two values or more in its matrix list. Only with V=one."
    ]
    assert language.errors(BASE + text.replace("other: trait", "other: [trait, id]")) == []


def test_more_words_than_a_model_can_read_are_found(language: Language) -> None:
    text = "  a: {preprocess: find, from: chats, take: {facts: {from: chats, words: %d}}}\n  b: {generate: rows, from: a, model: base, decoding: plain, prompt: ask, output: x}\n"
    base = BASE.replace("{{ text }}", "{{ facts }}")
    assert language.errors(base + text % 5000) == []
    found = language.errors(base + text % 9000)
    assert found == [
        "11:70: steps.b.prompt: up to 9000 words of columns are put into it, more than the 8192 tokens that 'base' can read. Allow fewer words where the columns are made."
    ]


def test_the_prompt_behind_the_messages_is_remembered(language: Language) -> None:
    text = "  a: {preprocess: lessons, from: parts, prompt: me}\n  b: {preprocess: join, from: a.train}\n  voice: {train: learn, from: b, model: base}\n"
    assert flow(language, text, "voice").prompt == "me"
    text = "  a: {generate: rows, from: parts, model: base, decoding: plain, prompt: ask, output: x}\n"
    assert flow(language, text, "a").prompt is None  # it asks, and nothing is learned from it


# What is known of a column


def test_a_flow_knows_what_is_in_an_object() -> None:
    made = Flow()
    made.put("who", "object", inside={"name": "text", "home": "object", "home.street": "text"})
    made.put("free", "object")
    assert made.has("who.home.street") and made.has("free.anything.at.all")
    assert not made.has("who.age") and not made.has("who.name.first") and not made.has("what")
    made.put("who.age", "number")
    made.put("free.age", "number")  # what else is in it stays unknown
    assert made.has("who.age") and made.has("free.other")
    made.remove("who")
    assert not made.has("who.name") and made.top() == ["free"]
