"""Reading and proving whole recipes: names, secrets, includes; and that nothing whatever makes the checker fail or hang."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import recipe, schema, strict_yaml
from runner.errors import RecipeError
from runner.problems import Invalid, suggest
from tests.language import KINDS, Language, spoken

ROOT = Path(__file__).resolve().parents[1]
REAL = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


BASE = """\
recipe: 1
title: Small
matrix: {trait: [warm, cold]}
models: {base: smollm2-135m, api: {endpoint: "https://x.org/v1", model: m, api_key_env: A_KEY}}
decoding: {talk: {mode: sample, temperature: 1}}
texts: {who: {warm: kind, cold: curt}}
prompts: {me: {system: "You are {{ texts.who[trait] }}."}}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  parts: {preprocess: split, from: chats, test: 0.1}
  lessons: {matrix: [trait], preprocess: lessons, from: parts, prompt: me}
  voice: {matrix: [trait], train: learn, from: lessons, model: base, epochs: 2, lora: {rank: 8}}
  other: {like: voice, epochs: 3}
  said: {matrix: [trait], generate: rows, from: parts.test, model: voice, decoding: talk, prompt: me, output: {mood: 1..5}}
  look: {evaluate: look, from: said, model: [base, other], by: trait}
chat: {x: {model: voice, decoding: talk, prompt: me, with: {trait: warm}}}
variants: {smoke: {matrix: {trait: [warm]}, steps: {voice: {epochs: 1}}}}
"""


def test_a_recipe_is_expanded_and_put_in_order(language: Language) -> None:
    made = language.load(BASE)
    assert [node.name for node in made.nodes] == [
        "chats", "parts", "lessons-warm", "lessons-cold", "voice-warm", "voice-cold", "other-warm", "other-cold",
        "said-warm", "said-cold", "look",
    ]  # fmt: skip
    assert made.title == "Small" and made.label == "made" and made.warnings
    assert len(language.load(BASE, ["smoke"]).nodes) == 7
    assert language.load(BASE, ["smoke"], ["steps.voice.epochs=1"]).label == "made@smoke@steps-voice-epochs-1"


def test_steps_come_after_what_they_need_wherever_they_stand(language: Language) -> None:
    lines = BASE.split("\n")
    made = language.load("\n".join([*lines[:8], *reversed(lines[8:15]), *lines[15:]]))
    done: set[str] = set()
    for node in made.nodes:
        assert {need.name for need in node.needs()} <= done
        done.add(node.name)


def test_a_file_may_not_be_named_like_a_target_a_folder_of_the_runner_or_like_nothing(language: Language) -> None:
    for name, line in [
        ("run", "'run' is the name of a make target. Rename the file."),
        ("store", "'store' is the name of a folder that the runner keeps in artifacts/. Rename the file."),
        ("Cache", "'Cache' is the name of a folder that the runner keeps in artifacts/. Rename the file."),
        ("a b", "'a b' is not a name."),
    ]:
        path = language.folder / "recipes" / f"{name}.yaml"
        path.write_text(BASE)
        assert line in str(recipe.check(path)[0])


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(language: Language) -> None:
    language.write(BASE)
    with pytest.raises(RecipeError, match=r"recipes/mad\.yaml: no such recipe\. Did you mean 'made'\?"):
        recipe.find("mad")
    assert recipe.find("made") == recipe.find("recipes/made.yaml") == Path("recipes/made.yaml")


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("{endpoint: \"https://x.org/v1\", model: m, api_key: abc}", "models.api.api_key: this looks like a key. Put it in the environment and name the variable: api_key_env: API_API_KEY."),
        ("{endpoint: \"https://x.org/v1\", model: m, api_key_env: sk-abcdefghijklmnopq}", "models.api.api_key_env: this looks like a key."),
        ("{endpoint: \"https://u:secret@x.org/v1\", model: m}", "models.api.endpoint: this looks like a key."),
        ("hf_abcdefghijklmnopqrst", "models.api: this looks like a key."),
        ("{load: x, note: [ghp_abcdefghijklmnopqrstuvwxyz]}", "models.api.note.0: this looks like a key."),
        ("{AKIAABCDEFGHIJKLMNOP: x}", "models.api.…: this looks like a key."),
    ],
)  # fmt: skip
def test_a_secret_is_found_and_never_repeated(language: Language, key: str, where: str) -> None:
    text = BASE.replace('{endpoint: "https://x.org/v1", model: m, api_key_env: A_KEY}', key)
    found = language.errors(text)
    assert len(found) == 1 and where in found[0]
    assert not any(word in found[0] for word in ("sk-abc", "secret", "hf_abc", "ghp_abc", "AKIAABC", "abcdefgh"))


def test_a_secret_in_a_variant_or_an_argument_is_found_too(language: Language) -> None:
    found = language.errors(BASE.replace("epochs: 1}", "epochs: 1, hub_token: abc}"))
    assert "variants.smoke.steps.voice.hub_token: this looks like a key. " in found[0]


def test_words_that_only_look_a_little_like_keys_are_left_alone(language: Language) -> None:
    text = BASE.replace("kind, cold", '"ask-me-anything-you-like, task-force-delta", token: my token, cold')
    assert language.errors(text) == []


# Includes


def test_a_prompt_includes_a_file_of_the_prompts_folder(language: Language) -> None:
    folder = language.folder / "recipes" / "prompts"
    folder.mkdir()
    (folder / "rules.txt").write_text("Be {{ trait }}. {% include 'more.txt' %}")
    (folder / "more.txt").write_text("Now.")
    made = language.load(BASE.replace("You are", "{% include 'rules.txt' %} You are"))
    assert made.includes == {"rules.txt": "Be {{ trait }}. {% include 'more.txt' %}", "more.txt": "Now."}


def test_a_file_that_is_no_text_is_not_included(language: Language) -> None:
    folder = language.folder / "recipes" / "prompts"
    folder.mkdir()
    (folder / "rules.txt").write_bytes(b"caf\xe9")
    found = language.errors(BASE.replace("You are", "{% include 'rules.txt' %} You are"))
    assert found == ["7:24: prompts.me.system: includes 'rules.txt', which is not UTF-8 (byte 4). Save it so."]


@pytest.mark.parametrize(
    "name", ["../made.yaml", "/etc/passwd", "nothing.txt", "link.txt", "sub/../../made.yaml", "..", "", "a\\0b"]
)
def test_a_prompt_includes_nothing_from_elsewhere(language: Language, name: str) -> None:
    folder = language.folder / "recipes" / "prompts"
    folder.mkdir()
    (folder / "link.txt").symlink_to(language.folder / "recipes" / "made.yaml")
    found = language.errors(BASE.replace("You are", f"{{% include '{name}' %}} You are"))
    assert len(found) == 1 and "which is no file of recipes/prompts/" in found[0]


# Whatever is written, the answer is lines


def lines_of(path: Path) -> None:
    """Check a recipe, and that whatever is wrong is said in short lines."""
    for problem in recipe.check(path):
        assert "\n" not in str(problem) and len(str(problem)) < 3000
        assert problem.mark.file and str(problem)


ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1e-4,
    "",
    "x",
    "${trait}",
    "${trait...}",
    "${",
    "{{ x }}",
    "{{ x",
    "base",
    "voice",
    "chats",
    "parts.test",
]
ODD += [
    [],
    {},
    [[]],
    [{}],
    {"x": None},
    ["chats", "parts"],
    {"like": "voice"},
    {"trait": ["a"]},
    {"from": "voice"},
    [None],
    10**30,
    "a.b.c",
    {"a": {"b": {}}},
]
WORDS = sorted(
    {key for held in KINDS.values() for key in held["properties"]}
    | {"like", "matrix", "columns", "train", "mode", "load"}
)


def mutate(value: Any, choose: random.Random, times: int) -> Any:
    """The same tree with some of its parts removed, replaced, renamed, repeated or added."""
    made = _plain(value)
    for _ in range(times):
        held = [made]
        for _ in range(choose.randrange(1, 6)):
            inner = [
                one
                for one in (held[-1].values() if isinstance(held[-1], dict) else held[-1])
                if isinstance(one, dict | list) and one
            ]
            if not inner:
                break
            held.append(choose.choice(inner))
        _change(held[-1], choose)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _change(held: Any, choose: random.Random) -> None:
    if isinstance(held, list):
        place = choose.randrange(len(held) + 1)
        held[place : place + choose.randrange(2)] = [copy.deepcopy(choose.choice(ODD))][: choose.randrange(2)]
        return
    key = choose.choice(list(held)) if held else "x"
    action = choose.randrange(4)
    if action == 0:
        held.pop(key, None)
    elif action == 1:
        held[key] = copy.deepcopy(choose.choice(ODD))
    elif action == 2:
        held[choose.choice(WORDS)] = held.pop(key, None)
    else:
        held[choose.choice(WORDS)] = copy.deepcopy(choose.choice(ODD))


@settings(max_examples=400, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_a_mutated_recipe_gives_lines_and_never_a_traceback(language: Language, seed: int, times: int) -> None:
    made = mutate(yaml.safe_load(BASE), random.Random(seed), times)
    lines_of(language.write(yaml.safe_dump(made, sort_keys=False, allow_unicode=True)))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_mutated_real_recipes_give_lines_and_never_a_traceback(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    document = strict_yaml.read(path)
    for seed in range(60):
        file = tmp_path / "made.yaml"
        file.write_text(
            yaml.safe_dump(mutate(document, random.Random(seed), 1 + seed % 4), sort_keys=False), encoding="utf-8"
        )
        lines_of(file)


@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=150) | st.text(alphabet="recipe: 1\nstps{}[]-&*|>'\"#%$", max_size=150))
def test_any_text_gives_lines(language: Language, text: str) -> None:
    language.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    lines_of(language.path)


@pytest.mark.parametrize(
    "text",
    [
        "recipe: 1\nsteps: &a {x: *a}\n",
        "recipe: 1\nsteps: &a {x: {train: learn, from: [*a], model: b}}\n",
        "recipe: 1\nmodels: &m {a: &e {load: x}, b: *e}\nsteps: {s: {export: file, model: a}}\nvariants: {v: {models: *m}}\n",
        "recipe: 1\nsteps: {s: &s {like: t}, t: *s}\n",
        "recipe: 1\nmatrix: {a: [1, 1.0, true, '1']}\nsteps: {s: {matrix: [a, a], export: file, model: '${a}'}}\n",
        "recipe: 1\nsteps: {s: {export: file, model: " + "{{" * 2000 + "}}\n",
        "recipe: 1\nprompts: {p: {user: '" + "{{ (" * 3000 + "'}}\nsteps: {s: {preprocess: lessons, from: s, prompt: p}}\n",
        "recipe: 1\nprompts: {p: {user: '{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}'}}\nsteps: {s: {preprocess: read, folder: datasets/chats}, t: {preprocess: lessons, from: s, prompt: p}}\n",
        "recipe: 1\nprompts: {p: {user: '{{ " + "9" * 6000 + " }}'}}\nsteps: {s: {preprocess: read, folder: datasets/chats}, t: {preprocess: lessons, from: s, prompt: p}}\n",
        "recipe: 1\nprompts: {p: {user: '" + "{% if x %}" * 900 + "'}}\nsteps: {s: {preprocess: read, folder: datasets/chats}, t: {preprocess: lessons, from: s, prompt: p}}\n",
        "recipe: 1\nsteps:\n" + "".join(f"  s{at}: {{preprocess: join, from: s{at + 1}}}\n" for at in range(1500)) + "  s1500: {preprocess: read, folder: datasets/chats}\n",
        "recipe: 1\nsteps:\n" + "".join(f"  s{at}: {{like: s{at + 1}}}\n" for at in range(1500)) + "  s1500: {preprocess: read, folder: datasets/chats}\n",
        "recipe: 1\nsteps: {s: {preprocess: read, folder: \"a\\0b\"}}\n",
        "recipe: 1\nsteps: {s: {preprocess: read, folder: " + "x/" * 3000 + "}}\n",
        "recipe: 1\nsteps: {s: {preprocess: read, folder: ''}}\n",
        "recipe: 1\nsteps: {s: {preprocess: read, folder: /}}\n",
    ],
    ids=range(16),
)  # fmt: skip
def test_traps_give_lines_soon(language: Language, text: str) -> None:
    started = time.perf_counter()
    lines_of(language.write(text))
    assert time.perf_counter() - started < 20


def test_names_are_suggested_and_long_lists_cut_short() -> None:
    assert suggest("trian", ["train", "test"]) == " Did you mean 'train'?"
    assert suggest("zzz", []) == ""
    assert len(suggest("zzz", [f"name{at}" for at in range(1000)])) < 250


def test_all_problems_are_raised_together_sorted_by_line(language: Language) -> None:
    with pytest.raises(Invalid) as caught:
        language.load(BASE.replace("from: chats,", "from: chat,").replace("[base, other]", "[bas, other]"))
    assert [line.split(": ")[0] for line in caught.value.lines] == [
        "recipes/made.yaml:10:36",
        "recipes/made.yaml:15:46",
    ]


# Real recipes


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_recipe_checks_without_a_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [str(one) for one in recipe.check(path) if not one.warning] == []


def test_checking_all_recipes_takes_well_under_a_second() -> None:
    command = [sys.executable, "-m", "runner", "check"]
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        after = os.times()  # the processor's time, which what else the machine does disturbs least
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(times) < 1.0  # 0.4 s where nothing else runs


@pytest.mark.parametrize("name", [f"{verb}/{kind}" for verb in schema.VERBS for kind in schema.kinds(verb)])
def test_every_kind_says_only_what_the_checker_understands(name: str) -> None:
    unknown: list[str] = []
    waiting: list[Any] = [schema._load(f"steps/{name}.json")]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            unknown += [key for key in held if key.startswith("x-") and key not in UNDERSTOOD]
            waiting += held.values()
        elif isinstance(held, list):
            waiting += held
    assert unknown == []


def _understood() -> set[str]:
    """The annotations that the docstrings explain, with those that planning and the editor use."""
    import re

    from runner import chats, columns, resolve

    text = f"{columns.__doc__} {resolve.__doc__} {chats.__doc__}"
    return set(re.findall(r"x-[a-z]+(?:-[a-z]+)*", text)) | {
        "x-revision",
        "x-resumes",
        "x-shares",
        "x-shards",
        "x-device",
        "x-key",
        "x-arguments",
        "x-sets",
        "x-names",
    }


UNDERSTOOD = _understood()


def test_what_is_wrong_in_one_place_hides_nothing_that_is_wrong_in_another(tmp_path: Path) -> None:
    """A misspelt key, in the same step too, is no reason to keep quiet about references, folders, chats and variants."""
    path = tmp_path / "many.yaml"
    path.write_text(
        "recipe: 1\n"
        "titel: x\n"
        "models: {base: smollm2-135m}\n"
        "steps:\n"
        "  chats: {preprocess: discord, folder: datasets/detektive, speeker: holmes}\n"
        "  turns: {preprocess: conversations, from: chat, gap_minutes: sixty}\n"
        "  parts: {preprocess: split, from: turns, validation: 0.1, test: 0.1, order: tme}\n"
        "  voice: {train: sft, from: parts, modle: base}\n"
        "  heard: {evaluate: perplexity, from: parts.test, model: [base, voise]}\n"
        "chat:\n"
        "  a: {model: voice, decoding: talk}\n"
        "variants:\n"
        "  x: {steps: {voice: {epochs: many}, nosuch: {a: 1}}}\n"
    )
    found = [(problem.mark.line, problem.message.split(":")[0]) for problem in recipe.check(path)]

    assert found == [
        (2, "unknown key 'titel'. Did you mean 'title'?"),
        (5, "steps.chats.folder"),
        (5, "steps.chats"),
        (6, "steps.turns.from"),
        (6, "steps.turns.gap_minutes"),
        (7, "steps.parts.order"),
        (8, "steps.voice"),
        (9, "steps.heard.model"),
        (11, "chat.a.decoding"),
        (13, "steps.voice.epochs"),
        (13, "variants.x.steps.nosuch"),
    ]
