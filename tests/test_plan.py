"""What runs and why: keys of content, not of times."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from runner import plan as planning
from runner import recipe as recipes
from runner.cli import main
from runner.cli_make import make_one, read_plan
from runner.plan import Plan
from tests import project


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.make(tmp_path))
    monkeypatch.delenv("ARTIFACTS", raising=False)
    monkeypatch.delenv("DATASETS", raising=False)
    return tmp_path


def plan(name: str = "small", variant: tuple[str, ...] = (), settings: tuple[str, ...] = ()) -> Plan:
    return planning.make(recipes.load(recipes.find(name), variant, settings))


def run(name: str = "small", settings: tuple[str, ...] = ()) -> list[str]:
    """Make the recipe; returns the names of the steps that ran."""
    made = plan(name, (), settings)
    path = planning.write(made)
    held = read_plan(path.with_suffix(".json"))
    for step in made.steps:
        make_one(held, step.key, made.root)
    return [step.name for step in made.stale]


def edit(name: str, old: str, new: str) -> None:
    path = Path("recipes") / f"{name}.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def why(made: Plan) -> dict[str, str]:
    return {step.name: step.why for step in made.stale}


def test_a_first_run_makes_every_step_and_a_second_none(folder: Path) -> None:
    assert run() == ["chats", "turns", "parts", "newest"]
    assert run() == []


def test_a_changed_parameter_reruns_its_step_and_dependants_only_and_says_why(folder: Path) -> None:
    run()
    edit("small", "from: chats, prompt: persona", "from: chats, prompt: persona, gap_minutes: 30")

    stale = why(plan())

    assert stale == {"turns": "gap_minutes 60 → 30", "parts": "'turns' changed", "newest": "'turns' changed"}


def test_going_back_to_an_earlier_value_runs_nothing_and_points_the_link_back(folder: Path) -> None:
    run()
    before = os.readlink("artifacts/small/parts")
    edit("small", "test: 0.25", "test: 0.5")
    assert run() == ["parts"]
    assert os.readlink("artifacts/small/parts") != before
    edit("small", "test: 0.5", "test: 0.25")

    assert run() == []
    assert os.readlink("artifacts/small/parts") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Small", "title: Other\nabout: Words."),
        ("steps:", "# a comment\nsteps:"),
        ("{preprocess: split, from: turns, test: 0.25}", "{test: 0.25, from: turns, preprocess: split}"),
        ("test: 0.25}", "test: 0.25, seed: 0}"),
        ("gap", "gap"),
        ("from: chats, prompt: persona", "from: chats, prompt: persona, gap_minutes: 60.0"),
    ],
    ids=["title", "comment", "order of keys", "a default written out", "nothing", "60.0 for 60"],
)
def test_what_does_not_change_the_result_runs_nothing(folder: Path, old: str, new: str) -> None:
    run()
    if old != "gap":
        edit("small", old, new)

    assert run() == []


def test_touching_a_data_file_runs_nothing(folder: Path) -> None:
    run()
    os.utime("datasets/chat/room.json", (1, 1))

    assert run() == []


def test_data_added_changed_renamed_or_removed_reruns_the_reader_and_says_which_file(folder: Path) -> None:
    run()
    room, hall = Path("datasets/chat/room.json"), Path("datasets/chat/hall.json")
    hall.write_text(project.export(2, "9").replace('"id": "1', '"id": "9'))
    assert why(plan())["chats"] == "datasets/chat/hall.json added"
    run()
    hall.rename("datasets/chat/den.json")
    assert why(plan())["chats"] == "datasets/chat/den.json added; datasets/chat/hall.json removed"
    Path("datasets/chat/den.json").unlink()
    assert run() == []
    room.write_text(project.export(9))

    assert why(plan())["chats"] == "datasets/chat/room.json changed"


def test_a_readme_or_hidden_file_in_the_dataset_is_not_data(folder: Path) -> None:
    run()
    Path("datasets/chat/README.md").write_text("About.")
    Path("datasets/chat/.DS_Store").write_text("x")

    assert run() == []


def test_the_same_bytes_out_of_a_rerun_step_stop_the_rebuild_there(folder: Path) -> None:
    run()
    text = Path("datasets/chat/room.json").read_text()
    Path("datasets/chat/room.json").write_text(text.replace('"topic": null', '"topic": "Tea."'))
    assert run() == ["chats", "turns", "parts", "newest"]

    records = {
        name: json.loads(Path(f"artifacts/small/{name}/step.json").read_text()) for name in ("chats", "turns", "parts")
    }

    assert "same_as" not in records["chats"]
    assert records["turns"]["same_as"] and records["parts"]["same_as"]


def test_two_recipes_with_the_same_first_steps_make_them_once(folder: Path) -> None:
    run()
    other = (
        project.RECIPE.replace("chats", "messages")
        .replace("turns", "talks")
        .replace("persona", "me")
        .replace("test: 0.25", "test: 0.5")
    )
    Path("recipes/other.yaml").write_text(other)

    assert run("other") == ["parts"]
    assert os.readlink("artifacts/other/talks") == os.readlink("artifacts/small/turns")


def test_a_deleted_result_is_made_again(folder: Path) -> None:
    run()
    link = Path("artifacts/small/turns")
    for path in link.resolve().iterdir():
        path.unlink()

    assert run() == ["turns"]
    assert (link / "rows.jsonl").is_file()


def test_a_setting_makes_a_plan_of_its_own_beside_the_written_one(folder: Path) -> None:
    run()

    assert run(settings=("steps.parts.test=0.5",)) == ["parts"]
    assert run() == []
    assert Path("artifacts/small@steps-parts-test-0-5/parts").is_symlink()


def test_the_plan_uses_only_what_make_3_81_understands(folder: Path) -> None:
    text = planning.makefile(plan())

    for line in text.splitlines():
        assert re.fullmatch(
            r"\t@:|\t@cd \"\$\$PERSONA_ROOT\" && \$\$LAUNCH \"\$\$PERSONA_PYTHON\" -m runner execute \"\$\$PERSONA_PLAN\" [0-9a-f]{20}"
            r"|\.(PHONY|PRECIOUS): [\w./ -]+|[\w/-]+:[\w./ -]*|store/[0-9a-f]{20}/step\.json: \|( store/[0-9a-f]{20}/step\.json)*",
            line,
        ), line
    assert str(folder) not in text


def test_the_plan_file_is_written_only_when_it_changes(folder: Path) -> None:
    path = planning.write(plan())
    os.utime(path, (1, 1))
    planning.write(plan())

    assert path.stat().st_mtime == 1


def test_a_no_op_reads_no_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime("datasets/chat/room.json", (1, 1))  # long settled, so that its digest is kept
    run()

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("runner.digests.file_digest", refuse)

    assert plan().stale == []


def test_artifacts_can_lie_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS", str(folder / "else where"))
    run()

    assert (folder / "else where" / "small" / "parts" / "train.jsonl").is_file()
    assert not (folder / "artifacts").exists()


def test_datasets_can_lie_anywhere_and_keep_their_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    (folder / "datasets").rename(folder / "elsewhere")
    monkeypatch.setenv("DATASETS", str(folder / "elsewhere"))

    assert run() == []


def test_clean_and_gc_keep_what_another_recipe_needs(folder: Path) -> None:
    from click.testing import CliRunner

    run()
    Path("recipes/other.yaml").write_text(project.RECIPE.replace("test: 0.25", "test: 0.5"))
    run("other")
    edit("other", "test: 0.5", "test: 0.75")

    collected = CliRunner().invoke(main, ["gc"])
    cleaned = CliRunner().invoke(main, ["clean", "small"])

    assert collected.output.startswith("1 step removed") and cleaned.output.startswith("1 step removed")
    assert why(plan("other")) == {"parts": "not made yet"}


def test_a_key_holds_no_name_of_a_step_even_below_a_mapping_with_free_keys(folder: Path) -> None:
    take = "{facts: {from: %s, words: 20}}"
    recipe = (
        "recipe: 1\nmodels:\n  finder: minilm\nsteps:\n"
        "  asks: {preprocess: discord, folder: datasets/chat}\n"
        "  NAME: {preprocess: select, from: asks, where: speaker == 'holmes'}\n"
        f"  asked: {{preprocess: retrieve, from: asks, columns: {{query: text}}, take: {take % 'NAME'}, model: finder}}\n"
    )
    keys = []
    for name in ("known", "facts"):
        Path(f"recipes/{name}.yaml").write_text(recipe.replace("NAME", name))
        keys.append({step.node.instance.written: step.key for step in plan(name).steps}["asked"])

    assert keys[0] == keys[1]
