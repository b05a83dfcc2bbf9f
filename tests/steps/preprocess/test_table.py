from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.steps.preprocess import _json_stream

REAL = Path(__file__).resolve().parents[4] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the published data is not beside the checkout")


@pytest.fixture
def read(run_kind, tmp_path):
    """`read({"a.csv": "x,y\\n1,2\\n"}, types={...})` writes the files and runs the step on them."""

    def run(written: dict[str, Any], /, **params: Any):
        for name, content in written.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("README")))
    return run_kind("preprocess.table", {"folder": "datasets/x", **params}, folder=folder, files=files)


def failure(read, written: dict[str, Any], /, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def reasons(ran) -> list[tuple[str, str]]:
    return [(row["source"], reason) for reason, row in ran.rejected]


def own(ran) -> list[dict[str, Any]]:
    """The rows without id and source."""
    return [{key: value for key, value in row.items() if key not in ("id", "source")} for row in ran.rows()]


# What comes through


def test_a_csv_row_keeps_its_text_and_tells_its_line(read):
    ran = read({"in/a.csv": 'type,posts\r\nINFJ,"one|||""two""\r\n three"\r\nINTP, x \r\n'})
    assert ran.rows() == [
        {"id": "in/a.csv:2", "source": "in/a.csv:2", "type": "INFJ", "posts": 'one|||"two"\r\n three'},
        {"id": "in/a.csv:4", "source": "in/a.csv:4", "type": "INTP", "posts": " x "},
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", "a;b\n1;2\n"),
        ("a.tsv", "a\tb\n1\t2\n"),
        ("a.csv", "\ufeffa,b\n1,2\n"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16")),
        ("a.csv", "\n\na,b\n\n1,2"),
        ("a.jsonl", '{"a": "1", "b": "2"}\n'),
        ("a.ndjson", '\n{"a": "1", "b": "2"}'),
        ("a.json", '{"a": "1", "b": "2"}\n'),
        ("a.json", '[{"a": "1", "b": "2"}]'),
        ("a.json", '\ufeff[\n {\n  "a": "1",\n "b": "2"\n }\n]\n'),
    ],
)
def test_every_text_format_gives_the_same_row(read, name, content):
    assert own(read({name: content})) == [{"a": "1", "b": "2"}]


def test_columns_are_renamed_and_the_others_keep_their_names(read):
    ran = read({"a.csv": "type,posts,x\nINFJ,hi,1\n"}, columns={"text": "posts", "label": "type"})
    assert own(ran) == [{"text": "hi", "label": "INFJ", "x": "1"}]


def test_a_column_may_lie_inside_an_object(read):
    ran = read({"a.jsonl": '{"info": {"who": "Ann"}}\n{"info": {}}\n'}, columns={"name": "info.who"})
    assert [row["name"] for row in ran.rows()] == ["Ann", None]


def test_an_id_of_the_table_is_the_rows_id(read):
    assert [row["id"] for row in read({"a.jsonl": '{"id": 7, "x": 1}\n{"id": "b", "x": 1}\n'}).rows()] == ["7", "b"]


def test_rows_of_a_list_on_one_line_have_ids_of_their_own(read):
    ran = read({"a.json": '[{"x": 1}, {"x": 2}]'})
    assert [(row["id"], row["source"]) for row in ran.rows()] == [("a.json#1", "a.json:1"), ("a.json#2", "a.json:1")]


def test_cells_get_the_declared_types(read):
    head, row = "n,f,t,b,l,o,e\n", '7,0.5,7,yes,"[1, 2]","{""a"": 1}",\n'
    types = {"n": "number", "f": "number", "t": "text", "b": "boolean", "l": "list", "o": "object", "e": "number"}
    assert own(read({"a.csv": head + row}, types=types)) == [
        {"n": 7, "f": 0.5, "t": "7", "b": True, "l": [1, 2], "o": {"a": 1}, "e": None}
    ]


def test_a_cell_that_is_not_of_its_type_is_set_aside(read):
    ran = read({"a.csv": "n\n1\n1_0\ntwo\n"}, types={"n": "number"}, rejects=0.9)
    assert reasons(ran) == [("a.csv:3", "n is not a number"), ("a.csv:4", "n is not a number")]


def test_a_column_without_a_name_gets_its_number(read):
    assert own(read({"a.csv": ",x\n0,1\n"})) == [{"column_1": "0", "x": "1"}]


def test_missing_keys_of_json_rows_are_null_and_said_so(read):
    ran = read({"a.jsonl": '{"a": 1, "b": 2}\n{"a": 3}\n{"a": 4, "b": 5, "c": 6}\n'})
    assert own(ran) == [{"a": 1, "b": 2}, {"a": 3, "b": None}, {"a": 4, "b": 5, "c": 6}]
    assert ran.facts["notes"] == ["1 rows lack 'b': it is null there."]


def test_files_chooses_and_papers_are_passed_over(read):
    files = {"LICENSE": "MIT", "a.csv": "x\n1\n", "b.csv": "y\n2\n", "sub/c.csv": "x\n3\n"}
    assert own(read(files, files=["a.csv", "sub/*"])) == [{"x": "1"}, {"x": "3"}]


def test_another_encoding_can_be_named(read):
    assert own(read({"a.csv": "x\ncaf\u00e9\n".encode("cp1252")}, encoding="cp1252")) == [{"x": "café"}]


def test_a_field_of_a_megabyte_is_read(read):
    assert len(own(read({"a.csv": "x,y\n" + "w " * 500_000 + ",1\n"}))[0]["x"]) == 1_000_000


# What is set aside, with its line


def test_a_row_cut_inside_quotes_is_set_aside(read):
    ran = read({"a.csv": 'a,b\n1,"x"\n2,"y'}, rejects=0.5)
    assert len(ran.rows()) == 1
    assert ran.rejected == [("cut off inside quotes", {"source": "a.csv:3", "line": '2,"y'})]


def test_after_a_broken_quote_reading_goes_on(read):
    ran = read({"a.csv": 'a,b\n1,"x"y\n2,z\n'}, rejects=0.5)
    assert (own(ran), reasons(ran)) == (
        [{"a": "2", "b": "z"}],
        [("a.csv:2", "a quote inside quotes that is not doubled")],
    )


def test_shifted_rows_are_set_aside(read):
    ran = read({"a.csv": "a,b\n1,2,3\n4\n5,6\n"}, rejects=0.7)
    assert reasons(ran) == [("a.csv:2", "more fields than the header"), ("a.csv:3", "fewer fields than the header")]


def test_both_sides_of_a_merge_conflict_are_set_aside(read):
    text = "a\n1\n<<<<<<< HEAD\n2\n=======\n3\n>>>>>>> theirs\n4\n"
    ran = read({"a.csv": text}, rejects=0.9)
    assert [row["a"] for row in ran.rows()] == ["1", "4"]
    assert reasons(ran) == [(f"a.csv:{line}", "a merge conflict") for line in range(3, 8)]


def test_a_line_of_equal_signs_alone_is_a_value(read):
    assert own(read({"a.csv": "a\n=======\n"})) == [{"a": "======="}]


def test_a_line_in_another_encoding_is_set_aside(read):
    ran = read({"a.csv": b"a\ncaf\xe9\nb\xc3\xa9\n"}, rejects=0.5)
    assert own(ran) == [{"a": "bé"}]
    assert ran.rejected == [("other bytes than the file's encoding has", {"source": "a.csv:2", "line": "caf\\udce9"})]


def test_a_nul_character_is_set_aside(read):
    assert reasons(read({"a.csv": "a\nx\0\ny\n"}, rejects=0.5)) == [("a.csv:2", "a NUL character")]


def test_a_bare_nan_in_json_lines_is_set_aside_or_empty(read):
    text = '{"x": NaN}\n{"x": 1}\n'
    ran = read({"a.jsonl": text}, rejects=0.5)
    assert reasons(ran) == [("a.jsonl:1", "NaN or Infinity, which JSON does not have")]
    assert own(read({"a.jsonl": text}, nan="empty")) == [{"x": None}, {"x": 1}]


def test_too_many_nans_fail_and_say_how_to_read_them(read):
    assert "set nan: empty" in failure(read, {"a.json": '[{"x": NaN}]'})


def test_broken_lines_of_json_are_set_aside(read):
    ran = read({"a.jsonl": '{"x": 1}\n[1]\nnope\n{"x": 1e999}\n{"x": "\\ud83d"}\n{"x": 2'}, rejects=0.9)
    assert own(ran) == [{"x": 1}]
    assert reasons(ran) == [
        ("a.jsonl:2", "a value that is not an object"),
        ("a.jsonl:3", "not JSON"),
        ("a.jsonl:4", "a number or a character that JSON cannot hold"),
        ("a.jsonl:5", "a number or a character that JSON cannot hold"),
        ("a.jsonl:6", "not JSON (the last line: cut off)"),
    ]


def test_an_empty_id_is_set_aside(read):
    assert reasons(read({"a.csv": "id,x\n,1\n2,1\n"}, rejects=0.5)) == [("a.csv:2", "no id")]


# What fails


def test_more_broken_rows_than_allowed_fail_with_the_first_three(read):
    said = failure(read, {"a.csv": "a,b\n" + "1\n" * 5 + "1,2\n"})
    assert said.split(": ", 1)[1] == (
        "5 of 6 rows cannot be read: a.csv:2 fewer fields than the header, a.csv:3 fewer fields than the header, "
        "a.csv:4 fewer fields than the header and 2 more. Mend them, or raise rejects: (now 0.05)."
    )


@pytest.mark.parametrize(
    ("files", "params", "said"),
    [
        ({"a.txt": "x"}, {}, "a.txt: no table. Choose others with files:"),
        ({"a.json": '{\n "a": 1\n}'}, {}, "a.json: one JSON object, or not JSON; a table is a list of objects"),
        ({"a.json": '[{"a": 1},\n{"a": 2'}, {}, "a.json:2: stops being JSON in the entry that begins here"),
        ({"a.json": '[{"a": 1}\n'}, {}, "a.json:2: cut off: the list has no end"),
        ({"a.json": '[{"a": 1}]\n]'}, {}, "a.json:2: more after the end of the list"),
        ({"a.json": '[{"a": 1},\n<<<<<<< HEAD\n'}, {}, "a.json:2: a merge conflict begins here"),
        ({"a.csv": "<<<<<<< HEAD\na\n"}, {}, "a.csv:1: a merge conflict begins here"),
        ({"a.csv": "x,x\n1,2\n"}, {}, "a.csv:1: two columns are named 'x'"),
        ({"a.csv": ""}, {}, "a.csv:1: empty. A table begins with a row of column names"),
        ({"a.csv": "x\n"}, {}, "no rows: the files are empty"),
        ({"a.csv": "<!DOCTYPE html><p>Sign in"}, {}, "a.csv: a web page. Download the file itself"),
        ({"a.csv": "version https://git-lfs.github.com/spec/v1\n"}, {}, "git lfs pull"),
        ({"a.csv": b"PK\x03\x04rest"}, {}, "save the sheet as CSV"),
        ({"a.csv": "x\n1\n", "b.csv": "y\n1\n"}, {}, "b.csv:1: other columns than in"),
        ({"a.csv": "x\n1\n"}, {"files": "*.tsv"}, "no file that fits files: *.tsv here"),
        ({"a.csv": "x\n1\n"}, {"columns": {"text": "y"}}, "no column 'y' for columns.text. There are: x."),
        ({"a.csv": "x,text\n1,2\n"}, {"columns": {"text": "x"}}, "there is a column 'text' already"),
        ({"a.csv": "source\n1\n"}, {}, "Rename theirs: columns: {origin: source}"),
        ({"a.csv": "x\n1\n"}, {"types": {"y": "number"}}, "no column 'y' for types. There are: x."),
        ({"a.csv": "x\n1\n"}, {"split": "train"}, "no split 'train'"),
        ({"a.csv": b"\xff\xfex\0\n\0\x00"}, {}, "not utf-16"),
    ],
)
def test_what_is_no_table_is_refused_with_a_sentence(read, files, params, said):
    assert said in failure(read, files, **params)


def test_an_unknown_encoding_is_refused(read):
    with pytest.raises(StepError, match="no encoding 'klingon'"):
        read({"a.csv": "x\n1\n"}, encoding="klingon")


def test_every_file_that_is_none_is_named(read):
    said = failure(read, {"a.txt": "x", "b.pdf": b"%PDF-1.7"})
    assert len(said.splitlines()) == 2


# Parquet, Arrow and saved datasets


def test_parquet_gives_rows_with_times_and_numbers_as_json_has_them(read, tmp_path):
    from datetime import UTC, datetime
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    values = {"t": [datetime(2024, 1, 31, tzinfo=UTC)], "n": [Decimal("1.5")], "l": [[{"a": 1}]], "text": ["x"]}
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    assert read({}).rows() == [
        {
            "id": "a.parquet#1",
            "source": "a.parquet#1",
            "t": "2024-01-31T00:00:00+00:00",
            "n": 1.5,
            "l": [{"a": 1}],
            "text": "x",
        }
    ]


def test_nan_in_parquet_is_treated_as_in_json(read, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1.0, float("nan")]}), tmp_path / "a.parquet")
    assert reasons(read({}, rejects=0.5)) == [("a.parquet#2", "NaN or Infinity, which JSON does not have")]
    assert own(read({}, nan="empty")) == [{"x": 1.0}, {"x": None}]


