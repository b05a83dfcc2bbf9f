"""recipes/persllm-data.yaml at an endpoint that answers well: questions of three kinds, answers from memory, lessons and preferences."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from runner.files import Row, read_rows
from tests.recipe_runs import ROOT, rows, run, store
from tests.server import Body, Server

RECIPE = "persllm-data"
WHO, STAGE, PATTERN = ("clara", "tomas"), ("early", "late"), ("ordinary", "error", "thought")
OTHER = {"early": "late", "late": "early"}
WHEN = {"early": "<TIME-I>", "late": "<TIME-II>"}
WORDS = """\
river bread clock letter garden winter harbour brother debt music wedding storm horse lantern school bridge neighbour salt
fever market roof promise grandmother wolf silence coat apple war ferry gold dream dog candle mill soldier snow debtor bell orchard tooth
tax painting knife ghost mountain church island fish wheel iron wine doctor thief mirror shoe sister stove spring hammer road"""
REPEATED = "What do you think of the weather these days?"


def reply(body: Body) -> str:
    """What a good model would say to each of the recipe's prompts; the same to the same request."""
    asked, chance = body["messages"][-1]["content"], random.Random(json.dumps([body["messages"], body.get("seed")]))
    words = ", ".join(chance.sample(WORDS.split(), 4))
    if "asks a question" in asked or "asks Clara" in asked or "asks Tomas" in asked:
        question = REPEATED if chance.random() < 0.1 else f"Did the {words} change what you believe?"
        return f'<think>\nA question, then.\n</think>\n"{question}"'
    if "an opinion" in asked:
        return f"People say that the {words}\nmatter more than anything."
    said = "Refused." if chance.random() < 0.1 else f"By the {words}, I have always held to that."
    if "response_format" in body:
        return "Here you are: " + json.dumps(
            {"analysis": f"It fits my {chance.choice(WORDS.split())}.", "response": said}
        )
    return said


