from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError
from runner.files import read_rows

MBTI = Path(__file__).resolve().parents[4] / "shared/data/mbti"
TYPES = [a + b + c + d for a in "IE" for b in "NS" for c in "TF" for d in "JP"]
published = pytest.mark.skipif(not MBTI.is_dir(), reason=f"the published data is not there: {MBTI}")


def posts(run_kind, params: dict[str, Any], *texts: Any, **columns: Any) -> Any:
    return run_kind(
        "preprocess.posts", params, [{"id": str(at), "text": text, **columns} for at, text in enumerate(texts)]
    )


def text(ran: Any) -> str:
    return ran.rows()[0]["text"]


def test_the_first_posts_are_kept_numbered_and_otherwise_untouched(run_kind):
    ran = posts(
        run_kind, {"separator": "|||", "keep": 3, "number": True}, "'one  \t|||two\nlines|||http://x.org|||four'"
    )
    assert text(ran) == "1. 'one  \t\n2. two\nlines\n3. http://x.org"


def test_a_list_of_posts_needs_no_separator_and_numbers_are_asked_for(run_kind):
    assert text(posts(run_kind, {}, ["a", "b"])) == "a\nb"


def test_records_with_fewer_posts_are_counted_and_those_with_none_dropped(run_kind):
    ran = posts(run_kind, {"separator": "|", "keep": 2}, "a|b", "a", " | ", ["a", "b", "c"])
    assert [row["id"] for row in ran.rows()] == ["0", "1", "3"]
    assert [reason for reason, _ in ran.rejected] == ["no posts"]
    assert ran.facts["metrics"] == {"fewer_posts_than_keep": 1}


@pytest.mark.parametrize(
    ("said", "masked"),
    [
        ("As an INTJ I", "As an [type] I"),
        ("INTJs and intjs'", "[type]s and [type]s'"),
        ("INTJ's Intj InTjS", "[type]'s [type] [type]S"),
        ("INFJ-INTP, #INFJ_life", "[type]-[type], #[type]_life"),
        ("INTJness, intjforum.com, ENFJ7, theINTJ", "[type]ness, [type]forum.com, [type]7, the[type]"),
    ],
)
def test_type_names_are_hidden_in_every_shape(run_kind, said, masked):
    assert text(posts(run_kind, {"separator": "|||", "mask": TYPES}, said)) == masked


def test_names_that_are_common_letters_can_be_hidden_as_words_only(run_kind):
    params = {"separator": "|||", "mask": ["art", "arts and crafts"], "mask_inside": False, "mask_as": "…"}
    assert (
        text(posts(run_kind, params, "Art's part in ARTS, and arts and crafts, artful. 'art'"))
        == "…'s part in …S, and …, artful. '…'"
    )


def test_the_share_of_records_that_name_their_own_type_is_told(run_kind):
    rows = {
        "train": [{"text": "INTJs rule", "type": "INTJ"}, {"text": "not an entp", "type": "INFP"}],
        "test": [{"text": "I am an entp", "type": " ENTP"}, {"text": "entp", "type": None}],
    }
    ran = run_kind("preprocess.posts", {"separator": "|", "mask": TYPES}, rows)
    assert ran.facts["metrics"]["names_its_own_type"] == {"before": pytest.approx(2 / 3), "after": 0}
    assert ran.facts["tables"][0]["rows"] == [["train", 2, 1, 0], ["test", 1, 1, 0]]
    unmasked = run_kind("preprocess.posts", {"separator": "|"}, rows).facts["metrics"]["names_its_own_type"]
    assert unmasked["before"] == unmasked["after"] > 0


def test_what_is_no_posts_says_what_to_do(run_kind):
    with pytest.raises(DataError, match=r"x: text is a str\. Set separator: to what stands between two posts\."):
        run_kind("preprocess.posts", {}, [{"source": "x", "text": "a|b"}])
    with pytest.raises(DataError, match=r"x: text is a list\. It must be a text or a list of texts\."):
        run_kind("preprocess.posts", {}, [{"source": "x", "text": [1]}])
    with pytest.raises(DataError, match="no row has posts"):
        posts(run_kind, {"separator": "|"}, " ")


@given(
    held=st.lists(st.text(alphabet="INTJENFPSintjenfps '’s-_#x", max_size=30), min_size=1, max_size=6),
    inside=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_no_name_is_left_and_nothing_else_is_changed(run_kind, held, inside):
    try:
        found = text(posts(run_kind, {"mask": TYPES, "mask_inside": inside}, held))
    except DataError:
        assert not "".join(held).strip()
        return
    before = "\n".join(held)
    pieces = found.split("[type]")
    assert len(before) == sum(map(len, pieces)) + 4 * (len(pieces) - 1)
    pattern = "|".join(TYPES) if inside else rf"\b(?:{'|'.join(TYPES)})\b"
    assert not re.search(pattern, found, re.IGNORECASE)


RECIPE = """\
recipe: 1
title: Posts of sixteen types
steps:
  people: {preprocess: table, folder: DATA, files: FILE, columns: {text: posts, type: type}}
  posts: {preprocess: posts, from: people, separator: "|||", keep: 25, number: true, mask: TYPES}
  letters: {preprocess: label, from: posts, column: type, letters: [EI, NS, FT, JP]}
  parts: {preprocess: split, from: letters, validation: 0.09, test: 0.1, stratify: type, seed: 42}
"""


def people(name: str) -> list[dict[str, str]]:
    """The table's whole rows; the last of the truncated file is cut mid-quote."""
    with (MBTI / name).open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    return rows if name == "mbti_1_clean.csv" else rows[:-1]


def expected(row: dict[str, str]) -> str:
    """The first 25 posts, numbered and masked."""
    plain = "\n".join(f"{at}. {post}" for at, post in enumerate(row["posts"].split("|||")[:25], 1))
    return re.sub("|".join(TYPES), "[type]", plain, flags=re.IGNORECASE)


@published
@pytest.mark.parametrize(
    ("name", "count", "before"), [("mbti_1_clean.csv", 99, 77), ("mbti_1_truncated.csv", 232, 177)]
)
def test_published_posts_become_numbered_masked_lettered_and_stratified(make_recipe, name, count, before):
    made = make_recipe(
        RECIPE.replace("DATA", str(MBTI)).replace("FILE", name).replace("TYPES", f"[{', '.join(TYPES)}]")
    )
    facts = json.loads((made / "posts/step.json").read_text(encoding="utf-8"))["facts"]
    assert facts["metrics"]["names_its_own_type"] == {"before": before / count, "after": 0}
    rows = people(name)
    own = [row["type"].lower() in "|||".join(row["posts"].split("|||")[:25]).lower() for row in rows]
    assert (len(rows), sum(own)) == (count, before)
    posts = list(read_rows(made / "posts/rows.jsonl"))
    assert [(row["type"], row["text"]) for row in posts] == [(row["type"], expected(row)) for row in rows]

    parts = {part: list(read_rows(made / f"parts/{part}.jsonl")) for part in ("train", "validation", "test")}
    held_out = round(count * 0.09), round(count * 0.1)
    assert [len(found) for found in parts.values()] == [count - sum(held_out), *held_out]
    pairs = ("EI", "NS", "FT", "JP")
    assert all("".join(row[pair] for pair in pairs) == row["type"] for found in parts.values() for row in found)
    types, tested = Counter(row["type"] for row in rows), Counter(row["type"] for row in parts["test"])
    assert all(abs(tested[one] - number / 10) < 1 for one, number in types.items())
