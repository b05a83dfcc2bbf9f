from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError

DATA = Path(__file__).resolve().parents[4] / "shared/data/characterchat"
NAMES = ["seeker", "supporter"]


def people(count: int) -> list[dict[str, Any]]:
    return [{"id": f"p{number}", "index": number, "name": f"n{number}"} for number in range(count)]


def pairing(run_kind, rows: Any, folder: Path | None = None, **params: Any) -> Any:
    files = tuple(sorted(folder.iterdir())) if folder else ()
    return run_kind("preprocess.pairing", {"as": NAMES, **params}, rows, folder=folder, files=files)


def pairs(ran: Any) -> list[tuple[int, int]]:
    return [(row["seeker"]["index"], row["supporter"]["index"]) for row in ran.rows()]


def check_the_law(found: list[tuple[int, int]], count: int, each: int) -> None:
    """So many distinct others for each character, in the order of the characters, never itself."""
    assert [first for first, _ in found] == [number for number in range(count) for _ in range(each)]
    assert len(set(found)) == len(found)
    assert all(first != second for first, second in found)


@given(count=st.integers(2, 25), each=st.integers(1, 24), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_each_character_gets_so_many_different_others_and_never_itself(run_kind, count, each, seed):
    each = min(each, count - 1)
    check_the_law(pairs(pairing(run_kind, people(count), each=each, seed=seed)), count, each)


def test_a_pair_holds_both_rows_whole_and_an_id_of_both(run_kind):
    first, second = pairing(run_kind, people(2)).rows()
    assert first == {"id": "p0+p1", "seeker": people(2)[0], "supporter": people(2)[1]}
    assert second["id"] == "p1+p0"


def test_the_seed_decides_the_pairs(run_kind):
    def drawn(**params: Any) -> list[tuple[int, int]]:
        return pairs(pairing(run_kind, people(30), each=3, **params))

    assert drawn() == drawn() != drawn(seed=1)


def test_everybody_is_chosen_about_as_often(run_kind):
    ran = pairing(run_kind, people(200), each=10)
    chosen = Counter(second for _, second in pairs(ran))
    assert 0 < min(chosen.values()) < 10 < max(chosen.values()) < 25
    assert ran.facts["tables"][0]["rows"][0] == ["seeker", 200, 10, 10, 10]


def test_a_whole_split_is_paired_part_by_part(run_kind):
    ran = pairing(run_kind, {"train": people(4)[:2], "test": people(4)[2:]})
    assert [row["id"] for row in ran.rows("train")] == ["p0+p1", "p1+p0"]
    assert [row["id"] for row in ran.rows("test")] == ["p2+p3", "p3+p2"]


@pytest.mark.parametrize(("count", "each"), [(1, 1), (3, 3)])
def test_too_few_characters_are_refused(run_kind, count, each):
    with pytest.raises(DataError, match=f"pairing: {count} characters cannot have {each} others each"):
        pairing(run_kind, people(count), each=each)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"], ["id", "a"]])
def test_a_pair_has_two_names(run_kind, names):
    with pytest.raises(StepError, match="must be two different columns"):
        run_kind("preprocess.pairing", {"as": names}, people(3))


def test_two_characters_with_one_id_are_named(run_kind):
    with pytest.raises(DataError, match="p0: a second character with id 'p0'"):
        pairing(run_kind, [*people(2), people(1)[0]])


# Given lists


def listed(tmp_path: Path, held: Any) -> Path:
    (tmp_path / "pairs.json").write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("held", [{"2": [0, 1], "0": [2]}, [[2, 0], ["2", 1], [0, 2]]])
def test_a_given_list_decides_the_pairs_and_their_order(run_kind, tmp_path, held):
    ran = pairing(run_kind, people(3), listed(tmp_path, held), list="pairs.json", by="index")
    assert pairs(ran) == [(2, 0), (2, 1), (0, 2)]


def test_a_character_who_is_not_there_fails_or_is_left_out(run_kind, tmp_path):
    folder = listed(tmp_path, {"0": [1, 5], "6": [1]})
    with pytest.raises(DataError, match=r"pairs.json: names '5', which is not among the 3 rows by index"):
        pairing(run_kind, people(3), folder, list="pairs.json", by="index")
    ran = pairing(run_kind, people(3), folder, list="pairs.json", by="index", missing="drop")
    assert pairs(ran) == [(0, 1)]
    assert ran.rejected == [
        ("a character is missing", {"pair": [*pair], "source": "pairs.json"}) for pair in (("0", "5"), ("6", "1"))
    ]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("{", "not JSON"),
        ({"0": [0]}, "pairs '0' with itself"),
        ([[1, 2, 3]], "no list of pairs"),
        ([1], "no list of pairs"),
        ([], "no pair is left"),
    ],
)
def test_a_list_that_is_none_is_refused(run_kind, tmp_path, held, message):
    with pytest.raises(DataError, match=message):
        pairing(run_kind, people(3), listed(tmp_path, held), list="pairs.json", by="index")


def test_a_list_needs_its_folder_and_its_file(run_kind, tmp_path):
    with pytest.raises(StepError, match=r"pairing\.list: say in which dataset folder the file is"):
        pairing(run_kind, people(3), list="pairs.json")
    with pytest.raises(DataError, match=r"other.json: no such file. The folder holds: pairs.json"):
        pairing(run_kind, people(3), listed(tmp_path, []), list="other.json")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not there: {DATA}")
def test_the_published_list_of_pairs_obeys_the_law(run_kind):
    ran = pairing(run_kind, people(1024), DATA, list="dial_list.json", by="index", each=10)
    check_the_law(pairs(ran), 1024, 10)
    held = json.loads((DATA / "dial_list.json").read_text(encoding="utf-8"))
    assert pairs(ran) == [(int(first), second) for first, others in held.items() for second in others]
    assert {ran.facts["tables"][0]["rows"][1][place] for place in (2, 4)} == {3, 22}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data is not there: {DATA}")
def test_published_characters_are_paired_as_their_published_dialogues_were(run_kind):
    def records(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]

    characters, talks = records("profile_trans_output.json"), records("dial_output.json")
    ran = pairing(run_kind, characters, DATA, list="dial_list.json", by="index", missing="drop")
    assert ran.rejected
    listed = json.loads((DATA / "dial_list.json").read_text(encoding="utf-8"))
    made = {(row["seeker"]["index"], row["supporter"]["index"]): row for row in ran.rows()}
    for number, talk in enumerate(talks):
        seeker, supporter = talk["seeker_info"]["seeker_index"], talk["supporter_info"]["supporter_index"]
        assert supporter == listed[str(seeker)][number % 10]
        if (seeker, supporter) in made:
            assert made[seeker, supporter]["seeker"] == characters[seeker]
            assert made[seeker, supporter]["supporter"]["seeker_statement"] == characters[supporter]["seeker_statement"]
