"""The shape of a recipe: what a schema does not allow is said in plain words, with its place and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.language import Language, spoken

BASE = """\
recipe: 1
models: {base: smollm2-135m}
steps:
  chats: {preprocess: read, folder: datasets/chats}
"""


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


LEARN = "  voice: {train: learn, from: chats, columns: {label: id}, model: base, "


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("epoch: 3}", "steps.voice: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("zzz: 3}", "steps.voice: unknown key 'zzz'. Known: "),
        ("epochs: three}", "steps.voice.epochs: 'three' is not a number. How often."),
        ('epochs: "3"}', "steps.voice.epochs: '3' is not a number. Remove the quotes."),
        ("epochs: 0}", "steps.voice.epochs: 0 is too small: more than 0. How often."),
        ("epochs: true}", "steps.voice.epochs: true is not a number."),
        ("epochs: }", "steps.voice.epochs: nothing stands here; it is a number."),
        ("epochs: [3]}", "steps.voice.epochs: a list is not a number."),
        ("lora: {rank: 0}}", "steps.voice.lora.rank: 0 is too small: at least 1. A number."),
        ("lora: {rnak: 8}}", "steps.voice.lora: unknown key 'rnak'. Did you mean 'rank'?"),
        ("lora: 8}", "steps.voice.lora: 8 is not a mapping (key: value). A mapping."),
        ("stop: {on: los}}", "steps.voice.stop.on: 'los' is not one of its values. Did you mean 'loss'?"),
        ("targets: some}", "steps.voice.targets: 'some' is not one of its values. It is one of: all."),
        ("targets: 3}", 'steps.voice.targets: 3 is not text or a list. Write "3". Which.'),
        ("targets: [q_proj, 4]}", 'steps.voice.targets.1: 4 is not text. Write "4".'),
        ("matrix: []}", "steps.voice.matrix: empty."),
        ("matrix: {a: []}}", "steps.voice.matrix.a: empty."),
        ("matrix: {a: [{b: 1}]}}", "steps.voice.matrix.a.0: a mapping is not text or a number or true or false."),
        ('matrix: "${x}"}', "steps.voice.matrix: '${x}' is not a list or a mapping (key: value)."),
    ],
)
def test_what_a_kind_does_not_take_is_named_with_its_path(language: Language, step: str, line: str) -> None:
    found = language.errors(BASE + LEARN + step + "\n")
    assert len(found) == 1 and line in found[0] and found[0].startswith("5:")


def test_the_place_is_that_of_the_key_or_the_value(language: Language) -> None:
    text = BASE + "  voice:\n    train: learn\n    from: chats\n    model: base\n    epoch: 3\n    lora: {rank: x}\n"
    assert [one.split(": ")[0] for one in language.errors(text)] == ["9:5", "10:18"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("just words", "1:1: not a recipe. Begin with `recipe: 1` and `steps:`."),
        ("", "1:1: not a recipe."),
        ("- a\n- b\n", "1:1: not a recipe."),
        (
            "models: {b: c}\nsteps: {a: {export: file, model: b}}\n",
            "needs 'recipe'. The version of the recipe language: 1.",
        ),
        ("recipe: 1\n", "needs 'steps'."),
        ("recipe: 1\nsteps:\n", "2:7: steps: nothing stands here; it is a mapping (key: value)."),
        ("recipe: 1\nsteps: {}\n", "2:8: steps: empty."),
        ("recipe: 2\nsteps: {}\n", "1:9: recipe: this runner reads version 1 of the language. Write `recipe: 1`."),
        ("recipe: 1\nstepz: {a: 1}\n", "2:1: unknown key 'stepz'. Did you mean 'steps'?"),
        (BASE + "prompts:\n", "prompts: nothing stands here; it is a mapping (key: value)."),
        (
            BASE + "prompts: {a: null}\n",
            "5:14: prompts.a: nothing stands here; it is a mapping (key: value) or a list.",
        ),
        (BASE + "prompts: {a: {}}\n", "5:11: prompts.a: empty."),
        (BASE + "prompts: {a: {sytem: x}}\n", "prompts.a: unknown key 'sytem'. Did you mean 'system'?"),
        (BASE + "prompts: {a: [{user: x}, {usr: y}]}\n", "prompts.a.1: unknown key 'usr'. Did you mean 'user'?"),
        (BASE + "prompts: {a: [x]}\n", "prompts.a.0: 'x' is not a mapping (key: value)."),
        (BASE + "chat: {a: null}\n", "chat.a: nothing stands here; it is a mapping (key: value)."),
        (BASE + "chat:\n", "chat: nothing stands here; it is a mapping (key: value)."),
        (BASE + "variants:\n", "variants: nothing stands here; it is a mapping (key: value)."),
        (BASE + "variants: {a: null}\n", "variants.a: nothing stands here; it is a mapping (key: value)."),
        (BASE + "variants: {a: {stepz: {}}}\n", "variants.a: unknown key 'stepz'. Did you mean 'steps'?"),
        (BASE + "matrix: {a: []}\n", "matrix.a: empty."),
        (BASE + "matrix: {a: b}\n", "matrix.a: 'b' is not a list."),
        (BASE + "matrix: {a: [[1]]}\n", "matrix.a.0: a list is not text or a number or true or false."),
        (BASE + "decoding: {a: {temperature: 1}}\n", "5:12: decoding.a: needs 'mode'. One of: sample, steer."),
        (
            BASE + "decoding: {a: {mode: sampel}}\n",
            "decoding.a.mode: 'sampel' is no decoding mode. Did you mean 'sample'?",
        ),
        (BASE + "decoding: {a: {mode: [x]}}\n", "decoding.a.mode: a list is no decoding mode."),
        (
            BASE + "decoding: {a: {mode: sample, temperature: -1}}\n",
            "decoding.a.temperature: -1 is too small: at least 0.",
        ),
        (
            BASE + "  1st: {export: file, model: base}\n",
            "steps.1st: not a name. Use letters, digits, - and _, a letter first.",
        ),
        (BASE + "  a: {}\n", "5:3: steps.a: no verb. Begin with one of: preprocess, generate, train,"),
        (BASE + "  a: null\n", "steps.a: nothing stands here; it is a mapping (key: value)."),
        (BASE + "  a: {trian: learn}\n", "steps.a: unknown key 'trian'. Did you mean 'train'?"),
        (BASE + "  a: {train: lern}\n", "steps.a.train: 'lern' is no kind of train. Did you mean 'learn'?"),
        (BASE + "  a: {train: {x: y}}\n", "steps.a.train: a mapping is no kind of train."),
        (BASE + "  a: {train: null}\n", "steps.a.train: None is no kind of train."),
        (
            BASE + "  a: {train: learn, merge: lora}\n",
            "5:21: steps.a: two verbs, train and merge. Make two steps of it.",
        ),
        (BASE + "  a: {like: [chats]}\n", "steps.a.like: a list is not the name of a step. Name one."),
        (BASE + "  a: {train: learn, from: chats}\n", "5:3: steps.a: needs 'model'."),
        (BASE.replace("smollm2-135m", "{load: a, bits: 3}"), "models.base.bits: 3 is not one of: 4, 8."),
        (
            BASE.replace("smollm2-135m", "{endpoint: ftp://x, model: m}"),
            "models.base.endpoint: 'ftp://x' is not an address that begins with https:// or http://.",
        ),
        (BASE.replace("smollm2-135m", "{bits: 4}"), "models.base: needs 'load'."),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(language: Language, text: str, line: str) -> None:
    found = language.errors(text)
    assert len(found) == 1 and line in found[0]


def test_all_problems_are_found_at_once(language: Language) -> None:
    text = (
        BASE
        + LEARN
        + "epoch: 3, lora: 8}\n  other: {trian: learn}\nprompts: {a: {usr: x}}\nchat: {x: {modl: base, decoding: d}}\n"
    )
    assert len(language.errors(text)) == 5


def test_a_value_left_open_is_checked_once_it_is_filled_in(language: Language) -> None:
    text = "matrix: {size: [1, zero, 2]}\n" + BASE + LEARN + 'epochs: "${size}", matrix: [size]}\n'
    assert language.errors(text) == ["6:81: steps.voice.epochs: 'zero' is not a number. How often."]


def test_a_reference_inside_a_list_of_numbers_waits_for_its_value(language: Language) -> None:
    text = "matrix: {size: [1, 2]}\n" + BASE + LEARN + 'rates: ["${size}", 3], matrix: [size]}\n'
    assert language.errors(text) == []
    assert "rates.0: 'x' is not a number" in language.errors(text.replace("[1, 2]", "[1, x]"))[0]


def test_a_long_value_is_shown_shortened(language: Language) -> None:
    found = language.errors(BASE + LEARN + f"epochs: {'x' * 500}}}\n")
    assert len(found) == 1 and len(found[0]) < 160
