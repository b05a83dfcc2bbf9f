"""A recipe with an entry of every sort under chat:, its steps made, on models of two layers: for talk, API and page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.conftest import make_tokenizer

PEOPLE = [
    ("ada", "Ada <b>", "You play chess."),
    ("bo", "Bo", "You keep bees."),
    ("cy", "Cy", "You sail at weekends."),
]
RECIPE = """\
recipe: 1
title: Supporter & <seeker>
matrix: {tone: [warm, cold]}
models:
  base: {load: "BASE"}
  other: {load: "OTHER"}
  finder: {load: "FINDER"}
  matcher: {load: "SCORER"}
decoding:
  talk: {mode: sample, max_new_tokens: 12}
  long: {mode: sample, max_new_tokens: 400}
  plain: {mode: greedy, max_new_tokens: 12}
  steered: {mode: dexperts, experts: {warm: {expert: other, alpha: 0.5}, cold: {anti_expert: other}}, alpha: 0.8, temperature: 0.9, max_new_tokens: 12}
prompts:
  holmes: {system: You are Holmes.}
  asked: {system: "You are {{ who }}.", user: "They say: {{ words }}"}
  me: {system: "{{ supporter.statement }}", prefill: "[INFO-{{ memory }}]"}
  seek: {system: "{{ seeker.statement }} {{ memory }}"}
  which: {user: "{{ heard }} Choose one of: {{ choices }}"}
  found: {system: "You know: {{ facts }}", user: "Q: {{ question }}"}
steps:
  people: {preprocess: table, folder: datasets/people}
  notes: {preprocess: select, from: people, add: {text: "{{ statement }}"}}
  asks: {preprocess: select, from: people, add: {query: "{{ name }}"}}
  hints: {preprocess: retrieve, from: asks, take: {facts: {from: notes, words: 6}}, model: finder}
chat:
  holmes: {model: base, decoding: talk, prompt: holmes}
  slow: {model: base, decoding: long, prompt: holmes}
  sure: {model: base, decoding: plain}
  filled: {model: base, decoding: talk, prompt: asked, with: {who: Watson}}
  steer: {model: base, decoding: steered, prompt: holmes}
  supporter:
    model: base
    decoding: talk
    prompt: me
    opener: What troubles you?
    person: {from: people, as: supporter, label: name, best_by: matcher, column: statement}
    memory: {of: aspects, leave_out: [worry], best_by: matcher, rest: {after: 1, in_last: 1}}
  seeker:
    model: base
    decoding: talk
    prompt: seek
    person: {from: people, as: seeker, which: bo}
    memory: {of: aspects, ask: which, first: worry, otherwise: {use: hobby}}
  both: {between: [seeker, supporter], turns: 4, opener: Good morning.}
  direct: {model: base, decoding: talk, prompt: found, take: hints}
  other-way: {model: base, decoding: talk, prompt: found, take: {take: {facts: {from: notes, words: 6}}, model: finder}}
"""


def write(folder: Path, base: Path) -> Path:
    """The recipe `many` with its data and its other models; returns the folder."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "datasets" / "people").mkdir(parents=True)
    text = RECIPE
    for name, place in {"BASE": base, **_models(folder)}.items():
        text = text.replace(f'"{name}"', json.dumps(str(place)))
    (folder / "recipes" / "many.yaml").write_text(text.replace("matrix: {tone: [warm, cold]}\n", ""), encoding="utf-8")
    (folder / "datasets" / "people" / "README.md").write_text("Made up.\n", encoding="utf-8")
    rows = [
        {
            "id": name,
            "name": called,
            "statement": f"You are {called}. {hobby}",
            "aspects": {"hobby": hobby, "work": f"You work at mill {at}.", "worry": "You fear the rain."},
        }
        for at, (name, called, hobby) in enumerate(PEOPLE)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "datasets" / "people" / "people.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _models(folder: Path) -> dict[str, Path]:
    """Another causal model, an encoder, and a scorer of pairs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, LlamaConfig, LlamaForCausalLM

    held = make_tokenizer()
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {**sizes, "vocab_size": len(held), "max_position_embeddings": 512, "pad_token_id": held.pad_token_id}
    llama = LlamaConfig(
        **common, num_key_value_heads=2, eos_token_id=held.eos_token_id, bos_token_id=None, tie_word_embeddings=True
    )
    made: dict[str, Any] = {
        "OTHER": LlamaForCausalLM(llama),
        "FINDER": BertModel(BertConfig(**common)),
        "SCORER": BertForSequenceClassification(BertConfig(**common, num_labels=1)),
    }
    for name, network in made.items():
        network.save_pretrained(folder / name.lower())
        held.save_pretrained(folder / name.lower())
    return {name: folder / name.lower() for name in made}


@contextmanager
def cast(folder: Path, base: Path) -> Iterator[Any]:
    """Everybody of the recipe, opened in this process; the working folder is the project's meanwhile."""
    from click.testing import CliRunner

    from runner import chatting
    from runner import plan as planning
    from runner import recipe as recipes
    from runner.cli import main

    write(folder, base)
    with chdir(folder), mock.patch.dict(os.environ, {"ARTIFACTS": str(folder / "artifacts")}):
        os.environ.pop("DATASETS", None)
        for step in ("notes", "people"):
            made = CliRunner().invoke(main, ["run", "many", "--target", f"step/{step}"], catch_exceptions=False)
            assert made.exit_code == 0, made.stderr
        plan = planning.make(recipes.load(recipes.find("many")))
        yield chatting.Cast(plan, lambda line: None)