def test_a_damaged_parquet_file_and_one_with_bytes_are_refused(read, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert "a.parquet: damaged after row 0" in failure(read, {"a.parquet": b"PAR1xxxx"})
    pq.write_table(pa.table({"x": [b"1"]}), tmp_path / "a.parquet")
    assert "column 'x' holds bytes" in failure(read, {})


@pytest.fixture
def saved(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["INFJ", "INTP"])})
    train = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    test = Dataset.from_dict({"text": ["c"], "label": [1]}, features=features)
    DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path))
    return tmp_path


def test_a_saved_dataset_gives_its_rows_and_the_names_of_its_classes(read, saved):
    assert own(read({})) == [
        {"text": "c", "label": "INTP"},
        {"text": "a", "label": "INTP"},
        {"text": "b", "label": "INFJ"},
    ]


def test_one_split_of_a_saved_dataset_can_be_read(read, saved):
    assert [row["text"] for row in read({}, split="train").rows()] == ["a", "b"]
    assert "no split 'dev'. There are: test, train." in failure(read, {}, split="dev")


# Any table


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAME = st.text("abcdefghij_", min_size=1, max_size=5).filter(lambda name: name not in ("id", "source"))
TABLE = st.lists(NAME, min_size=2, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(
        st.just(names), st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), min_size=1)
    )
)


