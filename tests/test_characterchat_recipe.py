"""recipes/characterchat-data.yaml, from sixteen types to five training sets: at an endpoint that answers well, and small here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.files import Row
from tests.recipe_runs import facts, rows, run, store
from tests.server import Body, Server

RECIPE = "characterchat-data"
BASE_FIELDS = {"name", "gender", "age", "region", "job"}
ASPECTS = [
    *("advantages_and_disadvantages", "hobby", "growth_experience", "family_relationship", "working_conditions"),
    *("social_relationship", "emotional_state", "living_conditions"),
]
SETS = ("lines-seeker", "lines-supporter", "choices", "matches", "general")
SMALL = "steps.profiles.samples=1 steps.pairs.each=2 steps.parts.validation=0.1 steps.parts.test=0.1"


def reply(body: Body) -> str:
    """What a good model would say to each of the recipe's prompts."""
    asked = body["messages"][-1]["content"]
    mark = int(hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:6], 16)
    shape = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if shape:
        return json.dumps(filled(shape["properties"], mark))
    if "parts of your life" in asked:
        return [*ASPECTS, "NONE", "something else"][mark % 10]
    if "Answer with the number alone" in asked:
        return f"{3 + mark % 3}"
    if "Lines" in asked or "five lines" in asked:
        return "\n".join(f"When the other says {at}, you say {at + 1}." for at in range(5))
    return f"Supporter: Oh, I know what you mean by {mark}. That was a long day for all of us 🙂"


def filled(properties: dict[str, Any], mark: int) -> dict[str, Any]:
    if list(properties) == ["profile"]:
        return {"profile": filled(properties["profile"]["properties"], mark)}
    made: dict[str, Any] = {}
    for name, held in properties.items():
        if held.get("type") == "integer":
            made[name] = held.get("minimum", 1) + mark % (held.get("maximum", 5) - held.get("minimum", 1) + 1)
        else:
            made[name] = (
                f"Odo{mark} Birk" if name == "name" else f"Odo{mark} has much to say of {name}, " + "and so on " * 6
            )
    return made


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return store(tmp_path)


@pytest.mark.slow
def test_a_good_endpoint_makes_dialogues_and_sets_of_the_published_shape(artifacts: Path) -> None:
    with Server(reply=reply) as server:
        folder = run(RECIPE, artifacts, "--set", f"models.writer.endpoint={server.url} {SMALL}")
        asked = server.requests
        run(RECIPE, artifacts, "--set", f"models.writer.endpoint={server.url} {SMALL}")
        assert server.requests == asked
    expect_people(rows(folder, "toned"))
    talks = rows(folder, "talks")
    expect_talks(talks)
    expect_published(rows(folder, "published"), talks)
    expect_sets(folder, talks)


def expect_people(people: list[Row]) -> None:
    assert len(people) == 16
    for person in people:
        assert set(person["statement"]) == {"seeker", "supporter"}
        assert set(person["aspects"]) == {*person["profile"]} and len(person["profile"]) == 17
        for aspect, text in person["aspects"].items():
            assert (text == person["profile"][aspect]) is (aspect in BASE_FIELDS or aspect == "additional_information")
        assert person["tone_lines"].count("\n") == 4


def expect_talks(talks: list[Row]) -> None:
    assert len(talks) == 32
    lengths = Counter(len(talk["turns"]) for talk in talks)
    assert set(lengths) <= {13, 15, 17, 19, 21} and len(lengths) > 2
    for talk in talks:
        turns = talk["turns"]
        assert turns[0]["utterance"] == "Hello"
        assert [turn["speaker"] for turn in turns[:3]] == ["seeker", "supporter", "seeker"]
        assert turns[2]["aspect"] == "recent_worry_or_anxiety"
        assert all(turn["memory"] == talk[turn["speaker"]]["aspects"].get(turn["aspect"], "") for turn in turns)
        assert not any("upporter:" in turn["utterance"] or turn["utterance"].startswith("Oh") for turn in turns)
        used = [turn["aspect"] for turn in turns if turn["aspect"]]
        assert all(used[max(0, at - 5) : at].count(aspect) < 3 for at, aspect in enumerate(used))


