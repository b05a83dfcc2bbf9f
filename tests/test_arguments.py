from __future__ import annotations

import json

import pytest

from runner import schema
from tests import arguments

NAMES = sorted(path.stem for path in arguments.FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_arguments_is_that_of_the_pinned_version(name: str) -> None:
    written = (arguments.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert written == arguments.text(arguments.configs()[name]), "run: python -m tests.arguments"


def test_arguments_are_typed_with_their_choices_and_without_secrets() -> None:
    held = json.loads((arguments.FOLDER / "sft.json").read_text(encoding="utf-8"))
    assert held["adam_beta2"]["type"] == "number" and held["packing_strategy"]["enum"] == [
        "bfd",
        "bfd_split",
        "wrapped",
    ]
    assert held["lr_scheduler_type"]["enum"][:2] == ["linear", "cosine"] and held["torch_compile"]["type"] == "boolean"
    assert not {"hub_token", "push_to_hub_token", "pad_token"} & set(held)


@pytest.mark.parametrize("name", NAMES)
def test_what_our_keys_set_are_real_fields_and_cannot_be_set_twice(name: str) -> None:
    field = schema.fragment("train", name)["properties"]["arguments"]
    known = {one.name for one in __import__("dataclasses").fields(arguments.configs()[name])}
    assert set(field["x-sets"]) <= known and not set(field["x-sets"]) & set(field["properties"])
