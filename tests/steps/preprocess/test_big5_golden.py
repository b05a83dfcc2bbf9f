"""Replies at two levels of a trait, as published, become lessons and preferences with no scene on both sides of a split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.files import read_rows

DATA = Path(__file__).resolve().parents[4] / "shared/data/big5chat"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not there: {DATA}")

RECIPE = """\
recipe: 1
title: Replies at two levels of two traits
prompts:
  persona: {user: "You are an assistant with {{ level }} {{ trait }}.\\n{{ opening }}", assistant: "{{ reply }}"}
steps:
  # Three lines a scene: what X says, and what Y replies at high and at low
  replies:
    preprocess: table
    folder: DATA
    files: [alpha_0.5_trait_o.jsonl, alpha_0.5_trait_e.jsonl]
    nan: empty
    columns: {topic: env_info.original_index}
  named:
    preprocess: select
    from: replies
    add:
      trait: "{{ 'openness' if '_trait_o' in source else 'extraversion' }}"
      scene: "{{ topic }} {{ trait }}"
      level: "{{ 'high' if 'The person has high' in prompt else 'low' if 'The person has low' in prompt else 'opening' }}"
    keep: [scene, topic, trait, level, response]
  scenes:  {preprocess: collect, from: named, by: scene, key: level, value: response, into: said}
  rows:    {preprocess: explode, from: scenes, column: said, key: level, value: reply}
  good:
    preprocess: select
    from: rows
    add: {opening: "{{ said.opening }}", text: "{{ reply }}"}
    where: level != "opening"
  kept:    {preprocess: select, from: good, refusals: drop, together: topic}
  parts:   {preprocess: split, from: kept, by: topic, test: 0.2, order: file}
  lessons: {preprocess: examples, from: parts, prompt: persona, keep: [topic, trait, level]}
  choices: {preprocess: preferences, from: parts, prompt: persona, same: [topic, trait], other: level, keep: [topic]}

  # The published sample, one row a reply
  sample:  {preprocess: table, folder: DATA, files: big5_chat_sampled.csv}
  usable:  {preprocess: select, from: sample, columns: {text: response}, rename: {opening: speakerX, reply: response}, refusals: drop}
  learned: {preprocess: examples, from: usable, prompt: persona}
"""


@pytest.fixture(scope="module")
def made(make_recipe: Callable[[str], Path]) -> Path:
    """The folder with every step of the recipe."""
    return make_recipe(RECIPE.replace("DATA", str(DATA)))


def rows(made: Path, step: str, part: str) -> list[dict[str, Any]]:
    return list(read_rows(made / step / f"{part}.jsonl"))


def replies() -> dict[tuple[int, str, str], tuple[str, str]]:
    """(topic, trait, level) → what X says and what Y replies, read by hand from groups of three lines."""
    found = {}
    for letter, trait in (("o", "openness"), ("e", "extraversion")):
        lines = [
            json.loads(line)
            for line in (DATA / f"alpha_0.5_trait_{letter}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for opening, *answers in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
            for level, answer in zip(("high", "low"), answers, strict=True):
                found[opening["env_info"]["original_index"], trait, level] = (opening["response"], answer["response"])
    return found


def test_every_reply_becomes_a_lesson_in_the_words_of_the_prompt(made: Path) -> None:
    lessons = rows(made, "lessons", "train") + rows(made, "lessons", "test")
    expected = {
        key: [
            {"role": "user", "content": f"You are an assistant with {key[2]} {key[1]}.\n{opening}"},
            {"role": "assistant", "content": reply.strip()},
        ]
        for key, (opening, reply) in replies().items()
    }
    assert {(row["topic"], row["trait"], row["level"]): row["messages"] for row in lessons} == expected
    assert len(lessons) == 80


def test_no_scene_is_on_both_sides_of_the_split(made: Path) -> None:
    for step in ("lessons", "choices"):
        topics = [{row["topic"] for row in rows(made, step, part)} for part in ("train", "test")]
        assert [len(found) for found in topics] == [16, 4]
        assert not topics[0] & topics[1]
        assert list(dict.fromkeys(row["topic"] for row in rows(made, step, "test")))  # the last scenes of the file


def test_each_level_is_preferred_to_the_other_in_its_turn(made: Path) -> None:
    pairs = rows(made, "choices", "train") + rows(made, "choices", "test")
    said = {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in pairs}
    expected = replies()
    both = {
        (expected[topic, trait, one][1], expected[topic, trait, other][1])
        for topic, trait, one in expected
        for other in ("high", "low")
        if one != other
    }
    assert said == both
    assert all(
        " ".join(row["prompt"][0]["content"].split()[:6])
        in ("You are an assistant with high", "You are an assistant with low")
        for row in pairs
    )


def test_the_published_sample_goes_through_without_its_refusal(made: Path) -> None:
    step = json.loads((made / "usable/step.json").read_text(encoding="utf-8"))
    assert step["rows"]["dropped"] == {"a refusal": 1}
    assert len(rows(made, "learned", "rows")) == 199
