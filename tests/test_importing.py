from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner import recipe
from runner.errors import DataError
from runner.importing import selfchatbot
from runner.strict_yaml import parse
from tests import project

SETTINGS = {
    "model": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "type_fine_tune": "lora",
    "preprocessor_data": {"DiscordChatExporter": {"username": "my.name"}},
}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder of datasets, the working directory; the three variables are not set."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.delenv(f"selfChatBot_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dataset(
    raw: Path, name: str = "Dataset_1_My_Chats", settings: Any = None, formats: Any = ("DiscordChatExporter",)
) -> Path:
    for form in formats:
        (raw / name / form).mkdir(parents=True)
        (raw / name / form / "chat.txt").write_text("hello", encoding="utf-8")
    (raw / name).mkdir(parents=True, exist_ok=True)
    held = SETTINGS if settings is None else settings
    (raw / name / "parameters.json").write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
    return raw / name


def failure(folder: Path | None, number: int | None = None) -> list[str]:
    with pytest.raises(DataError) as caught:
        selfchatbot(folder, number)
    return [line.replace(f"{folder}/", "").replace(str(folder), "RAW") for line in caught.value.lines]


def steps(text: str) -> Any:
    return parse(text, "x")["steps"]


def test_a_dataset_becomes_a_recipe_that_checks(raw):
    project.make(raw)
    where = dataset(raw)
    (where / "DiscordChatExporter" / "chat.txt").unlink()
    (where / "DiscordChatExporter" / "room.json").write_text(project.export(), encoding="utf-8")
    name, text = selfchatbot(raw)
    (raw / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")
    made = recipe.load(raw / "recipes" / f"{name}.yaml")
    assert name == "my-chats"
    assert made
    assert steps(text)["chats-discord"] == {
        "preprocess": "discord",
        "folder": "Dataset_1_My_Chats/DiscordChatExporter",
        "speaker": "my.name",
    }
    assert steps(text)["voice"] == {
        "train": "sft",
        "from": "parts",
        "model": "base",
        "lora": {"rank": 32, "alpha": 64, "dropout": 0.05, "targets": "all"},
        "epochs": 500,
        "stop_early": {"after": 8, "on": "loss"},
        "learning_rate": 5e-5,
        "warmup": 0.05,
        "weight_decay": 0.01,
        "batch": 8,
        "max_length": 1024,
    }


@pytest.mark.parametrize(("way", "lora", "bits"), [("lora", True, None), ("qlora", True, 4), ("full", False, None)])
def test_the_three_ways_of_training_are_kept(raw, way, lora, bits):
    dataset(raw, settings={**SETTINGS, "type_fine_tune": way, "max_length": 512})
    text = selfchatbot(raw)[1]
    voice = steps(text)["voice"]
    assert (("lora" in voice), parse(text, "x")["models"]["base"].get("bits"), voice["max_length"]) == (lora, bits, 512)


def test_comments_and_trailing_commas_are_allowed_but_not_inside_texts(raw):
    text = """{
      // the model
      "model": "org//name", /* a "long"
      note */ "type_fine_tune": "full",
      "preprocessor_data": {"DiscordChatExporter": {"username": "a, // b \\" /* c */",},},
    }"""
    dataset(raw, settings=text)
    made = parse(selfchatbot(raw)[1], "x")
    assert made["models"]["base"]["load"] == "org//name"
    assert made["steps"]["chats-discord"]["speaker"] == 'a, // b " /* c */'


def test_several_formats_are_read_together(raw, monkeypatch):
    monkeypatch.setattr("runner.importing.kinds", lambda verb: ("discord", "whatsapp"))
    data = {"DiscordChatExporter": {"username": "me"}, "WhatsApp": {"username": "Me M"}}
    dataset(raw, settings={**SETTINGS, "preprocessor_data": data}, formats=("WhatsApp", "DiscordChatExporter"))
    made = steps(selfchatbot(raw)[1])
    assert made["turns"]["from"] == ["chats-discord", "chats-whatsapp"]
    assert made["chats-whatsapp"]["speaker"] == "Me M"


def test_one_of_several_datasets_is_chosen_by_its_number(raw):
    dataset(raw, "Dataset_1_one")
    dataset(raw, "Dataset_002_two")
    assert selfchatbot(raw, 2)[0] == "two"
    assert failure(raw) == ["RAW: no dataset chosen. There are: Dataset_002_two, Dataset_1_one."]
    assert failure(raw, 3) == ["RAW: no dataset 3. There are: Dataset_002_two, Dataset_1_one."]


def test_a_dataset_can_be_named_itself(raw):
    assert selfchatbot(dataset(raw, "Dataset_7_99"))[0] == "dataset-7-99"


def test_the_three_variables_say_where_things_lie(raw, monkeypatch):
    dataset(raw / "raw")
    for name, held in (
        (
            "preprocessed",
            {
                "batch_size": 1,
                "gradient_accumulation_steps": 8,
                "learning_rate": 1e-4,
                "epochs": 3,
                "dataset_split": 0.9,
            },
        ),
        ("results", {"temperature": 0.5, "top_k": 10}),
    ):
        dataset(raw / name, settings=held, formats=())
        monkeypatch.setenv(f"selfChatBot_{name}", str(raw / name))
    monkeypatch.setenv("selfChatBot_raw", str(raw / "raw"))
    made = parse(selfchatbot(None)[1], "x")
    voice, talk = made["steps"]["voice"], made["decoding"]["talk"]
    assert (voice["batch"], voice["learning_rate"], voice["epochs"]) == (8, 1e-4, 3)
    assert (made["steps"]["parts"]["validation"], made["steps"]["parts"]["test"]) == (0.05, 0.05)
    assert (talk["temperature"], talk["top_k"], talk["top_p"]) == (0.5, 10, 0.85)


def test_without_folder_and_variable_it_says_what_to_give(raw):
    assert failure(None) == ["no folder is named. Give one, or set selfChatBot_raw in the environment or in .env."]


def test_equal_ids_are_refused_by_name(raw):
    dataset(raw, "Dataset_1_one")
    dataset(raw, "Dataset_001_two")
    assert failure(raw, 1) == ["RAW: Dataset_001_two and Dataset_1_one have the same ID 1. Rename one."]


@pytest.mark.parametrize(
    ("settings", "formats", "said"),
    [
        ({}, (), "parameters.json: 'model' is missing."),
        ({**SETTINGS, "modle": 1}, (), "parameters.json: unknown key 'modle'. Did you mean 'model'?"),
        (
            {**SETTINGS, "max_length": "long"},
            (),
            "parameters.json: 'max_length' is \"long\", a whole number belongs there.",
        ),
        ({**SETTINGS, "type_fine_tune": "dora"}, (), "type_fine_tune is 'dora'. Use one of: lora, qlora, full."),
        (SETTINGS, ("Discord",), "Discord: no known format. Did you mean 'DiscordChatExporter'?"),
        (SETTINGS, (), "preprocessor_data.DiscordChatExporter has no folder DiscordChatExporter beside it."),
        (
            {**SETTINGS, "preprocessor_data": {}},
            ("DiscordChatExporter",),
            "'preprocessor_data.DiscordChatExporter.username' is missing.",
        ),
        (
            {**SETTINGS, "preprocessor_data": {"DiscordChatExporter": {"username": "me", "name": "x"}}},
            ("DiscordChatExporter",),
            "unknown key 'preprocessor_data.DiscordChatExporter.name'. Did you mean 'username'?",
        ),
        ("{\n nope", (), "parameters.json:2: not JSON"),
        ("[1]", (), "parameters.json:1: a list where an object belongs."),
    ],
)
def test_what_selfchatbot_would_not_have_is_refused_by_name(raw, settings, formats, said):
    dataset(raw, settings=settings, formats=formats)
    assert any(said in line for line in failure(raw))


def test_missing_folders_and_files_are_refused(raw):
    assert failure(raw / "nowhere")[0].endswith("no such folder. Name the one that holds Dataset_… folders.")
    assert failure(raw) == ["RAW: no dataset chosen. It needs a folder Dataset_ID_Name."]
    (raw / "Dataset_1_x").mkdir()
    assert "parameters.json: not there." in failure(raw)[0]


def test_an_empty_format_folder_and_edited_nonsense_are_refused(raw, monkeypatch):
    where = dataset(raw)
    (where / "DiscordChatExporter" / "chat.txt").unlink()
    assert failure(raw) == ["Dataset_1_My_Chats/DiscordChatExporter: empty. Put the exported chats there."]
    (where / "DiscordChatExporter" / "chat.txt").write_text("hello", encoding="utf-8")
    dataset(raw / "made", settings={"epochs": "many"}, formats=())
    monkeypatch.setenv("selfChatBot_preprocessed", str(raw / "made"))
    assert failure(raw)[0].endswith("'epochs' is \"many\", no number. Mend it.")


def test_layers_that_were_named_for_training_are_kept_and_another_model_is_refused(raw, monkeypatch):
    dataset(raw)
    monkeypatch.setenv("selfChatBot_preprocessed", str(raw / "made"))
    written = {"model": SETTINGS["model"], "type_fine_tune": "lora", "target_modules": ["q_proj", "v_proj"]}
    where = dataset(raw / "made", settings=written, formats=())
    assert steps(selfchatbot(raw)[1])["voice"]["lora"]["targets"] == ["q_proj", "v_proj"]
    other = {"type_fine_tune": "full", "config": {"attention_dropout": 0.1}, "target_modules": ".*proj"}
    (where / "parameters.json").write_text(json.dumps(other), encoding="utf-8")
    said = [line.removeprefix("made/Dataset_1_My_Chats/parameters.json: ") for line in failure(raw)]
    assert said == [
        '\'type_fine_tune\' is "full", and "lora" in Dataset_1_My_Chats/parameters.json. Make them the same.',
        "'config' is not taken over: it makes another model. Save that model, and name its folder.",
        "'target_modules' is \".*proj\". Write a list of the layers' names.",
    ]
