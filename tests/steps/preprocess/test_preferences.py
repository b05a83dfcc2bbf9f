from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.step import Model, Prompt

BIG5 = Path(__file__).resolve().parents[4] / "shared/data/big5chat"
MINILM = Model("minilm", {"load": "minilm"})
PERSONA = Prompt("persona", ({"user": "Your {{ trait }} is {{ level }}.\n{{ opening }}", "assistant": "{{ reply }}"},))
HIGH_LOW = {"same": ["topic"], "other": "level"}


def scene(topic: str, level: str, reply: str, **more: Any) -> dict[str, Any]:
    row = {"id": f"{topic}-{level}", "source": f"a.csv:{topic}", "topic": topic, "trait": "warmth", "level": level}
    return {**row, "opening": f"About {topic}?", "reply": reply, **more}


def test_each_level_is_preferred_to_the_other_for_the_question_that_asks_for_it(run_kind):
    rows = [scene("tea", "high", "Lovely!"), scene("fog", "high", "How cosy."), scene("tea", "low", "No.")]
    ran = run_kind("preprocess.preferences", {**HIGH_LOW, "keep": ["topic"]}, rows, prompts={"prompt": PERSONA})
    first, second = ran.rows()
    assert first == {
        "id": "tea-high>tea-low",
        "source": "a.csv:tea",
        "prompt": [{"role": "user", "content": "Your warmth is high.\nAbout tea?"}],
        "chosen": [{"role": "assistant", "content": "Lovely!"}],
        "rejected": [{"role": "assistant", "content": "No."}],
        "topic": "tea",
    }
    assert (second["prompt"][0]["content"], second["chosen"][0]["content"]) == (
        "Your warmth is low.\nAbout tea?",
        "No.",
    )
    assert [(reason, row["id"]) for reason, row in ran.rejected] == [("no other level in its scenario", "fog-high")]
    assert ran.facts["tables"][0]["rows"] == [["high", "low", 1], ["low", "high", 1]]


def test_three_levels_give_each_row_two_pairs(run_kind):
    rows = [scene("tea", level, level) for level in ("high", "middle", "low")]
    ran = run_kind("preprocess.preferences", HIGH_LOW, rows, prompts={"prompt": PERSONA})
    made = {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in ran.rows()}
    assert made == {
        (one, other) for one in ("high", "middle", "low") for other in ("high", "middle", "low") if one != other
    }


def test_equal_answers_are_no_preference(run_kind):
    rows = [
        scene("tea", "high", "Well."),
        scene("tea", "low", "Well."),
        scene("fog", "high", "Yes"),
        scene("fog", "low", "No"),
    ]
    ran = run_kind("preprocess.preferences", HIGH_LOW, rows, prompts={"prompt": PERSONA})
    assert len(ran.rows()) == 2
    assert Counter(reason for reason, _ in ran.rejected) == {"both answers are the same": 2}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["high", "low", "none"]), st.text("ab", min_size=1, max_size=2)),
        max_size=25,
    )
)
def test_a_pair_is_of_one_scenario_and_of_two_levels(run_kind, rows):
    made = [
        scene(str(topic), level, f"{level}: {reply}", id=number) for number, (topic, level, reply) in enumerate(rows)
    ]
    try:
        ran = run_kind("preprocess.preferences", HIGH_LOW, made, prompts={"prompt": PERSONA})
    except DataError as error:
        assert "so that no answer could be preferred" in str(error) or "no pair is left" in str(error)
        return
    by_id = {str(row["id"]): row for row in made}
    chosen = Counter()
    for pair in ran.rows():
        one, other = (by_id[part] for part in pair["id"].split(">"))
        assert one["topic"] == other["topic"] and one["level"] != other["level"]
        assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (one["reply"], other["reply"])
        chosen[one["id"]] += 1
    for row in made:
        levels = {other["level"] for other in made if other["topic"] == row["topic"]} - {row["level"]}
        assert chosen[row["id"]] == len(levels)
    alone = {row["id"] for reason, row in ran.rejected}
    assert alone == {row["id"] for row in made} - set(chosen)


