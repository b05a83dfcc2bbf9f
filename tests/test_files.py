"""Files of rows: what is wrong in one is said with its line, and how a row is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import DataError
from runner.files import link, read_rows, where


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (b'{"a": 2', r"rows\.jsonl:2: the last line is torn"),
        (b'{"a": 2]\n', r"rows\.jsonl:2: not a JSON object \("),
        (b'{"a": NaN}\n', r"rows\.jsonl:2: not a JSON object \("),
        (b'{"a": "\xe9"}\n', r"rows\.jsonl:2: not a JSON object \('utf-8' codec"),
        (b"[2]\n", r"rows\.jsonl:2: a list where a JSON object belongs"),
    ],
)
def test_a_line_that_is_no_row_is_told_with_its_number(tmp_path: Path, second: bytes, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\xc3\xa9\xe2\x80\xa8"}\n' + second)
    rows = read_rows(path)
    assert next(rows) == {"a": "é\u2028"}
    with pytest.raises(DataError, match=said):
        next(rows)


def test_a_row_is_named_by_where_it_is_from_or_its_id_or_its_beginning() -> None:
    assert where({"source": "chat.json:3", "id": "a"}) == "chat.json:3"
    assert where({"id": "a"}) == "a"
    assert where({"text": "x" * 100}) == "{'text': '" + "x" * 50


def test_a_file_gets_a_second_name_and_a_copy_where_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")

    def refuse(*paths: Path) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    link(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "x" and not (tmp_path / "a").samefile(tmp_path / "c")
