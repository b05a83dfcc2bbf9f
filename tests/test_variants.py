"""Variants and SET are JSON merge patches, `like:` takes another step's keys, and every place stays what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.problems import Invalid, Mark, Problems
from runner.strict_yaml import Map, Seq, parse
from runner.variants import merge, patched, set_patch, settings, with_likes, written_out
from tests.language import Language, spoken


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


def tree(value: Any) -> Any:
    """Plain dicts and lists as the reader makes them."""
    at = Mark("x", 1, 1)
    if isinstance(value, dict):
        made = Map(at)
        for key, item in value.items():
            made.put(key, tree(item), at, at)
        return made
    if isinstance(value, list):
        items = Seq(at)
        for item in value:
            items.put(tree(item), at)
        return items
    return value


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the appendix of RFC 7396, where the patch is a mapping
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_is_merged_as_the_standard_says(target: Any, patch: Any, result: Any) -> None:
    assert merge(tree(target), tree(patch)) == result


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=10,
)


def merged(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made


@given(VALUES, st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4))
def test_merging_agrees_with_the_standard_and_keeps_a_place_for_each_key(target: Any, patch: Any) -> None:
    made = merge(tree(target), tree(patch))
    assert made == merged(target, patch)
    waiting = [made]
    while waiting:
        held = waiting.pop()
        if isinstance(held, Map):
            assert set(held) <= set(held.keys_at) & set(held.values_at)
            waiting += held.values()


RECIPE = """\
recipe: 1
models: {base: smollm2-135m, api: {endpoint: "https://x.org/v1", model: m}}
decoding: {talk: {mode: sample, temperature: 1}}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  voice: {train: learn, from: chats, columns: {label: id}, model: base, epochs: 2, lora: {rank: 8}}
  look: {evaluate: look, model: voice}