@settings(max_examples=60, deadline=None)
@given(table=TABLE, delimiter=st.sampled_from(",;\t|"))
def test_any_csv_table_comes_back_as_it_was_written(run_kind, tmp_path_factory, table, delimiter):
    names, rows = table
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    folder = tmp_path_factory.mktemp("csv")
    (folder / "a.csv").write_bytes(stream.getvalue().encode())
    ran = read_folder(run_kind, folder)
    assert [list(row.values()) for row in own(ran)] == rows
    assert not ran.rejected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | CELL,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"a": JSON, "b": CELL}), min_size=1),
    indent=st.sampled_from([None, 0, 2]),
    block=st.integers(1, 40),
)
def test_any_json_rows_come_back_wherever_blocks_end(run_kind, tmp_path_factory, rows, indent, block):
    folder = tmp_path_factory.mktemp("json")
    (folder / "a.json").write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    before, _json_stream.BLOCK = _json_stream.BLOCK, block
    try:
        ran = read_folder(run_kind, folder)
    finally:
        _json_stream.BLOCK = before
    assert own(ran) == [*rows, *rows]


def test_a_table_larger_than_the_memory_streams_by(read, tmp_path):
    words = "words that fill a line, and more of them " * 300
    files = {
        "a.csv": "a,b\n" + f'x,"{words}"\n' * 2500,
        "b.json": json.dumps([{"a": "x", "b": words}] * 2500),
        "c.jsonl": (json.dumps({"a": "x", "b": words}) + "\n") * 2500,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    tracemalloc.start()
    ran = read({})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ran.facts["tables"][0]["rows"] == [["a.csv", 2500, 0], ["b.json", 2500, 0], ["c.jsonl", 2500, 0]]
    assert peak < 10_000_000


# Published data


@real
@pytest.mark.parametrize(
    ("folder", "params", "rows", "rejected"),
    [
        ("mbti", {"files": "mbti_1_clean.csv", "columns": {"text": "posts"}}, 99, []),
        ("mbti", {"files": "mbti_1_truncated.csv"}, 232, [("mbti_1_truncated.csv:234", "cut off inside quotes")]),
        ("mbti", {"files": "reddit_mbti.csv", "types": {"I/E": "number"}}, 32_000, []),
        ("big5chat", {"files": "replies_train.csv"}, 7066, []),
        ("big5chat", {"files": "big5_chat_sampled.csv"}, 200, []),
        ("big5chat", {"files": "alpha_*.jsonl", "nan": "empty"}, 360, []),
        ("characterchat", {"files": "dial_output.json"}, 100, []),
        ("characterchat", {"files": "mbti_list.json"}, 16, []),
        ("questionnaires", {"files": "mpi_120.csv", "types": {"key": "number"}}, 120, []),
        ("questionnaires", {"files": "answers/*"}, 9 * 120, []),
    ],
)
def test_published_tables_go_through(run_kind, folder, params, rows, rejected):
    ran = read_folder(run_kind, REAL / folder, **params)
    assert (len(ran.rows()), reasons(ran)) == (rows, rejected)


@real
def test_every_line_of_the_steered_replies_holds_a_nan(run_kind):
    with pytest.raises(DataError, match="360 of 360 rows cannot be read"):
        read_folder(run_kind, REAL / "big5chat", files="alpha_*.jsonl")


@real
def test_blank_posts_are_kept_as_they_are(run_kind):
    rows = read_folder(run_kind, REAL / "mbti", files="reddit_mbti.csv").rows()
    assert sum(not row["text"].strip() for row in rows) == 58
