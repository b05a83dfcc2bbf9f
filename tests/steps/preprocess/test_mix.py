from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import schema
from runner.cli import main
from runner.errors import DataError, StepError
from runner.files import RowWriter, read_rows
from runner.step import Input, Out, Step
from runner.steps.preprocess import mix as kind


@dataclass(frozen=True)
class Mixed:
    facts: dict[str, Any]
    folder: Path

    def rows(self, part: str = "rows") -> list[dict[str, Any]]:
        return list(read_rows(self.folder / f"{part}.jsonl"))


@pytest.fixture(scope="session")
def mix(tmp_path_factory):
    """`mix({...}, general=[rows], lessons={"train": rows})`: each is a step in from:, by the name that `names` has for it."""

    def run(params: dict[str, Any], names: dict[str, str] | None = None, **steps: Any) -> Mixed:
        inputs = []
        written = {step: (names or {}).get(step, step) for step in steps}
        for name, rows in steps.items():
            folder = tmp_path_factory.mktemp(name)
            for part, held in (rows if isinstance(rows, dict) else {"rows": rows}).items():
                with RowWriter(folder / f"{part}.jsonl") as writer:
                    writer.write_all(held)
            inputs.append(Input(name, folder, named=written[name]))
        keys = schema.defaults(
            schema.fragment("preprocess", "mix"), {"from": list(dict.fromkeys(written.values())), **params}
        )
        made = tmp_path_factory.mktemp("mixed")
        step = Step("mix", "preprocess", "mix", keys, made, inputs={"from": tuple(inputs)})
        return Mixed(kind.run(step, Out(made)), made)

    return run


def numbered(name: str, count: int) -> list[dict[str, Any]]:
    return [{"id": f"{name}{number}", "of": name} for number in range(count)]


def ids(ran: Any, part: str = "rows") -> list[str]:
    return [row["id"] for row in ran.rows(part)]


def test_rows_come_as_often_as_repeat_says_in_an_order_by_chance(mix):
    ran = mix({"repeat": [3, 1], "seed": 42}, a=numbered("a", 2), b=numbered("b", 3))
    assert sorted(ids(ran)) == ["a0", "a0~2", "a0~3", "a1", "a1~2", "a1~3", "b0", "b1", "b2"]
    assert ids(ran) != sorted(ids(ran))
    assert ran.facts["tables"] == [
        {"title": "Rows", "columns": ["from", "rows", "in the mix"], "rows": [["a", 2, 6], ["b", 3, 3]]}
    ]


def test_the_seed_decides_the_order_and_without_shuffle_there_is_none(mix):
    steps = {"a": numbered("a", 20), "b": numbered("b", 20)}
    assert ids(mix({}, **steps)) == ids(mix({}, **steps)) != ids(mix({"seed": 1}, **steps))
    assert ids(mix({"shuffle": False}, **steps)) == [row["id"] for row in steps["a"] + steps["b"]]


def test_weights_are_shares_of_the_mix_and_no_row_comes_twice(mix):
    ran = mix({"weights": [3, 1]}, a=numbered("a", 30), b=numbered("b", 40))
    assert Counter(row["of"] for row in ran.rows()) == {"a": 30, "b": 10}
    assert len(set(ids(ran))) == 40


def test_more_rows_than_there_are_come_again_only_after_all_others(mix):
    ran = mix({"weights": [1, 1], "rows": 20}, a=numbered("a", 4), b=numbered("b", 40))
    assert Counter(row["of"] for row in ran.rows()) == {"a": 10, "b": 10}
    copies = Counter(row["id"].split("~")[0] for row in ran.rows() if row["of"] == "a")
    assert sorted(copies.values()) == [2, 2, 3, 3]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    repeats=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_no_row_is_lost_and_none_made_up(mix, sizes, repeats, seed):
    steps = {f"s{at}": numbered(f"s{at}-", size) for at, size in enumerate(sizes)}
    ran = mix({"repeat": repeats[: len(sizes)], "seed": seed}, **steps)
    expected = Counter({row["id"]: times for rows, times in zip(steps.values(), repeats, strict=False) for row in rows})
    assert Counter(name.split("~")[0] for name in ids(ran)) == expected
    assert len(set(ids(ran))) == len(ids(ran))