@pytest.mark.slow
def test_a_good_endpoint_makes_lessons_and_preferences_of_either_stage(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    with Server(reply=reply) as server:
        where = f"models.writer.endpoint={server.url} models.finder=minilm"
        folder = run(RECIPE, artifacts, "--set", where)
        asked = server.requests
        run(RECIPE, artifacts, "--set", where)
        assert server.requests == asked
    expect_questions(folder)
    expect_asked(rows(folder, "asked"))
    train, test = expect_kept(folder)
    expect_lessons(folder, train + test)
    expect_preferences(folder, train, test)


def expect_questions(folder: Path) -> None:
    """Fifty for each person, stage and kind, of every passage in turn; one line, without thoughts and quotes."""
    for who, stage, pattern in product(WHO, STAGE, PATTERN):
        made = rows(folder, f"questions-{who}-{stage}-{pattern}")
        assert len(made) == 50
        passages = Counter(row["text"] for row in made)
        assert set(passages) == set(known(who, stage, "knowledge") + known(who, stage, "style"))
        assert max(passages.values()) - min(passages.values()) <= 1
        assert all(set(row["question"]) & set('"<>\n') == set() for row in made)
        assert all(row["question"][-1] == ("." if pattern == "thought" else "?") for row in made)


def known(who: str, stage: str, kind: str) -> list[str]:
    """The lines of a person's file, without their source."""
    text = (ROOT / f"datasets/persons/{who}/{stage}/{kind}/{kind}.txt").read_text(encoding="utf-8")
    return [line.rpartition("】")[2].strip() for line in text.splitlines() if line.strip()]


def expect_asked(asked: list[Row]) -> None:
    """Each question with what that person knows and says at that stage, the passage that it is from first."""
    assert Counter(row["pattern"] for row in asked) == {**dict.fromkeys(PATTERN, 200), "borrowed": 16}
    for row in asked:
        facts_known, said = (known(row["who"], row["stage"], kind) for kind in ("knowledge", "style"))
        held, manner = row["facts"].split("\n\n"), row["manner"].split("\n\n")
        assert (manner if row["text"] in said else held)[0] == row["text"]
        assert set(held) == {*facts_known, *([row["text"]] if row["pattern"] == "borrowed" else [])}
        assert set(manner) == {*said} and len(row["facts"].split()) <= 1300


def expect_kept(folder: Path) -> tuple[list[Row], list[Row]]:
    """What was answered, and no question of a person and stage twice; a fifth of it held out."""
    assert len(rows(folder, "answers")) == len(rows(folder, "plain")) == 616
    kept = rows(folder, "kept")
    assert not any("Refused" in row["response"] for row in kept)
    assert len({(row["who"], row["stage"], row["question"]) for row in kept}) == len(kept)
    dropped = dropped_by(folder)
    assert dropped["usable"] > 30 and dropped["kept"] > 10
    assert len(kept) + sum(dropped.values()) == 616
    train, test = (list(read_rows(folder / f"parts/{part}.jsonl")) for part in ("train", "test"))
    assert len(train) + len(test) == len(kept) and abs(len(test) - len(kept) / 5) <= 4
    for who, stage in product(WHO, STAGE):
        assert sum((row["who"], row["stage"]) == (who, stage) for row in test) > 15
    return train, test


def dropped_by(folder: Path) -> dict[str, int]:
    return {name: len(list(read_rows(folder / name / "rejected.jsonl"))) for name in ("usable", "kept")}


def spoken(row: Row) -> dict[str, str]:
    return {"role": "assistant", "content": f"[Analysis] {row['analysis']} [Response] {row['response']}"}


def question(row: Row) -> list[dict[str, str]]:
    name = {"clara": "Clara the clockmaker", "tomas": "Tomas the ferryman"}[row["who"]]
    system = {"role": "system", "content": f"{WHEN[row['stage']]} You are {name}."}
    return [system, {"role": "user", "content": row["question"]}]


def expect_lessons(folder: Path, kept: list[Row]) -> None:
    """The mark of the stage before, and the thought with the answer; the other set without the thought."""
    assert [row["messages"] for row in rows(folder, "lessons")] == [[*question(row), spoken(row)] for row in kept]
    plain = [row for row in rows(folder, "plain") if "Refused" not in row["response"]]
    expected = [[*question(row), {"role": "assistant", "content": row["response"]}] for row in plain]
    assert [row["messages"] for row in rows(folder, "plain-lessons")] == expected


def expect_preferences(folder: Path, train: list[Row], test: list[Row]) -> None:
    """The same question at two stages; the nearest answer of another person or stage. Nothing that is held out is in it."""
    again = rows(folder, "elsewhere")
    assert [(row["who"], row["question"]) for row in again] == [(row["who"], row["question"]) for row in train]
    assert [row["stage"] for row in again] == [OTHER[row["stage"]] for row in train]
    assert all(set(row["facts"].split("\n\n")) >= set(known(row["who"], row["stage"], "knowledge")) for row in again)
    answers: dict[str, set[tuple[str, str, str]]] = {}
    for row in [*train, *again]:
        answers.setdefault(spoken(row)["content"], set()).add((row["who"], row["stage"], row["question"]))
    for name in ("by-stage", "by-person"):
        made = rows(folder, name)
        assert len(made) >= len(train) * 0.9
        for row in made:
            who, stage, asked = next(one for one in answers[row["chosen"][0]["content"]] if fits(one, row))
            others = answers[row["rejected"][0]["content"]]
            wanted = {(who, OTHER[stage], asked)}
            assert others & wanted if name == "by-stage" else any(other[:2] != (who, stage) for other in others)
    held_out = {spoken(row)["content"] for row in test} - set(answers)
    said = {row[side][0]["content"] for row in rows(folder, "by-person") for side in ("chosen", "rejected")}
    assert len(held_out) > 80 and not said & held_out


def fits(one: tuple[str, str, str], row: Row) -> bool:
    who, stage, asked = one
    return bool(row["prompt"] == question({"who": who, "stage": stage, "question": asked}))
