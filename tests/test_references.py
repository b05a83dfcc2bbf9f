"""What names stand for: steps, parts, siblings, models, prompts, decodings and dataset folders; and what no name may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.fields import fitting, walk
from runner.references import Node
from runner.strict_yaml import parse
from tests.language import Language, spoken


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


BASE = """\
recipe: 1
matrix: {trait: [warm, cold], level: [high, low]}
models: {base: smollm2-135m, minilm: minilm, api: {endpoint: "https://x.org/v1", model: m}}
decoding: {plain: {mode: sample}, steered: {mode: steer, expert: voice, alpha: 0.5}}
prompts: {ask: {user: "{{ text }}"}}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  parts: {preprocess: split, from: chats, test: 0.1}
  voice: {matrix: [trait], train: learn, from: parts, columns: {label: id}, model: base, epochs: 1, max_length: "${n}"}
""".replace(', epochs: 1, max_length: "${n}"', ', lora: {rank: 8}, stop: {after: 1}, targets: ["${trait}"]')


def nodes(language: Language, text: str) -> dict[str, Node]:
    return {node.name: node for node in language.load(BASE + text).nodes}


def test_a_step_a_part_and_a_list_of_them(language: Language) -> None:
    made = nodes(language, "  a: {preprocess: join, from: [chats, parts.train]}\n")
    assert [(rows.node.name, rows.part, rows.columns) for rows in made["a"].rows["from"]] == [
        ("chats", None, {}),
        ("parts", "train", {}),
    ]


def test_a_name_means_the_sibling_that_agrees(language: Language) -> None:
    text = '  a: {matrix: [trait, level], preprocess: shape, from: chats, add: {x: "${trait}${level}"}}\n'
    text += '  b: {matrix: [trait], preprocess: shape, from: a, add: {y: "${trait}"}}\n  c: {preprocess: join, from: b}\n  d: {preprocess: join, from: a-cold-low}\n'
    made = nodes(language, text)
    assert [(rows.node.name, rows.columns) for rows in made["b-cold"].rows["from"]] == [
        ("a-cold-high", {"level": "high"}),
        ("a-cold-low", {"level": "low"}),
    ]
    assert [rows.columns for rows in made["c"].rows["from"]] == [{"trait": "warm"}, {"trait": "cold"}]
    assert [(rows.node.name, rows.columns) for rows in made["d"].rows["from"]] == [
        ("a-cold-low", {"trait": "cold", "level": "low"})
    ]


def test_a_model_is_an_entry_or_the_sibling_that_was_trained(language: Language) -> None:
    made = nodes(
        language,
        "  whole: {matrix: [trait], merge: lora, model: voice}\n  look: {evaluate: look, model: [base, whole]}\n",
    )
    assert [use.name for use in made["whole-cold"].models["model"]] == ["voice-cold"]
    assert [use.name for use in made["look"].models["model"]] == ["base", "whole-warm", "whole-cold"]


def test_a_decoding_brings_the_models_and_prompts_that_it_names(language: Language) -> None:
    text = "  a: {matrix: [trait], generate: rows, from: chats, model: base, decoding: steered, prompt: ask, output: said}\n"
    made = nodes(language, text)["a-cold"]
    assert [use.name for use in made.decodings["decoding"].models["expert"]] == ["voice-cold"]
    assert "voice-cold" in [need.name for need in made.needs()]


def test_a_model_for_each_role_is_found_by_the_path_of_its_key(language: Language) -> None:
    made = nodes(
        language, "  a: {generate: rows, model: {seeker: api, supporter: base}, decoding: plain, output: said}\n"
    )["a"]
    assert {path: uses[0].name for path, uses in made.models.items()} == {
        "model.seeker": "api",
        "model.supporter": "base",
    }


def test_references_inside_free_keys_are_found(language: Language) -> None:
    text = "  a: {preprocess: find, from: chats, columns: {query: text}, take: {facts: {from: parts.train}, more: {from: chats}}}\n"
    made = nodes(language, text)["a"]
    assert [(path, rows[0].node.name) for path, rows in made.rows.items()] == [
        ("from", "chats"),
        ("take.facts.from", "parts"),
        ("take.more.from", "chats"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  a: {preprocess: join, from: chat}\n", "steps.a.from: no step 'chat'. Did you mean 'chats'?"),
        (
            "  a: {preprocess: join, from: [chats, zzz]}\n",
            "10:39: steps.a.from: no step 'zzz'. Steps with rows: a, chats, parts.",
        ),
        ("  a: {preprocess: join, from: base}\n", "steps.a.from: 'base' is a model, not rows."),
        ("  a: {preprocess: join, from: voice}\n", "steps.a.from: 'voice' makes a model, not rows."),
        (
            "  b: {export: file, model: base}\n  a: {preprocess: join, from: b}\n",
            "steps.a.from: 'b' makes files, not rows.",
        ),
        (
            "  b: {evaluate: look, model: base}\n  a: {preprocess: join, from: b}\n",
            "steps.a.from: 'b' makes figures, not rows.",
        ),
        ("  a: {preprocess: join, from: parts.tst}\n", "steps.a.from: 'tst' is no part. Did you mean 'test'?"),
        (
            "  a: {preprocess: join, from: parts.validation}\n",
            "'parts' has no part 'validation' (it has: train, test). Name another, or let the split make it.",
        ),
        ("  a: {preprocess: join, from: chats.train}\n", "'chats' has no part 'train' (it is not split)."),
        (
            "  a: {preprocess: join, from: [chats, parts]}\n",
            "steps.a.from: joins a whole split with plain rows. Name a part (parts.train), or split later.",
        ),
        ("  a: {export: file, model: bse}\n", "steps.a.model: no model 'bse'. Did you mean 'base'?"),
        (
            "  a: {export: file, model: chats}\n",
            "steps.a.model: 'chats' makes rows, not a model. Name an entry under models: or a train step.",
        ),
        (
            "  a: {export: file, model: voice}\n",
            "steps.a.model: 'voice' means 2 models here (voice-warm, voice-cold). Name one, or run over the same matrix.",
        ),
        (
            "  a: {export: file, model: api}\n",
            "steps.a.model: 'api' is an endpoint; export: file needs weights. Name a model with load:, or a train step.",
        ),
        (
            "  a: {evaluate: look, model: [base, api]}\n",
            "10:37: steps.a.model: 'api' is an endpoint; evaluate: look needs weights.",
        ),
        (
            "  a: {merge: lora, model: base}\n",
            "steps.a.model: 'base' is no adapter, and merge: lora takes one. Name a train step with lora:, or an entry whose folder holds an adapter.",
        ),
        (
            "  a: {train: judge, from: parts, columns: {label: id}, model: voice-warm}\n",
            "'voice-warm' is an adapter; train: judge takes whole models. Merge it first: {merge: lora, model: voice-warm}.",
        ),
        (
            "  a: {train: learn, from: parts, columns: {label: id}, model: minilm}\n",
            "'minilm' is an encoder model; train: learn takes a causal model.",
        ),
        (
            "  a: {evaluate: score, from: parts, model: base}\n",
            "'base' is a causal model; evaluate: score takes a classifier model.",
        ),
        (
            "  a: {preprocess: lessons, from: chats, prompt: akc}\n",
            "steps.a.prompt: no prompt 'akc'. Did you mean 'ask'?",
        ),
        (
            "  a: {generate: rows, model: base, decoding: plan}\n",
            "steps.a.decoding: no decoding 'plan'. Did you mean 'plain'?",
        ),
        (
            "  a: {generate: rows, model: base, decoding: steered}\n",
            "decoding.steered.expert: 'voice' means 2 models here",
        ),
        (
            "  a: {generate: rows, model: api, decoding: steered}\n",
            "steps.a.decoding: mode steer needs the weights, and 'api' is an endpoint.",
        ),
        (
            "  a: {preprocess: read, folder: datasets/chat}\n",
            "steps.a.folder: no folder 'datasets/chat'. Did you mean 'datasets/chats'?",
        ),
        (
            "  a: {preprocess: read, folder: datasets/empty}\n",
            "'datasets/empty' holds no data. Put the files there, or a README.md whose front matter says",
        ),
        ("  a: {preprocess: join, from: a}\n", "10:3: steps.a: needs itself: a → a. Break the circle."),
        (
            "  a: {preprocess: join, from: b}\n  b: {preprocess: join, from: [chats, a]}\n",
            "steps.a: needs itself: a → b → a. Break the circle.",
        ),
    ],
)
def test_a_name_that_cannot_be_meant_is_one_line(language: Language, text: str, line: str) -> None:
    language.dataset("empty", {"README.md": "Nothing here."})
    found = language.errors(BASE + text)
    assert any(line in one for one in found), found
    assert len(found) <= 2


def test_a_folder_with_only_a_readme_that_says_where_to_get_the_data_is_enough(language: Language) -> None:
    language.dataset("paid", {"README.md": "---\nget: https://example.org\n---\n"})
    assert language.errors(BASE + "  a: {preprocess: read, folder: datasets/paid}\n") == []


def test_datasets_can_lie_anywhere(language: Language, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "far" / "chats").mkdir(parents=True)
    (tmp_path / "far" / "chats" / "a.txt").write_text("x")
    (tmp_path / "datasets" / "chats" / "a.txt").unlink()
    assert "holds no data" in language.errors(BASE)[0]
    monkeypatch.setenv("DATASETS", str(tmp_path / "far"))
    assert language.errors(BASE) == []


def test_siblings_that_agree_with_nothing_are_named(language: Language) -> None:
    text = '  a: {matrix: {trait: [warm]}, preprocess: shape, from: chats, add: {x: "${trait}"}}\n'
    text += '  b: {matrix: {trait: [mild]}, preprocess: shape, from: a, add: {y: "${trait}"}}\n'
    found = language.errors(BASE + text)
    assert found == ["11:57: steps.b.from: 'a' runs over other values than this step: none of it is meant."]


def test_lengths_beyond_what_a_model_can_read(language: Language) -> None:
    text = (
        BASE.replace("mode: sample}", "mode: sample, max_new_tokens: 9000}")
        + "  a: {generate: rows, model: base, decoding: plain}\n"
    )
    assert language.errors(text) == [
        "4:50: decoding.plain.max_new_tokens: 9000 is more than the 8192 tokens that 'base' can read. Lower it."
    ]
    text = BASE + "  a: {train: learn, from: parts, columns: {label: id}, model: base, max_length: 9000}\n"
    assert "steps.a.max_length: 9000 is more than the 8192 tokens" in language.errors(text)[0]
    text = (
        BASE
        + "  m: {merge: lora, model: voice-warm}\n  a: {train: learn, from: parts, columns: {label: id}, model: m, max_length: 9000}\n"
    )
    assert "steps.a.max_length: 9000 is more than the 8192 tokens that 'm' can read." in language.errors(text)[0]


def test_what_nothing_uses_is_a_warning(language: Language) -> None:
    assert set(language.warnings(BASE)) >= {
        "models.minilm: nothing uses this model.",
        "models.api: nothing uses this model.",
        "prompts.ask: nothing uses this prompt.",
        "decoding.plain: nothing uses this decoding.",
        "decoding.steered: nothing uses this decoding.",
        "matrix.level: no step runs over this list.",
    }


def test_what_a_mapping_says_is_said_of_its_values() -> None:
    schema = {
        "properties": {
            "model": {
                "x-ref": "model",
                "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
            }
        }
    }
    found = list(walk(parse("model: {a: x, b: y}", "a.yaml"), schema))
    assert [(one.path, one.schema.get("x-ref")) for one in found] == [
        ("model", "model"),
        ("model.a", "model"),
        ("model.b", "model"),
    ]


def test_the_alternative_that_fits_is_taken() -> None:
    schema = {
        "x-ref": "rows",
        "anyOf": [{"type": "string", "a": 1}, {"type": "array", "b": 2}, {"type": ["number", "boolean"], "c": 3}],
    }
    assert [set(fitting(schema, value)) & set("abc") for value in ("x", ["x"], 1.5, True, {})] == [
        {"a"},
        {"b"},
        {"c"},
        {"c"},
        set(),
    ]