variants:
"""


def body(language: Language, patch: str, step: str = "voice") -> dict[str, Any]:
    loaded = language.load(RECIPE + f"  v: {patch}\n", ["v"])
    return dict(next(node for node in loaded.nodes if node.name == step).body)


def test_a_variant_changes_nested_keys_and_null_removes(language: Language) -> None:
    made = body(language, "{steps: {voice: {lora: {rank: 4}, epochs: null}}}")
    assert made["lora"] == {"rank": 4} and "epochs" not in made


def test_a_step_given_another_kind_is_replaced_whole_and_its_nulls_are_gone(language: Language) -> None:
    patch = (
        "{steps: {voice: {train: judge, from: chats, columns: {label: id}, model: base, lora: null, predict: class}}}"
    )
    made = body(language, patch)
    assert made == {"train": "judge", "from": "chats", "columns": {"label": "id"}, "model": "base", "predict": "class"}


def test_null_removes_a_step_and_what_needs_it_is_told(language: Language) -> None:
    found = language.errors(RECIPE + "  v: {steps: {voice: null}}\n")
    assert found == ["7:33: steps.look.model: no model 'voice'. Models: api, base. Only with V=v."]


def test_a_bare_model_name_replaces_the_whole_entry(language: Language) -> None:
    loaded = language.load(RECIPE + "  v: {models: {api: minilm}}\n", ["v"])
    assert loaded.doc["models"]["api"] == {"load": "minilm"}
    loaded = language.load(RECIPE + "  v: {models: {base: {bits: 4}}}\n", ["v"])
    assert loaded.doc["models"]["base"] == {"load": "smollm2-135m", "bits": 4}


def test_a_loaded_model_and_an_endpoint_do_not_mix(language: Language) -> None:
    loaded = language.load(RECIPE + "  v: {models: {api: {load: x/y}}}\n", ["v"])
    assert loaded.doc["models"]["api"] == {"load": "x/y"}


def test_another_decoding_mode_replaces_the_whole_entry(language: Language) -> None:
    loaded = language.load(RECIPE + "  v: {decoding: {talk: {mode: steer, expert: base}}}\n", ["v"])
    assert loaded.doc["decoding"]["talk"] == {"mode": "steer", "expert": "base"}


@pytest.mark.parametrize(
    ("patch", "line"),
    [
        (
            "{steps: {vioce: {epochs: 1}}}",
            "9:15: variants.v.steps.vioce: patches what is not there. Did you mean 'voice'?",
        ),
        (
            "{prompts: {a: {user: x}}}",
            "9:17: variants.v.prompts.a: patches what is not there. The recipe has no prompts.",
        ),
        ("{steps: {voice: {epoch: 1}}}", "9:23: steps.voice: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("{steps: {voice: {epochs: x}}}", "9:31: steps.voice.epochs: 'x' is not a number."),
        ("{steps: {voice: {train: null}}}", "6:3: steps.voice: no verb."),
        ("{steps: {voice: {model: null}}}", "6:3: steps.voice: needs 'model'."),
        ("{steps: {voice: 3}}", "9:22: steps.voice: 3 is not a mapping (key: value)."),
        ("{models: {base: {bits: 5}}}", "9:29: models.base.bits: 5 is not one of: 4, 8."),
    ],
)
def test_a_patch_that_cannot_be_is_found_in_the_variant(language: Language, patch: str, line: str) -> None:
    found = language.errors(RECIPE + f"  v: {patch}\n")
    assert len(found) == 1 and found[0].startswith(line)


def test_every_variant_is_checked_and_a_problem_of_the_recipe_is_said_once(language: Language) -> None:
    text = RECIPE.replace("model: voice", "model: vioce") + "  a: {title: A}\n  b: {title: B}\n"
    assert language.errors(text) == ["7:33: steps.look.model: no model 'vioce'. Did you mean 'voice'?"]


def test_what_is_wrong_with_some_variants_alone_names_them(language: Language) -> None:
    text = RECIPE + "  a: {steps: {voice: null}}\n  fine: {title: A}\n  b: {steps: {voice: null}}\n"
    found = language.errors(text)
    assert len(found) == 1 and found[0].startswith("7:33: steps.look.model: no model 'voice'.")
    assert found[0].endswith(" Only with V=a, V=b.")


def test_variants_are_applied_in_order_and_an_unknown_one_is_named(language: Language) -> None:
    text = RECIPE + "  a: {steps: {voice: {epochs: 5}}}\n  b: {steps: {voice: {epochs: 7}}}\n"
    assert language.load(text, ["a", "b"]).doc["steps"]["voice"]["epochs"] == 7
    assert language.load(text, ["b", "a"]).doc["steps"]["voice"]["epochs"] == 5
    with pytest.raises(Invalid, match="no variant 'c'"):
        language.load(text, ["c"])


def test_a_variant_leaves_the_recipe_itself_as_it_is() -> None:
    doc = written_out(parse("models: {a: x}\nsteps: {s: {k: {n: 1}}}\n", "a.yaml"))
    before = parse("models: {a: {load: x}}\nsteps: {s: {k: {n: 1}}}\n", "a.yaml")
    patched(doc, parse("steps: {s: {k: {n: 2, m: 3}}}", "b.yaml"), "", Problems(), set())
    assert doc == before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a.b=1", ["a.b=1"]),
        ("a.b=1 c.d=2", ["a.b=1", "c.d=2"]),
        ("a.b=[x, y] c.d=2", ["a.b=[x, y]", "c.d=2"]),
        ("a.b={x: 1, y: [2, 3]}", ["a.b={x: 1, y: [2, 3]}"]),
        ('a.b="x y" c.d=2', ['a.b="x y"', "c.d=2"]),
    ],
)
def test_settings_are_split_as_a_shell_does_but_brackets_hold_together(text: str, parts: list[str]) -> None:
    assert settings(text) == parts


@pytest.mark.parametrize("text", ["steps", "steps=1", "recipe.x=1", "=3", "title=x"])
def test_what_is_no_setting_says_how_to_write_one(text: str) -> None:
    with pytest.raises(Invalid, match=r"SET: .* sets nothing\. Write a path and a value: steps\.voice\.epochs=1\."):
        set_patch(text)


def test_an_open_quote_in_settings_is_one_line() -> None:
    with pytest.raises(Invalid, match="a quote is never closed"):
        settings('steps.a.b="x')


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps.voice.epochs=1e-4", 1e-4),
        ("steps.voice.lora={rank: 4}", {"rank": 4}),
        ("steps.voice.targets=[a, b]", ["a", "b"]),
    ],
)
def test_a_setting_overrides_one_value(language: Language, setting: str, value: Any) -> None:
    made = language.load(RECIPE + "  v: {title: T}\n", settings=[setting]).doc["steps"]["voice"]
    assert made[setting.split("=", maxsplit=1)[0].split(".")[2]] == value


def test_an_empty_setting_removes_and_a_wrong_one_names_itself(language: Language) -> None:
    text = RECIPE + "  v: {title: T}\n"
    assert "lora" not in language.load(text, settings=["steps.voice.lora="]).doc["steps"]["voice"]
    for setting, line in [
        ("steps.voice.epochs=x", "SET steps.voice.epochs: steps.voice.epochs: 'x' is not a number."),
        (
            "steps.vioce.epochs=1",
            "SET steps.vioce.epochs: steps.vioce: patches what is not there. Did you mean 'voice'?",
        ),
        ("steps.voice.epochs={", "SET steps.voice.epochs:1:"),
        ("models.base.load=sk-abcdefghijklmnop", "SET models.base.load: models.base.load: this looks like a key."),
    ]:
        with pytest.raises(Invalid) as caught:
            language.load(text, settings=[setting])
        assert caught.value.lines[0].startswith(line)


LIKES = """\
recipe: 1
models: {base: smollm2-135m}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  voice: {train: learn, from: chats, columns: {label: id}, model: base, epochs: 2, lora: {rank: 8}}
"""


def steps(language: Language, text: str) -> dict[str, Any]:
    return {node.name: dict(node.body) for node in language.load(LIKES + text).nodes}


def test_like_takes_the_other_keys_and_patches_them(language: Language) -> None:
    made = steps(language, "  other: {like: voice, lora: {rank: 4}, epochs: null}\n")
    assert made["other"] == {
        "train": "learn",
        "from": "chats",
        "columns": {"label": "id"},
        "model": "base",
        "lora": {"rank": 4},
    }


def test_like_of_like_and_another_verb_take_over(language: Language) -> None:
    made = steps(
        language,
        "  b: {like: a, epochs: 5}\n  a: {like: voice, epochs: 4, model: base}\n  c: {like: b, epochs: null, lora: null, train: judge}\n",
    )
    assert made["b"]["epochs"] == 5 and made["b"]["lora"] == {"rank": 8}
    assert made["c"] == {"train": "judge", "from": "chats", "columns": {"label": "id"}, "model": "base"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  a: {like: a}\n", "6:13: steps.a.like: 'a' comes back to itself. Write one of the steps out."),
        ("  a: {like: voic}\n", "6:13: steps.a.like: no step 'voic'. Did you mean 'voice'?"),
        ("  a: {like: voice, epoch: 1}\n", "6:20: steps.a: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("  a: {like: voice, train: null}\n", "6:3: steps.a: no verb."),
        ("  a: {like: voice, model: null}\n", "6:3: steps.a: needs 'model'."),
        ("  a: {like: voice, train: judge}\n", "steps.a: unknown key 'epochs'."),
    ],
)
def test_a_like_that_cannot_be_is_one_line(language: Language, text: str, line: str) -> None:
    assert any(line in one for one in language.errors(LIKES + text))


def test_a_circle_of_likes_is_found(language: Language) -> None:
    found = language.errors(LIKES + "  a: {like: b}\n  b: {like: c}\n  c: {like: a}\n")
    assert found and all("comes back to itself" in one for one in found)


def test_a_long_chain_of_likes_is_no_trap() -> None:
    lines = ["s0: {export: file, model: m}"] + [f"s{at}: {{like: s{at - 1}, k{at}: 1}}" for at in range(1, 800)]
    problems = Problems()
    made = with_likes(parse("\n".join(reversed(lines)), "a.yaml"), problems, set())
    assert len(made) == 800 and not list(problems)


def test_an_error_in_a_borrowed_key_points_to_where_it_was_written(language: Language) -> None:
    found = language.errors(LIKES.replace("epochs: 2", "epochs: x") + "  other: {like: voice}\n")
    assert found[0].startswith("5:81: steps.voice.epochs")