@given(
    sizes=st.lists(st.integers(10, 30), min_size=2, max_size=3),
    weights=st.lists(st.integers(1, 5), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_shares_are_right_to_within_one_row(mix, sizes, weights):
    steps = {f"s{at}": numbered(f"s{at}", size) for at, size in enumerate(sizes)}
    shares = [weight / sum(weights[: len(sizes)]) for weight in weights[: len(sizes)]]
    ran = mix({"weights": weights[: len(sizes)]}, **steps)
    counts = Counter(row["of"] for row in ran.rows())
    assert all(abs(counts[name] - share * len(ran.rows())) < 1 for name, share in zip(steps, shares, strict=True))
    assert len(set(ids(ran))) == len(ids(ran))


def test_a_whole_split_is_mixed_part_by_part(mix):
    ran = mix(
        {"repeat": [2, 1]},
        a={"train": numbered("a", 2), "test": numbered("x", 1)},
        b={"train": numbered("b", 1), "test": numbered("y", 1)},
    )
    assert sorted(ids(ran, "train")) == ["a0", "a0~2", "a1", "a1~2", "b0"]
    assert sorted(ids(ran, "test")) == ["x0", "x0~2", "y0"]


def test_a_name_stands_for_all_siblings_of_a_matrix(mix):
    steps = {"talk_ann": numbered("p", 1), "talk_bob": numbered("q", 1), "general": numbered("g", 1)}
    ran = mix({"repeat": [2, 1]}, names={"talk_ann": "talk", "talk_bob": "talk"}, **steps)
    assert sorted(ids(ran)) == ["g0", "p0", "p0~2", "q0", "q0~2"]


NAMES = """\
recipe: 1
matrix: {who: [ann, bob]}
steps:
  talk: {matrix: [who], preprocess: table, folder: rows, files: "${who}.jsonl"}
  talk-b: {preprocess: table, folder: rows, files: other.jsonl}
  mixed: {preprocess: mix, from: FROM, repeat: [1, 3]}
"""


@pytest.mark.parametrize(
    ("names", "times"),
    [
        ("[talk, talk-b]", {"ann": 1, "bob": 1, "other": 3}),
        ("[talk-b, talk]", {"ann": 3, "bob": 3, "other": 1}),
        ("[talk-ann, talk-b]", {"ann": 1, "other": 3}),
        ("[talk, talk]", {"ann": 4, "bob": 4}),
    ],
)
def test_a_step_named_like_the_siblings_of_another_counts_by_its_own_name(tmp_path, monkeypatch, names, times):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTIFACTS", "artifacts")
    (tmp_path / "rows").mkdir()
    (tmp_path / "recipes").mkdir()
    for name in ("ann", "bob", "other"):
        (tmp_path / "rows" / f"{name}.jsonl").write_text(json.dumps({"id": name, "text": name}) + "\n")
    (tmp_path / "recipes" / "names.yaml").write_text(NAMES.replace("FROM", names))
    done = CliRunner().invoke(main, ["run", "names"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    made = read_rows(tmp_path / "artifacts" / "names" / "mixed" / "rows.jsonl")
    assert Counter(row["text"] for row in made) == times


def test_rows_without_an_id_and_mapped_columns_come_through(mix):
    ran = mix({"columns": {"text": "of"}, "repeat": [2]}, a=[{"of": "x"}])
    assert ran.rows() == [{"of": "x", "text": "x"}] * 2


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"repeat": [1]}, StepError, r"mix\.repeat: 1 numbers for 2 names in from:"),
        ({"repeat": [1, 1], "weights": [1, 1]}, StepError, "both say how often rows come"),
        ({"weights": [1, 1000]}, StepError, "leave nothing of one of them"),
    ],
)
def test_what_does_not_fit_is_refused(mix, params, error, message):
    with pytest.raises(error, match=message):
        mix(params, a=numbered("a", 2), b=numbered("b", 2))


def test_a_step_without_rows_is_named(mix):
    with pytest.raises(DataError, match=r"mix\.test: 'b' has no rows"):
        mix({}, a={"train": numbered("a", 1), "test": numbered("a", 1)}, b={"train": numbered("b", 1), "test": []})


def test_memory_does_not_hold_the_rows(mix):
    rows = [{"id": str(number), "text": "word " * 2000} for number in range(1500)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ran = mix({"repeat": [2]}, a=iter(rows))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < (ran.folder / "rows.jsonl").stat().st_size / 10
