"""The schema that editors read: fresh, valid, described, and of the same verdict as the checker's first stage."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner import docs, editor, shape, strict_yaml
from runner.problems import Problems
from tests.language import Language, spoken
from tests.test_recipe import BASE, REAL, mutate


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


def test_the_written_schema_and_reference_are_fresh() -> None:
    assert docs.stale() == [], "run: python -m runner docs"


def test_the_schema_is_one_and_says_nothing_of_ours() -> None:
    made = editor.build()
    Draft202012Validator.check_schema(made)
    assert '"x-' not in json.dumps(made)


def test_every_key_is_described() -> None:
    missing: list[str] = []
    waiting: list[tuple[str, Any]] = [("", editor.build())]
    while waiting:
        path, held = waiting.pop()
        if isinstance(held, dict):
            for key, value in held.get("properties", {}).items() if isinstance(held.get("properties"), dict) else ():
                if (
                    isinstance(value, dict)
                    and "description" not in value
                    and not {"const", "$ref"} & set(value)
                    and "$defs" in path
                ):
                    missing.append(f"{path}.{key}")
            waiting += [(f"{path}.{key}", value) for key, value in held.items()]
        elif isinstance(held, list):
            waiting += [(path, value) for value in held]
    assert missing == []


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def verdicts(text: str, validator: Any) -> tuple[bool, bool]:
    """(the editor's verdict, the checker's) on the shape of a recipe."""
    doc = strict_yaml.parse(text, "a.yaml")
    problems = Problems()
    if isinstance(doc, strict_yaml.Map):
        shape.check_document(doc, problems)
    fine = isinstance(doc, strict_yaml.Map) and not problems.errors
    return validator.is_valid(plain(doc)), fine


STEPS = "recipe: 1\nsteps:\n  s: "
HAND_MADE = [
    ("{train: learn, from: a, model: b}", True),
    ("{train: learn, from: a}", False),
    ("{train: learn, from: a, model: b, epochs: 0}", False),
    ('{train: learn, from: a, model: b, epochs: "${x}"}', True),
    ('{train: learn, from: a, model: b, epochs: "x"}', False),
    ('{train: learn, from: a, model: b, lora: "${x}"}', True),
    ('{train: learn, from: a, model: b, lora: {rank: "${x}"}}', True),
    ('{train: learn, from: a, model: b, lora: {rank: "x"}}', False),
    ('{train: learn, from: a, model: b, targets: "${x}"}', True),
    ('{train: learn, from: a, model: b, rates: ["${x}", 1]}', True),
    ('{train: learn, from: a, model: b, rates: ["x", 1]}', False),
    ('{train: learn, from: a, model: b, stop: {on: "at ${x}"}}', True),
    ('{train: "${x}", from: a, model: b}', False),
    ('{train: learn, from: a, model: b, matrix: "${x}"}', False),
    ("{train: learn, from: a, model: b, matrix: [x]}", True),
    ("{train: learn, from: a, model: b, matrix: {x: [1, a, true]}}", True),
    ("{train: learn, from: a, model: b, matrix: {x: [null]}}", False),
    ("{train: learn, from: a, model: b, matrix: {x: []}}", False),
    ("{train: learn, from: [], model: b}", False),
    ("{train: learn, from: a, model: b, columns: {x: [a, b]}}", True),
    ("{train: learn, from: a, model: b, columns: {x: 1}}", False),
    ("{train: learn, merge: lora, model: b}", False),
    ("{like: x}", True),
    ("{like: x, whatever: 1}", True),
    ("{like: 1}", False),
    ("{}", False),
    ("null", False),
    ("[]", False),
    ("{train: nothing}", False),
    ("{train: null}", False),
]  # fmt: skip
SECTIONS = [
    ("models: {a: x}", True), ("models: {a: ''}", False), ("models: {a: {load: x, bits: 4}}", True), ("models: {a: {load: x, bits: 5}}", False),
    ("models: {a: {endpoint: 'http://x', model: m}}", True), ("models: {a: {endpoint: x, model: m}}", False), ("models: {a: {endpoint: 'http://x', load: m}}", False),
    ("models: {a: {}}", False), ("models: {a: null}", False), ("models: {1a: x}", False), ("models: []", False), ("models: {'a b': x}", False),
    ("prompts: {a: {user: x}}", True), ("prompts: {a: [{user: x}, {user: y}]}", True), ("prompts: {a: {}}", False), ("prompts: {a: [{}]}", False),
    ("prompts: {a: []}", False), ("prompts: {a: {usr: x}}", False), ("prompts: {a: [x]}", False), ("prompts: {a: x}", False), ("prompts: {a: {user: 1}}", False),
    ("decoding: {a: {mode: sample}}", True), ("decoding: {a: {mode: smple}}", False), ("decoding: {a: {}}", False), ("decoding: {a: {mode: sample, temperature: '${x}'}}", True),
    ("decoding: {a: {mode: '${x}'}}", False), ("decoding: {a: {mode: steer}}", False), ("decoding: {a: x}", False), ("decoding: null", False),
    ("texts: {a: x, b: {c: {d: e}}, e: 1}", True), ("texts: {a: []}", False), ("matrix: {a: [1]}", True), ("matrix: {a: []}", False), ("matrix: {a: [{}]}", False),
    ("chat: {a: {model: b, decoding: c}}", True), ("chat: {a: {modl: b}}", False), ("chat: {a: null}", False), ("chat: {a: {with: {x: []}}}", False),
    ("variants: {a: {}}", True), ("variants: {a: {steps: {x: null}}}", True), ("variants: {a: {step: {}}}", False), ("variants: {a: null}", False), ("title: 1", False), ("other: 1", False),
]  # fmt: skip


def test_both_say_the_same_of_recipes_made_by_hand(language: Language) -> None:
    validator = Draft202012Validator(editor.build())
    for step, right in HAND_MADE:
        assert verdicts(STEPS + step, validator) == (right, right), step
    for section, right in SECTIONS:
        assert verdicts(f"{STEPS}{{export: file, model: a}}\n{section}", validator) == (right, right), section
    assert verdicts("recipe: 2\nsteps: {s: {like: a}}", validator) == (False, False)
    assert verdicts("recipe: 1\nsteps: {}", validator) == (False, False)


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(0, 4))
def test_both_say_the_same_of_mutated_recipes(language: Language, seed: int, times: int) -> None:
    made = mutate(yaml.safe_load(BASE), random.Random(seed), times)
    editors, ours = verdicts(yaml.safe_dump(made, sort_keys=False), Draft202012Validator(editor.build()))
    assert editors == ours


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_both_say_the_same_of_real_recipes_and_of_mutations(path: Path) -> None:
    validator = Draft202012Validator(editor.build())
    text = path.read_text(encoding="utf-8")
    assert verdicts(text, validator) == (True, True)
    for seed in range(40):
        made = mutate(strict_yaml.parse(text, "a.yaml"), random.Random(seed), 1 + seed % 3)
        editors, ours = verdicts(yaml.safe_dump(made, sort_keys=False), validator)
        assert editors == ours, seed
