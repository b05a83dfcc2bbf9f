"""The exports that `make bench` writes are ones that the readers take, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench_readers import BENCHES, bare, make, read


@pytest.mark.parametrize("name", BENCHES)
def test_every_message_of_a_written_export_is_read(name: str, tmp_path: Path) -> None:
    make(name, tmp_path, 20_000)
    bench = BENCHES[name]
    seen, lines = read(bench, tmp_path, write=False), bare(bench, tmp_path)
    assert seen == read(bench, tmp_path, write=True) > 0
    if bench.bare == "json lines" and bench.kind != "sillytavern":
        assert seen == lines
