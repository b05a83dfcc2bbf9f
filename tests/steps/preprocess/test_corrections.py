from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DataError

ROWS = [
    {"id": "a", "source": "x.csv:1", "reply": "Elementry.", "score": 3, "tags": ["x"]},
    {"id": "b", "source": "x.csv:2", "reply": "Quite so.", "score": 5, "tags": []},
    {"id": 7, "source": "x.csv:3", "reply": "No.", "score": 1, "tags": []},
]


def correct(run_kind: Any, folder: Path, files: dict[str, str], rows: Any = ROWS) -> Any:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    paths = tuple(folder / name for name in sorted(files))
    return run_kind("preprocess.corrections", {"folder": str(folder)}, rows, folder=folder, files=paths)


def test_new_values_take_the_place_of_the_old_and_the_rest_stays(run_kind, tmp_path):
    ran = correct(
        run_kind,
        tmp_path,
        {"edits.yaml": "- {id: a, reply: Elementary., score: 4}\n- {id: b, reply: Quite so.}\n- {id: 7, drop: true}\n"},
    )
    assert ran.rows() == [{**ROWS[0], "reply": "Elementary.", "score": 4}, ROWS[1]]
    assert ran.rejected == [("dropped by hand", ROWS[2])]
    assert ran.facts["metrics"] == {"corrections": 3, "corrected": 1, "dropped": 1, "already_so": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.yaml", "a: {reply: Elementary., score: 4}\n7: {drop: true}\n"),
        ("e.yml", "- id: a\n  reply: Elementary.\n  score: 4\n- id: 7\n  drop: true\n"),
        ("e.jsonl", '{"id": "a", "reply": "Elementary.", "score": 4}\n\n{"id": 7, "drop": true}\n'),
        ("e.csv", "id,reply,score,drop\na,Elementary.,4,\n7,,,yes\n"),
        ("e.csv", "\ufeffid,reply,score,drop\r\na,Elementary.,4,no\r\n7,,,true\r\n"),
    ],
)
def test_every_form_says_the_same(run_kind, tmp_path, name, text):
    ran = correct(run_kind, tmp_path, {name: text})
    assert ran.rows() == [{**ROWS[0], "reply": "Elementary.", "score": 4}, ROWS[1]]
    assert len(ran.rejected) == 1


def test_cells_keep_the_type_of_their_column(run_kind, tmp_path):
    ran = correct(run_kind, tmp_path, {"e.csv": 'id,score,tags,reply\nb,4.5,"[""y""]",12\n'})
    assert ran.rows()[1] == {**ROWS[1], "score": 4.5, "tags": ["y"], "reply": "12"}


def test_several_files_may_correct_one_row(run_kind, tmp_path):
    ran = correct(run_kind, tmp_path, {"1.yaml": "a: {reply: Yes.}\n", "2.yaml": "a: {score: 9}\n"})
    assert ran.rows()[0] == {**ROWS[0], "reply": "Yes.", "score": 9}


def test_a_part_is_found_by_its_rows(run_kind, tmp_path):
    parts = {"train": ROWS[:2], "test": ROWS[2:]}
    ran = correct(run_kind, tmp_path, {"e.yaml": "- {id: 7, reply: Yes.}\n"}, parts)
    assert ran.rows("test")[0]["reply"] == "Yes."
    assert ran.rows("train") == ROWS[:2]


def test_an_unknown_id_is_an_error_with_the_nearest_one(run_kind, tmp_path):
    rows = [{"id": f"chat-{number}", "reply": "x"} for number in range(100, 120)]
    with pytest.raises(DataError) as caught:
        correct(run_kind, tmp_path, {"e.jsonl": '{"id": "chat-10", "reply": "y"}\n{"id": "zzz", "drop": true}\n'}, rows)
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"{tmp_path}/e.jsonl:1: no row has the id 'chat-10'. Did you mean 'chat-1")
    assert second == f"{tmp_path}/e.jsonl:2: no row has the id 'zzz'. Look it up with make show."


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"e.yaml": "- {id: a, repyl: x}\n"}, "e.yaml:1: row 'a' has no column 'repyl'. Did you mean 'reply'?"),
        ({"e.yaml": "- {reply: x}\n"}, "e.yaml:1: no id. Write the id of the row to correct"),
        ({"e.yaml": "- a\n"}, "e.yaml:1: no id."),
        ({"e.yaml": "just words\n"}, "e.yaml: no list of corrections."),
        ({"e.yaml": "- {id: a}\n"}, "e.yaml:1: nothing to do. Give a column a new value, or: drop: true."),
        ({"e.yaml": "- {id: a, drop: true, reply: x}\n"}, "e.yaml:1: both drop and new values. Choose one."),
        ({"e.yaml": "- {id: a, drop: maybe}\n"}, "e.yaml:1: drop is 'maybe', neither true nor false."),
        ({"e.yaml": "- {id: a, source: x}\n"}, "e.yaml:1: source says where a row comes from and cannot be changed."),
        (
            {"e.yaml": "- {id: a, reply: x}\n- {id: a, reply: y}\n"},
            "e.yaml:2: row 'a' is corrected twice, column 'reply' at",
        ),
        ({"e.yaml": "- {id: a, reply: x}\n- {id: a, drop: true}\n"}, "e.yaml:2: row 'a' is corrected twice, it at"),
        ({"e.yaml": "a: {reply: x}\na: {score: 1}\n"}, "e.yaml:2:1:"),
        ({"e.jsonl": '{"id": "a", "score": NaN}\n'}, "e.jsonl:1: not JSON (NaN is not JSON). Mend the line."),
        ({"e.csv": "id,reply\na,x,y\n"}, "e.csv:2: more or fewer cells than the header has. Mend the row."),
        ({"e.csv": "id,reply\na\n"}, "e.csv:2: more or fewer cells than the header has. Mend the row."),
        ({"e.csv": 'id,reply\na,"x\n'}, "e.csv:2: not CSV"),
        ({"e.csv": "id,drop\na,perhaps\n"}, "e.csv:2: drop is 'perhaps', neither true nor false."),
        ({"e.csv": "id,score\na,high\n"}, "e.csv:2: score is 'high', where row 'a' has 3."),
        ({"e.txt": "a: b"}, "e.txt: corrections are .yaml, .yml, .jsonl, .csv files. Rename it, or move it away."),
    ],
)
def test_what_is_no_correction_is_said_in_one_line(run_kind, tmp_path, files, message):
    with pytest.raises(DataError) as caught:
        correct(run_kind, tmp_path, files)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_id_of_two_rows_is_refused(run_kind, tmp_path):
    with pytest.raises(DataError, match=r"id 'a' names two rows, x\.csv:1 and x\.csv:1\. Make ids unique first\."):
        correct(run_kind, tmp_path, {"e.yaml": "- {id: a, reply: x}\n"}, [ROWS[0], ROWS[0]])


def test_every_wrong_entry_is_told_at_once(run_kind, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(DataError) as caught:
        correct(run_kind, tmp_path, {"e.yaml": "- {id: a}\n- {reply: x}\n", "f.jsonl": json.dumps({"id": None}) + "\n"})
    assert len(str(caught.value).split("\n")) == 3
