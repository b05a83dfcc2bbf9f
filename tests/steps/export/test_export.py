"""Exports: rows as files that others read back, cards by the specification, model folders with a card."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk
from pyarrow import parquet

from runner import places
from runner.errors import DataError, StepError
from runner.step import Model, Out, Prompt
from runner.steps.export import hub
from tests.conftest import make_step

ROWS = [
    {"id": "a", "text": 'Élan, "so"\n🔍', "label": 1, "turns": [{"role": "user", "content": "x"}]},
    {"id": "b", "text": "", "label": 2, "turns": []},
]


def read(form: str, path: Path) -> list[dict[str, Any]]:
    if form == "jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if form == "json":
        made: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return made
    if form == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {**row, "label": int(row["label"]), "turns": json.loads(row["turns"])} for row in csv.DictReader(file)
            ]
    return list(parquet.read_table(path).to_pylist()) if form == "parquet" else list(load_from_disk(str(path)))


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_rows_come_back_as_they_were(run_kind: Any, form: str) -> None:
    ran = run_kind("export.dataset", {"format": form, "file": "talks"}, ROWS)
    name = "talks" if form == "arrow" else f"talks.{form}"
    assert read(form, ran.folder / name) == ROWS
    assert ran.facts["metrics"] == {"rows": 2}


def test_a_split_is_a_file_a_part_and_one_folder_in_arrow(run_kind: Any) -> None:
    parts = {"train": ROWS, "test": ROWS[:1]}
    ran = run_kind("export.dataset", {"format": "jsonl"}, parts)
    assert [len(read("jsonl", ran.folder / f"{part}.jsonl")) for part in parts] == [2, 1]
    folder = run_kind("export.dataset", {"format": "arrow"}, parts).folder
    assert {part: len(held) for part, held in load_from_disk(str(folder / "rows")).items()} == {"train": 2, "test": 1}


def test_only_the_columns_asked_for_in_their_order(run_kind: Any) -> None:
    ran = run_kind("export.dataset", {"keep": ["label", "id"]}, ROWS)
    assert (ran.folder / "rows.jsonl").read_text() == '{"label": 1, "id": "a"}\n{"label": 2, "id": "b"}\n'
    with pytest.raises(DataError, match="a: has no column 'who'"):
        run_kind("export.dataset", {"keep": ["who"]}, ROWS)


def test_rows_that_fit_no_table_are_told(run_kind: Any) -> None:
    with pytest.raises(DataError, match=r"^rows\.parquet: the rows do not fit into a table"):
        run_kind("export.dataset", {"format": "parquet"}, [{"a": 1}, {"a": {"b": 2}}])
    with pytest.raises(StepError, match="no rows to export"):
        run_kind("export.dataset", {}, [])


def test_a_copy_goes_where_the_user_says_and_replaces_only_itself(run_kind: Any, tmp_path: Path) -> None:
    place = tmp_path / "out"
    run_kind("export.dataset", {"to": str(place)}, ROWS)
    run_kind("export.dataset", {"to": str(place), "format": "csv"}, ROWS)
    assert sorted(path.name for path in place.iterdir()) == [".persona-export", "rows.csv"]
    (place / "mine.txt").write_text("x")
    with pytest.raises(StepError, match=r"holds other files \(mine\.txt\)"):
        run_kind("export.dataset", {"to": str(place)}, ROWS)
    assert (place / "rows.csv").exists()


def test_a_mark_that_was_tampered_with_removes_nothing_elsewhere(run_kind: Any, tmp_path: Path) -> None:
    place, beside = tmp_path / "out", tmp_path / "beside"
    run_kind("export.dataset", {"to": str(place)}, ROWS)
    beside.mkdir()
    (place / ".persona-export").write_text(f"rows.jsonl\n../beside\n{beside}")
    run_kind("export.dataset", {"to": str(place)}, ROWS)
    assert beside.is_dir() and (place / ".persona-export").read_text() == "rows.jsonl"


def test_a_card_has_every_field_of_the_specification(run_kind: Any) -> None:
    rows = [{"profile": {"name": "Ada Kühn", "job": "baker"}}, {"profile": {"name": "Ada Kühn", "job": "pilot"}}]
    ran = run_kind(
        "export.card",
        {"name": "{{ profile.name }}", "description": "A {{ profile.job }}.", "first_mes": "Hello.", "tags": ["x"]},
        rows,
        prompts={"prompt": Prompt("who", ({"system": "You are {{ profile.name }}."},))},
    )
    made = json.loads((ran.folder / "ada-kuhn.json").read_text(encoding="utf-8"))
    assert (made["spec"], made["spec_version"]) == ("chara_card_v2", "2.0")
    assert made["data"] == {
        "name": "Ada Kühn",
        "description": "A baker.",
        "personality": "",
        "scenario": "",
        "first_mes": "Hello.",
        "mes_example": "",
        "creator_notes": "",
        "system_prompt": "You are Ada Kühn.",
        "post_history_instructions": "",
        "alternate_greetings": [],
        "tags": ["x"],
        "creator": "",
        "character_version": "",
        "extensions": {},
    }
    assert (ran.folder / "ada-kuhn-2.json").is_file()


def test_a_card_is_read_back_by_our_own_reader(run_kind: Any) -> None:
    made = run_kind(
        "export.card",
        {
            "name": "Holmes",
            "description": "A detective.",
            "mes_example": "<START>\n{{ '{{user}}' }}: Who?\n{{ '{{char}}' }}: The cook.",
        },
        [{}],
    )
    folder = made.folder
    again = run_kind("preprocess.character_card", {"rows": "examples"}, folder=folder, files=(folder / "holmes.json",))
    assert [one["content"] for one in again.rows()[0]["messages"]][-1] == "The cook."


def test_a_card_without_a_name_is_refused(run_kind: Any) -> None:
    with pytest.raises(DataError, match="name: is empty"):
        run_kind("export.card", {"name": "{{ who }}"}, [{"who": " "}])


def test_a_model_folder_for_the_hub_has_a_card_and_no_path(tmp_path: Path, tiny_model: Path) -> None:
    import shutil

    trained = Path(shutil.copytree(tiny_model, tmp_path / "best"))
    places.remember(Prompt("persona", ({"system": "You are Holmes."},)), trained)
    (trained / "README.md").write_text("---\nx\n---\n| setting | value |\n|---|---|\n| epochs | 3 |\n")
    base = Model("base", {"load": "smollm2-135m"})
    step = make_step(
        "export",
        "hub",
        tmp_path,
        {},
        models=[Model("voice", {}, trained, base)],
        licence="apache-2.0",
        data="My own chats.",
    )
    facts = hub.run(step, Out(tmp_path))
    card = (tmp_path / "model/README.md").read_text(encoding="utf-8")
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in card and "license: apache-2.0" in card
    assert "You are Holmes." in card and "| epochs | 3 |" in card and "My own chats." in card
    assert str(tmp_path) not in card
    assert (tmp_path / "model/model.safetensors").is_file()
    assert "| epochs" in (trained / "README.md").read_text() and facts["metrics"]["files"] > 3


def test_a_model_that_is_not_made_here_needs_no_export(tmp_path: Path, tiny_model: Path) -> None:
    step = make_step("export", "hub", tmp_path, {}, models=[Model("base", {"load": str(tiny_model)})])
    with pytest.raises(StepError, match="'base' is not made here"):
        hub.run(step, Out(tmp_path))
