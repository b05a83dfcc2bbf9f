"""Training is what it was: short loss series, recorded with `python -m tests.record_losses`, come out again."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.record_losses import KINDS, SERIES

MOST, MEAN = 2e-3, 5e-4  # how far a value may lie off, and all of them on average: processors round differently


def expect_recorded(name: str, curves: dict[str, Any]) -> None:
    for curve, points in json.loads(SERIES.read_text(encoding="utf-8"))[name].items():
        assert [at for at, _ in curves[curve]] == [at for at, _ in points]
        off = [abs(value - recorded) for (_, value), (_, recorded) in zip(curves[curve], points, strict=True)]
        assert max(off) < MOST and fmean(off) < MEAN, (name, curve)


@pytest.mark.parametrize("name", KINDS)
def test_training_gives_the_recorded_losses(name: str, tiny_model: Path, tmp_path: Path) -> None:
    expect_recorded(name, KINDS[name](tmp_path, tiny_model))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("at_once", [1, 4])
def test_how_many_rows_go_at_once_does_not_change_them(
    name: str, at_once: int, tiny_model: Path, tmp_path: Path
) -> None:
    expect_recorded(name, KINDS[name](tmp_path, tiny_model, batch_at_once=at_once))
