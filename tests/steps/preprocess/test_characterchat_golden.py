"""The published training sets of CharacterChat, made from its published dialogues and ratings by a recipe, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared/data/characterchat"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not there: {DATA}")

RECIPE = """\
recipe: 1
title: The published training sets
about: From dialogues between two characters and their ratings, the records that four models are trained on.
steps:
  # 1. The dialogues, with each speaker's record in a column of that speaker's name
  dialogues: {preprocess: table, folder: DATA, files: dial_output.json}
  talks:
    preprocess: select
    from: dialogues
    rename: {turns: dial}
    add:
      seeker: "{{ {'statement': seeker_info.seeker_statement, 'aspects': seeker_info.seeker_profile_trans} }}"
      supporter: "{{ {'statement': supporter_info.supporter_statement, 'aspects': supporter_info.supporter_profile_trans} }}"
    keep: [id, index, turns, seeker, supporter]

  # 2. What either side learns to say
  supporter-lines:
    preprocess: examples
    from: talks
    speaker: supporter
    opener: false
    turn: {memory: choose_info.content}
    history: {from: "{{ speaker }}", value: "{{ utterance }}"}
    keep: [seeker, supporter]
  seeker-lines: {like: supporter-lines, speaker: seeker}
  supporter-set:
    preprocess: select
    from: supporter-lines
    add:
      conversations: "{{ {'system': {'seeker': seeker.statement, 'supporter': supporter.statement},
        'history': history, 'info': memory, 'utterance': utterance} }}"
    keep: [conversations]
  seeker-set: {like: supporter-set, from: seeker-lines}

  # 3. Which memory a turn drew on, and which it did not
  choices: {preprocess: examples, from: talks, speaker: both, opener: false, turn: {memory: choose_info.content}, memory: each}
  selecter-set:
    preprocess: select
    from: choices
    rename: {history: text, info: text_pair}
    keep: [history, info, label]

  # 4. What the judge reads
  judge-set:
    preprocess: select
    from: dialogues
    add: {dial: "{% for turn in dial %}{{ turn.speaker }}: {{ turn.utterance }}\\n{% endfor %}"}
    keep: [index, dial]

  # 5. How well two people suit each other: the mean of three marks
  ratings: {preprocess: table, folder: DATA, files: eval_dial_output.json}
  people: {preprocess: select, from: talks, add: {what: people, held: "{{ [seeker.statement, supporter.statement] }}"}, keep: [index, what, held]}
  marks:
    preprocess: select
    from: ratings
    add:
      what: rating
      held: "{{ (rating['Does the conversation improve the mood of the seeker']
        + rating['Did the suggestion made by the supporter in the conversation solve seeker\\\\'s problem']
        + rating['Is the seeker actively participating in the conversation']) / 3 }}"
    keep: [index, what, held]
  both: {preprocess: collect, from: [people, marks], by: index, key: what, value: held}
  score-set:
    preprocess: select
    from: both
    add: {conversations: "{{ {'seeker_statement': held.people[0], 'supporter_statement': held.people[1], 'rating': held.rating} }}"}
    keep: [conversations]
"""


@pytest.fixture(scope="module")
def made(make_recipe: Callable[[str], Path]) -> Path:
    """The folder with every step of the recipe."""
    return make_recipe(RECIPE.replace("DATA", str(DATA)))


def records(name: str) -> list[dict[str, Any]]:
    with (DATA / f"{name}.json").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def rows(made: Path, step: str) -> bytes:
    return (made / step / "rows.jsonl").read_bytes()


def as_bytes(expected: Iterator[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in expected).encode()


def lines(speaker: str, start: int) -> Iterator[dict[str, Any]]:
    """The sheet's rule for the supporter and seeker sets."""
    for record in records("dial_output"):
        statements = {side: record[f"{side}_info"][f"{side}_statement"] for side in ("seeker", "supporter")}
        for at, turn in enumerate(record["dial"]):
            if at >= start and turn["speaker"] == speaker:
                history = [{"from": one["speaker"], "value": one["utterance"]} for one in record["dial"][start:at]]
                told = {"history": history, "info": turn["choose_info"]["content"], "utterance": turn["utterance"]}
                yield {"conversations": {"system": statements, **told}}


def choices() -> Iterator[dict[str, Any]]:
    """The sheet's rule for the info-selecter set; turns without a memory make no row."""
    for record in records("dial_output"):
        for at, turn in enumerate(record["dial"]):
            chosen, side = turn["choose_info"]["content"], turn["speaker"]
            if at == 0 or not chosen:
                continue
            history = "".join(f"{one['speaker']}: {one['utterance']} " for one in record["dial"][1:at])
            yield {"history": history, "info": chosen, "label": 1}
            for memory in record[f"{side}_info"][f"{side}_profile_trans"].values():
                if memory != chosen:
                    yield {"history": history, "info": memory, "label": 0}


def test_the_first_hundred_supporter_records_are_the_published_ones(made: Path) -> None:
    ours = rows(made, "supporter-set").splitlines(keepends=True)
    assert b"".join(ours[:100]) == (DATA / "model_supporter_dataset.json").read_bytes()
    assert len(ours) == 740


def test_the_supporter_and_seeker_sets_follow_the_published_rules(made: Path) -> None:
    assert rows(made, "supporter-set") == as_bytes(lines("supporter", 1))
    assert rows(made, "seeker-set") == as_bytes(lines("seeker", 2))
    assert rows(made, "seeker-set").count(b"\n") == 740


def test_the_persona_score_set_is_the_published_one(made: Path) -> None:
    assert rows(made, "score-set") == (DATA / "model_persona_score_dataset.json").read_bytes()


def test_the_info_selecter_set_follows_the_published_rule(made: Path) -> None:
    ours = rows(made, "selecter-set")
    assert ours == as_bytes(choices())
    assert (ours.count(b'"label": 1}\n'), ours.count(b'"label": 0}\n')) == (1411, 11251)


def test_the_judge_reads_what_the_published_judge_read(made: Path) -> None:
    expected = ({"index": record["index"], "dial": record["dial"]} for record in records("eval_dial_output"))
    assert rows(made, "judge-set") == as_bytes(expected)


def test_turns_without_a_memory_are_accounted_for(made: Path) -> None:
    step = json.loads((made / "choices/step.json").read_text(encoding="utf-8"))
    assert step["rows"]["dropped"] == {"no memory was chosen": 69}
