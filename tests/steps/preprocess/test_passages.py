from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError

REAL = Path(__file__).resolve().parents[4] / "shared/data/persllm"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the published data is not beside the checkout")


@pytest.fixture
def read(run_kind, tmp_path):
    """`read({"a.txt": "One.\\nTwo."}, min_words=2)` writes the files and runs the step on them."""

    def run(written: dict[str, Any], /, **params: Any):
        for name, content in written.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return run_kind("preprocess.passages", {"folder": "datasets/x", **params}, folder=folder, files=files)


def failure(read, written: dict[str, Any], /, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def texts(ran) -> list[str]:
    return [row["text"] for row in ran.rows()]


TEXT = "\ufeff# Life\r\nBorn  in 1770.\r\n\r\n## Youth\nPlayed,\nand played.\n\n== Death ==\nDied.\n#not a heading\n"


def test_each_line_is_a_passage_with_the_headings_above_it(read):
    assert read({"a.txt": TEXT}).rows() == [
        {"id": "a.txt:2", "source": "a.txt:2", "text": "Born  in 1770.", "heading": "Life"},
        {"id": "a.txt:5", "source": "a.txt:5", "text": "Played,", "heading": "Life > Youth"},
        {"id": "a.txt:6", "source": "a.txt:6", "text": "and played.", "heading": "Life > Youth"},
        {"id": "a.txt:9", "source": "a.txt:9", "text": "Died.", "heading": "Life > Death"},
        {"id": "a.txt:10", "source": "a.txt:10", "text": "#not a heading", "heading": "Life > Death"},
    ]


def test_blank_lines_part_blocks_and_inner_line_breaks_stay(read):
    assert texts(read({"a.txt": TEXT}, paragraphs="blocks")) == [
        "Born  in 1770.",
        "Played,\nand played.",
        "Died.\n#not a heading",
    ]


def test_headings_can_be_passages_too(read):
    rows = read({"a.txt": "# Life\n## Youth\nPlayed.\n"}, headings="keep").rows()
    assert [(row["text"], row["heading"]) for row in rows] == [
        ("Life", None),
        ("Youth", "Life"),
        ("Played.", "Life > Youth"),
    ]


def test_the_note_of_a_source_is_taken_off(read):
    ran = read({"a.txt": "【Letters】【1801】 I hear less.\nNo note.\n【only】\n"}, strip_source="】")
    assert [(row["text"], row["reference"]) for row in ran.rows()] == [
        ("I hear less.", "【Letters】【1801】"),
        ("No note.", None),
    ]
    assert [reason for reason, _ in ran.rejected] == ["nothing after the source"]


def test_short_passages_are_dropped_and_counted(read):
    ran = read({"a.txt": "one\none two\none two three\n"}, min_words=2)
    assert texts(ran) == ["one two", "one two three"]
    assert [reason for reason, _ in ran.rejected] == ["fewer words than min_words"]
    assert ran.facts["metrics"] == {"files": 1, "words": 5, "words_a_passage": 2.5}


def interview(*replies: tuple[str, str], question: str = "Who?") -> dict[str, Any]:
    return {"topic_id": "t", "question": question, "reply": [{"role": role, "content": text} for role, text in replies]}


def test_an_interview_gives_a_passage_a_reply_under_its_question(read):
    rows = read({"a.json": json.dumps([interview(("N", "I.")), interview(("N", "Me."), question="")])}).rows()
    assert rows == [
        {"id": "a.json#1", "source": "a.json:1", "text": "I.", "heading": "Who?"},
        {"id": "a.json#2", "source": "a.json:1", "text": "Me.", "heading": None},
    ]


def test_of_several_who_reply_one_is_named(read):
    files = {"a.json": json.dumps([interview(("N", "I."), ("B", "No, I."))])}
    assert "several answer: N (1 replies), B (1 replies). Say whose words are read: speaker: …" in failure(read, files)
    assert texts(read(files, speaker="B")) == ["No, I."]
    assert "nobody named 'X' answers. Set speaker to one of: N (1 replies), B (1 replies)." in failure(
        read, files, speaker="X"
    )


def test_lines_that_cannot_be_read_are_set_aside(read):
    text = b"caf\xe9\n<<<<<<< a\nmine\n>>>>>>> b\nNUL\0\nfine\n"
    ran = read({"a.txt": text}, rejects=0.9)
    assert texts(ran) == ["fine"]
    assert [(row["source"], reason) for reason, row in ran.rejected] == [
        ("a.txt:1", "other bytes than the file's encoding has"),
        ("a.txt:2", "a merge conflict"),
        ("a.txt:3", "a merge conflict"),
        ("a.txt:4", "a merge conflict"),
        ("a.txt:5", "a NUL character"),
    ]
    assert "5 of 6 rows cannot be read" in failure(read, {"a.txt": text})


def test_replies_that_are_no_text_are_set_aside(read):
    entries = [interview(("N", "I.")), {"question": "?", "reply": [{"role": "N"}, {"role": "N", "content": "\ud83d"}]}]
    ran = read({"a.json": json.dumps(entries)}, rejects=0.9)
    assert [reason for reason, _ in ran.rejected] == ["a reply without content", "half a character (a lone surrogate)"]


def test_another_encoding_can_be_named(read):
    assert texts(read({"a.txt": "café".encode("cp1252")}, encoding="cp1252")) == ["café"]
    assert texts(read({"a.txt": "café".encode("utf-16")})) == ["café"]


@pytest.mark.parametrize(
    ("written", "params", "said"),
    [
        ({"a.csv": "x,y\n"}, {}, "a.csv: no text file. Save its text as .txt"),
        ({"a.txt": b"%PDF-1.7"}, {}, "a.txt: a PDF. Save its text as .txt."),
        ({"a.txt": "<html><p>x"}, {}, "a.txt: a web page."),
        ({"a.json": '{"a": 1}\n'}, {}, "a.json: no interview: not a JSON list of questions with replies."),
        ({"a.json": '[{"messages": []}]'}, {}, "a.json:1: no interview: an entry without question and reply."),
        ({"a.txt": "\n \n"}, {}, "no rows: the files are empty"),
        ({"a.txt": "one\n"}, {"min_words": 3}, "all 1 passages are dropped. Lower min_words."),
        ({}, {}, "no file here. Put text files, or interviews in JSON there."),
    ],
)
def test_what_is_no_text_is_refused_with_a_sentence(read, written, params, said):
    assert said in failure(read, written, **params)


PARAGRAPH = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() and not text.lstrip().startswith(("#", "=", "<<<", ">>>"))
)