def test_conversations_need_no_prompt(run_kind):
    def talk(level: str, answer: str) -> dict[str, Any]:
        return {
            "id": level,
            "topic": 1,
            "level": level,
            "messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": answer}],
        }

    pairs = run_kind("preprocess.preferences", HIGH_LOW, [talk("high", "Yes!"), talk("low", "No.")]).rows()
    assert pairs[0]["prompt"] == [{"role": "user", "content": "Tea?"}]
    assert (pairs[0]["chosen"][0]["content"], pairs[0]["rejected"][0]["content"]) == ("Yes!", "No.")


def test_parts_are_paired_each_by_itself(run_kind):
    parts = {part: [scene(part, "high", "Yes"), scene(part, "low", "No")] for part in ("train", "test")}
    ran = run_kind("preprocess.preferences", HIGH_LOW, parts, prompts={"prompt": PERSONA})
    assert {row["source"] for row in ran.rows("test")} == {"a.csv:test"}
    assert len(ran.rows("train")) == 2


def test_a_part_with_one_level_left_is_an_error(run_kind):
    parts = {"train": [scene("tea", "high", "Yes"), scene("tea", "low", "No")], "test": [scene("fog", "high", "Yes")]}
    with pytest.raises(DataError) as caught:
        run_kind("preprocess.preferences", HIGH_LOW, parts, prompts={"prompt": PERSONA})
    assert str(caught.value) == (
        "preferences.test: every row has level = 'high', so that no answer could be preferred to another. "
        "Bring rows of at least two, or name another column: other: …."
    )


def test_scenarios_that_never_meet_are_an_error(run_kind):
    rows = [scene("tea", "high", "Yes"), scene("fog", "low", "No")]
    with pytest.raises(DataError, match=r"no pair is left of 2 rows. No two rows with equal topic differ in level"):
        run_kind("preprocess.preferences", HIGH_LOW, rows, prompts={"prompt": PERSONA})


TOLD = {
    "watson": ["I keep my bandages in the black bag.", "The patient must rest for a week.", "A game of cards, then?"],
    "holmes": [
        "The bandages are in the black bag, Watson.",
        "The tobacco ash gives him away.",
        "Rest is for the dull.",
    ],
}


def told() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{who}-{number}",
            "who": who,
            "question": "Where are the bandages?" if number == 0 else "And now?",
            "trait": "",
            "level": "",
            "opening": "",
            "reply": reply,
        }
        for who, replies in TOLD.items()
        for number, reply in enumerate(replies)
    ]


def nearest(run_kind: Any, **params: Any) -> list[tuple[str, str]]:
    keys = {"nearest": "question", "other": "who", "model": "minilm", "prompt": "persona", **params}
    ran = run_kind("preprocess.preferences", keys, told(), prompts={"prompt": PERSONA}, models={"model": (MINILM,)})
    return [tuple(row["id"].split(">")) for row in ran.rows()]


def test_the_nearest_answer_of_another_person_is_rejected(run_kind):
    pairs = dict(nearest(run_kind))
    assert pairs["watson-0"] == "holmes-0"
    assert pairs["holmes-0"] == "watson-0"
    assert all(one.split("-")[0] != other.split("-")[0] for one, other in pairs.items())
    assert len(pairs) == 6


def test_nearer_answers_may_be_passed_over_by_rank(run_kind):
    assert dict(nearest(run_kind, skip=1))["watson-0"] != "holmes-0"


def test_answers_too_like_the_chosen_one_may_be_passed_over(run_kind):
    assert dict(nearest(run_kind, below=0.6))["watson-0"] != "holmes-0"


def test_a_rank_that_nobody_has_is_an_error(run_kind):
    with pytest.raises(DataError, match=r"no pair is left of 6 rows. Lower skip, or raise below."):
        nearest(run_kind, skip=3)