def expect_published(published: list[Row], talks: list[Row]) -> None:
    """The shape of dial_output, row by row."""
    for row, talk in zip(published, talks, strict=True):
        assert list(row) == ["index", "seeker_info", "supporter_info", "dial"]
        assert list(row["seeker_info"]) == [
            f"seeker_{name}" for name in ("index", "mbti", "profile", "profile_trans", "statement", "tone_sentences")
        ]
        assert [turn["utterance"] for turn in row["dial"]] == [turn["utterance"] for turn in talk["turns"]]
        assert all(list(turn) == ["turn", "speaker", "choose_info", "utterance"] for turn in row["dial"])
        assert all(list(turn["choose_info"]) == ["aspect", "content"] for turn in row["dial"])
        assert [turn["turn"] for turn in row["dial"]] == list(range(len(row["dial"])))


LEFT_OUT = {*BASE_FIELDS, "tone", "personality", "additional_information"}


def expect_sets(folder: Path, talks: list[Row]) -> None:
    """The published rules (tests/steps/preprocess/test_characterchat_golden.py), on our own dialogues."""
    made = {name: {row["id"]: row for row in rows(folder, name)} for name in SETS}
    for role, start in (("supporter", 1), ("seeker", 2)):
        expected = dict(lines(talks, role, start))
        assert {name: row["messages"] for name, row in made[f"lines-{role}"].items()} == expected
    held = [(row["text"], row["text_pair"], row["label"]) for row in made["choices"].values()]
    assert sorted(held) == sorted(choices(talks))
    assert len(made["matches"]) == len(talks)
    for talk in talks:
        row = made["matches"][talk["id"]]
        assert (row["text"], row["text_pair"]) == (
            talk["seeker"]["statement"]["seeker"],
            talk["supporter"]["statement"]["supporter"],
        )
        assert 1 <= row["label"] <= 5
    assert len(made["general"]) == 12


def lines(talks: list[Row], role: str, start: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """What either side learns: the talk from turn `start` on, its own memory before the reply."""
    for talk in talks:
        for at, turn in enumerate(talk["turns"]):
            if at >= start and turn["speaker"] == role:
                said = [
                    {"role": "assistant" if one["speaker"] == role else "user", "content": one["utterance"]}
                    for one in talk["turns"][start:at]
                ]
                answer = f"[INFO-{turn['memory']}]{turn['utterance']}"
                system = {"role": "system", "content": talk[role]["statement"][role]}
                yield f"{talk['id']}#{at}", [system, *said, {"role": "assistant", "content": answer}]


def choices(talks: list[Row]) -> Iterator[tuple[str, str, int]]:
    """Each memory that was drawn on, and every other one that the speaker could have drawn on."""
    for talk in talks:
        for at, turn in enumerate(talk["turns"][1:], 1):
            if not turn["memory"]:
                continue
            told = "".join(f"{one['speaker']}: {one['utterance']} " for one in talk["turns"][1:at])
            yield told, turn["memory"], 1
            left_out = LEFT_OUT | ({"recent_worry_or_anxiety"} if turn["speaker"] == "supporter" else set())
            for aspect, memory in talk[turn["speaker"]]["aspects"].items():
                if aspect not in left_out and memory != turn["memory"]:
                    yield told, memory, 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_smoke_variant_goes_through_every_step_on_the_bundled_model(artifacts: Path) -> None:
    folder = run(RECIPE, artifacts, "-V", "smoke")
    people, talks = rows(folder, "toned"), rows(folder, "talks")
    assert len(people) == 3
    assert all(len(person["profile"]) == 17 and 12 <= person["profile"]["age"] <= 40 for person in people)
    assert len(talks) == 3
    assert facts(folder, "talks")["metrics"]["dialogues"] == 3
    assert all({"mood", "solved", "active"} <= row.keys() for row in rows(folder, "marks"))
    for name in SETS:
        assert rows(folder, name)