@settings(max_examples=60, deadline=None)
@given(made=st.lists(PARAGRAPH, min_size=1), end=st.sampled_from(["\n", "\r\n"]), blocks=st.booleans())
def test_any_paragraphs_come_back_as_they_were_written(run_kind, tmp_path_factory, made, end, blocks):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text((end * 2 if blocks else end).join(made), encoding="utf-8", newline="")
    ran = read_folder(run_kind, folder, paragraphs="blocks" if blocks else "lines")
    assert texts(ran) == [text.strip() for text in made]


@real
@pytest.mark.parametrize(
    ("params", "rows"),
    [
        ({"files": "wiki_Newton.txt"}, 79),  # 150 lines, of which 65 are blank and 6 are headings
        ({"files": "wiki_Newton.txt", "headings": "keep"}, 85),
        ({"files": "wiki_Beethoven.txt"}, 80),  # 143 lines, of which 61 are blank and 2 are headings
        ({"files": "wiki_Beethoven.txt", "min_words": 20}, 65),
        ({"files": "interview_Newton.json"}, 95),
        ({"files": "interview_*", "speaker": "Beethoven"}, 82),
    ],
)
def test_published_articles_and_interviews_go_through(run_kind, params, rows):
    assert len(read_folder(run_kind, REAL, **params).rows()) == rows
