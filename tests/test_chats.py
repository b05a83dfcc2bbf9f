"""Chat entries are proved as steps are, and speak as they were trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.language import Language, spoken


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    with spoken(tmp_path, monkeypatch) as made:
        yield made


BASE = """\
recipe: 1
matrix: {trait: [warm, cold]}
models: {base: smollm2-135m, minilm: minilm, api: {endpoint: "https://x.org/v1", model: m}}
decoding: {talk: {mode: sample}, steered: {mode: steer, expert: voice, expert_prompt: drive}}
texts: {who: {warm: kind, cold: curt}}
prompts:
  me: {system: You are me., assistant: "{{ text }}"}
  same: {system: You are me.}
  other: {system: You are not me.}
  trait: {system: "You are {{ texts.who[trait] }}.", user: "{{ question }}"}
  wide: {user: "{{ one }} {{ two }} {{ three }}"}
  drive: {user: "Be {{ trait }}."}
  person: {system: "{{ who.text }} {{ memory }}", user: "{{ question }}"}
  found: {system: "{{ facts }}", user: "{{ question }}"}
  which: {user: "{{ heard }} {{ choices }}"}
steps:
  chats: {preprocess: read, folder: datasets/chats}
  parts: {preprocess: split, from: chats, test: 0.1}
  lessons: {preprocess: lessons, from: parts, prompt: me}
  trained: {train: learn, from: lessons, model: base}
  voice: {matrix: [trait], train: learn, from: lessons, model: base, targets: ["${trait}"]}
  seek: {preprocess: find, from: chats, take: {facts: {from: chats}}}
chat:
"""


@pytest.mark.parametrize(
    ("entry", "typed"),
    [
        ("{model: base, decoding: talk}", None),
        ("{model: trained, decoding: talk, prompt: me}", None),
        ("{model: trained, decoding: talk, prompt: same}", None),  # what only training uses may differ
        ("{model: trained, decoding: talk, checkpoint: final}", None),
        ("{model: voice-warm, decoding: talk}", None),
        ("{model: voice, decoding: talk, with: {trait: warm}}", None),
        ("{model: base, decoding: talk, prompt: trait, with: {trait: warm}}", "question"),
        ("{model: base, decoding: talk, prompt: wide, with: {one: 1, three: 3}}", "two"),
        ("{model: base, decoding: steered, prompt: trait, with: {trait: cold}}", "question"),
        (
            "{model: base, decoding: talk, prompt: person, person: {from: chats, as: who}, memory: {of: profile, ask: which}}",
            "question",
        ),
        ("{model: base, decoding: talk, prompt: found, take: seek}", "question"),
        (
            "{model: base, decoding: talk, prompt: found, take: {take: {facts: {from: chats, words: 9}}, model: minilm}}",
            "question",
        ),
        ("{model: api, decoding: talk}", None),
        ("{model: base, decoding: talk, opener: Hello.}", None),
    ],
)
def test_an_entry_knows_what_the_user_types(language: Language, entry: str, typed: str | None) -> None:
    assert language.load(BASE + f"  x: {entry}\n").chats["x"].typed == typed


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("{model: bse, decoding: talk}", "24:14: chat.x.model: no model 'bse'. Did you mean 'base'?"),
        ("{model: base, decoding: tlak}", "chat.x.decoding: no decoding 'tlak'. Did you mean 'talk'?"),
        ("{model: base, decoding: talk, prompt: mee}", "chat.x.prompt: no prompt 'mee'. Did you mean 'me'?"),
        (
            "{model: minilm, decoding: talk}",
            "chat.x.model: 'minilm' is an encoder model; chat takes a causal model.",
        ),
        ("{model: chats, decoding: talk}", "chat.x.model: 'chats' makes rows, not a model."),
        ("{model: voice, decoding: talk}", "chat.x.model: 'voice' means 2 models here (voice-warm, voice-cold)."),
        (
            "{model: base, decoding: talk, checkpoint: final}",
            "chat.x.checkpoint: 'base' is not trained here, so it has none. Remove it.",
        ),
        (
            "{model: base, decoding: talk, checkpoint: last}",
            "chat.x.checkpoint: 'last' is not one of its values. It is one of: best, final.",
        ),
        (
            "{model: trained, decoding: talk, prompt: other}",
            "chat.x.prompt: 'trained' was trained with the prompt 'me', not 'other'. Use the same in both.",
        ),
        (
            "{model: base, decoding: talk, prompt: wide}",
            "chat.x.prompt: 3 variables are left open (one, three, two), and the user types one. Give the others under with:.",
        ),
        (
            "{model: base, decoding: talk, prompt: other, with: {zzz: 1}}",
            "chat.x.with: nothing here has a variable 'zzz'. Remove it.",
        ),
        (
            "{model: base, decoding: talk, prompt: trait, with: {trait: mild}}",
            "prompts.trait.system: texts.who has no 'mild'. It has: cold, warm.",
        ),
        ("{model: base, decoding: steered, prompt: other}", "decoding.steered.expert: 'voice' means 2 models here"),
        (
            "{model: base, decoding: talk, prompt: person, person: {from: chat, as: who}, memory: {of: profile}}",
            "chat.x.person.from: no step 'chat'. Did you mean 'chats'?",
        ),
        (
            "{model: base, decoding: talk, prompt: person, person: {from: seek, as: whom}, memory: {of: profile}}",
            "chat.x.prompt: 2 variables are left open (question, who)",
        ),
        ("{between: [y, z]}", "chat.x.between: no chat 'y'."),
    ],
)
def test_an_entry_that_cannot_work_is_one_line(language: Language, entry: str, line: str) -> None:
    found = language.errors(BASE + f"  x: {entry}\n")
    assert any(line in one for one in found), found


def test_a_row_that_fills_the_prompt_is_known_inside(language: Language) -> None:
    base = BASE.replace("who.text", "who.role")
    found = language.errors(
        base
        + "  x: {model: base, decoding: talk, prompt: person, person: {from: chats, as: who}, memory: {of: profile}}\n"
    )
    assert found == ["13:20: prompts.person.system, used by chat.x: 'who' has no 'role'. Did you mean 'profile'?"]


def test_two_entries_can_talk_with_each_other(language: Language) -> None:
    text = BASE + "  a: {model: base, decoding: talk}\n  b: {model: base, decoding: talk}\n  both: {between: [a, b]}\n"
    assert list(language.load(text).chats) == ["a", "b"]


def test_a_model_trained_with_two_prompts_talks_with_either_and_with_no_third(language: Language) -> None:
    more = BASE.replace(
        "chat:\n",
        "  more: {preprocess: lessons, from: parts, prompt: other}\n  both: {train: learn, from: [lessons, more], model: base}\nchat:\n",
    )
    for prompt in ("me", "other"):
        assert language.errors(more + f"  x: {{model: both, decoding: talk, prompt: {prompt}}}\n") == []
    found = language.errors(more + "  x: {model: both, decoding: talk, prompt: wide}\n")
    assert "'both' was trained with the prompt 'me' and 'other', not 'wide'." in found[0]


def test_a_prompt_that_only_a_chat_uses_counts_as_used(language: Language) -> None:
    warnings = language.warnings(BASE + "  x: {model: base, decoding: talk, prompt: other}\n")
    assert "prompts.other: nothing uses this prompt." not in warnings
    assert "prompts.wide: nothing uses this prompt." in warnings