@pytest.mark.parametrize(
    ("params", "prompt", "message"),
    [
        (
            {"other": "level"},
            PERSONA,
            "say which rows belong together: same: [columns], or nearest: column with model:.",
        ),
        ({"other": "level", "nearest": "opening"}, PERSONA, "preferences.nearest: needs an encoder to compare by."),
        ({**HIGH_LOW, "skip": 2}, PERSONA, "preferences.skip: belongs to nearest: and does nothing with same: alone."),
        (
            HIGH_LOW,
            Prompt("asks", ({"user": "{{ opening }}"},)),
            "'asks' has no assistant text, so that no answer could be preferred.",
        ),
    ],
)
def test_keys_that_make_no_pairs_are_refused(run_kind, params, prompt, message):
    with pytest.raises(StepError) as caught:
        run_kind("preprocess.preferences", params, [scene("tea", "high", "Yes")], prompts={"prompt": prompt})
    assert message in str(caught.value)


def test_a_row_without_an_answer_is_named(run_kind):
    rows = [scene("tea", "high", " "), scene("tea", "low", "No")]
    with pytest.raises(DataError, match=r"a\.csv:tea: the prompt's assistant text is empty"):
        run_kind("preprocess.preferences", HIGH_LOW, rows, prompts={"prompt": PERSONA})


def split_and_pair(
    run_kind: Any, rows: list[dict[str, Any]], other: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    """Pairs of rows split by their scenario, by part; no scenario is on both sides."""
    split = run_kind("preprocess.split", {"by": "topic", "test": 0.3, "validation": 0.2}, rows)
    params = {
        "same": [key for key in ("topic", "trait") if key not in other],
        "other": other,
        "keep": ["topic", "trait", "level"],
    }
    parts = {part: split.rows(part) for part in ("train", "validation", "test")}
    ran = run_kind("preprocess.preferences", params, parts, prompts={"prompt": PERSONA})
    made = {part: ran.rows(part) for part in parts}
    topics = [{row["topic"] for row in pairs} for pairs in made.values()]
    assert all(topics) and sum(map(len, topics)) == len(set.union(*topics)), "a scenario is on both sides of the split"
    assert all(row["chosen"] != row["rejected"] for pairs in made.values() for row in pairs)
    return made, ran


def scenario(prompt: str) -> str:
    return prompt.split("Scenario: ")[1].split("\n", maxsplit=1)[0]


@pytest.mark.skipif(not BIG5.is_dir(), reason=f"the published data is not at {BIG5}")
def test_the_published_big5_sample_makes_pairs_with_no_scenario_on_both_sides(run_kind):
    with (BIG5 / "big5_chat_sampled.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    rows = [
        {**row, "id": row[""], "topic": scenario(row["prompt"]), "opening": row["speakerX"], "reply": row["response"]}
        for row in read
    ]
    made, ran = split_and_pair(run_kind, rows, ["trait", "level"])
    # 18 of the 181 scenarios have two or three rows: 17 * 2 + 1 * 6 pairs
    assert sum(map(len, made.values())) == 40
    assert len(ran.rejected) == 200 - 17 * 2 - 3


@pytest.mark.skipif(not BIG5.is_dir(), reason=f"the published data is not at {BIG5}")
def test_the_published_big5_replies_make_a_pair_a_level_of_every_scenario(run_kind):
    rows = []
    for trait, place in (("o", 0), ("e", 2)):
        lines = (BIG5 / f"alpha_0.5_trait_{trait}.jsonl").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(map(json.loads, lines)):
            if line["turn"] == 1:
                level = {"0": "low", "1": "high"}[line["personality"].split()[place]]
                about = {
                    "topic": line["env_info"]["original_index"],
                    "trait": trait,
                    "level": level,
                    "opening": scenario(line["prompt"]),
                }
                rows.append({"id": f"{trait}{number}", "reply": line["response"], **about})
    made, ran = split_and_pair(run_kind, rows, ["level"])
    assert not ran.rejected
    assert sum(map(len, made.values())) == len(rows) == 80
    assert Counter(row["level"] for pairs in made.values() for row in pairs) == {"high": 40, "low": 40}
