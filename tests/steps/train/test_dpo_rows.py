from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DataError, StepError
from runner.models import load_tokenizer
from runner.steps.train import _pairs
from tests.steps.train.dpo_steps import make, pairs, run

ASK = {"role": "user", "content": "Any news?"}
GOOD, BAD = {"role": "assistant", "content": "Observe."}, {"role": "assistant", "content": "None."}
WRITTEN = {
    "prompt_ids": "<|im_start|>user\nAny news?<|im_end|>\n<|im_start|>assistant\n",
    "chosen_ids": "Observe.<|im_end|>",
    "rejected_ids": "None.<|im_end|>",
}


def texts(tiny_model: Path, folder: Path, row: dict[str, Any], **keys: Any) -> list[dict[str, str]]:
    step = make(folder, tiny_model, {"rows": [row]}, **keys)
    tokenizer = load_tokenizer(step.models["model"][0], folder)
    made = _pairs.pairs(step, tokenizer, None)
    return [{name: tokenizer.decode(ids) for name, ids in pair.items()} for pair in made]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASK], "chosen": "Observe.", "rejected": "None."},
        {"prompt": "Any news?", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Any news?", "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"prompt": [ASK], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"prompt": [], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    ],
    ids=[
        "messages",
        "texts for answers",
        "a text for the prompt",
        "the prompt twice",
        "as messages",
        "only in answers",
    ],
)
def test_messages_are_written_by_the_template_however_they_come(
    tiny_model: Path, tmp_path: Path, row: dict[str, Any]
) -> None:
    assert texts(tiny_model, tmp_path, row) == [WRITTEN]


def test_three_texts_are_learned_as_they_stand(tiny_model: Path, bare_model: Path, tmp_path: Path) -> None:
    row = {"prompt": "The mud is", "chosen": " fresh.", "rejected": " old.<|im_end|>"}
    wanted = {"prompt_ids": "The mud is", "chosen_ids": " fresh.<|im_end|>", "rejected_ids": " old.<|im_end|>"}
    assert texts(tiny_model, tmp_path / "1", row) == [wanted]
    assert texts(bare_model, tmp_path / "2", row) == [wanted]


def test_answers_that_begin_alike_are_learned_whole(tiny_model: Path, tmp_path: Path) -> None:
    row = {"prompt": [ASK], "chosen": "Observe the mud.", "rejected": "Observe the hat."}
    [made] = texts(tiny_model, tmp_path, row)
    assert (made["chosen_ids"], made["rejected_ids"]) == ("Observe the mud.<|im_end|>", "Observe the hat.<|im_end|>")
    row = {"prompt": "Observe", "chosen": " the mud", "rejected": " the hat"}
    [made] = texts(tiny_model, tmp_path / "2", row)
    assert (made["chosen_ids"], made["rejected_ids"]) == (" the mud<|im_end|>", " the hat<|im_end|>")


def test_a_text_cut_within_a_word_asks_for_what_chat_would_ask(tiny_model: Path, tmp_path: Path) -> None:
    """The tokens of the prompt are those of the prompt alone, though it and the answer make longer ones together."""
    [made] = texts(tiny_model, tmp_path, {"prompt": "Obs", "chosen": "erve", "rejected": "cure"})
    assert made == {"prompt_ids": "Obs", "chosen_ids": "erve<|im_end|>", "rejected_ids": "cure<|im_end|>"}


LONG = [ASK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "And the letter on the table? " * 3}]


def test_a_long_prompt_loses_its_start_and_no_answer_a_word(tiny_model: Path, tmp_path: Path) -> None:
    system = {"role": "system", "content": "You are Holmes."}
    row = {"prompt": [system, *LONG], "chosen": "Observe.", "rejected": "Good morning, Watson. Good morning!"}
    for length in (90, 70, 50):
        [made] = texts(tiny_model, tmp_path / str(length), row, max_length=length)
        assert made["chosen_ids"] == "Observe.<|im_end|>"
        assert made["rejected_ids"] == "Good morning, Watson. Good morning!<|im_end|>"
        assert "You are Holmes." in made["prompt_ids"] and "Any news?" not in made["prompt_ids"]
        assert made["prompt_ids"].endswith("<|im_start|>assistant\n")
    assert texts(tiny_model, tmp_path / "drop", row, max_length=70, too_long="drop") == []
    assert texts(tiny_model, tmp_path / "none", row, max_length=20) == []


def test_a_long_text_loses_its_start(tiny_model: Path, tmp_path: Path) -> None:
    row = {"prompt": "The rain has not stopped since Tuesday. " * 5, "chosen": "Yes.", "rejected": "No."}
    [made] = texts(tiny_model, tmp_path, row, max_length=16)
    assert ("The rain has not stopped since Tuesday. " * 5).endswith(made["prompt_ids"]) and made["prompt_ids"]
    assert (made["chosen_ids"], made["rejected_ids"]) == ("Yes.<|im_end|>", "No.<|im_end|>")
    assert texts(tiny_model, tmp_path / "2", row | {"chosen": "Yes, my dear Watson! " * 3}, max_length=16) == []


def test_every_pair_that_is_left_out_says_why(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"source": "a:1", "prompt": [ASK], "chosen": "Observe.", "rejected": "Observe."},
        {"source": "a:2", "prompt": [ASK], "chosen": "Observe.", "rejected": " "},
        {"source": "a:3", "prompt": "", "chosen": "Observe.", "rejected": "No."},
        {"source": "a:4", "prompt": [ASK], "chosen": "Observe. " * 90, "rejected": "No."},
    ]
    step = make(tmp_path, tiny_model, {"rows": [*rows, *pairs(4)]}, max_steps=1, max_length=100)
    _, folder = run(step, tmp_path / "out")
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(one["source"], one["reason"]) for one in lines] == [
        ("a:1", "both answers are the same"),
        ("a:2", "an answer is empty"),
        ("a:3", "the prompt is empty"),
        ("a:4", "an answer alone is longer than 100 tokens"),
    ]


def test_no_pair_at_all_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    same = [{**row, "rejected": row["chosen"]} for row in pairs(3)]
    with pytest.raises(StepError, match=r"no pair of the train part can be learned from. See rejected.jsonl"):
        run(make(tmp_path, tiny_model, {"train": same}), tmp_path / "out")
    with pytest.raises(StepError, match="no pair of the validation part"):
        run(make(tmp_path / "2", tiny_model, {"train": pairs(4), "validation": same}), tmp_path / "2/out")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt must be a text or a list of {role, content}"),
        ({"prompt": [ASK], "chosen": "a"}, "rejected must be a text or a list"),
        ({"prompt": [ASK], "chosen": {"a": 1}, "rejected": "b"}, "chosen must be a text or a list"),
        ({"prompt": [ASK], "chosen": [ASK], "rejected": [BAD]}, "must end in an answer of the assistant"),
        ({"prompt": [ASK], "chosen": [ASK, GOOD], "rejected": [BAD]}, "and differ in that alone"),
        ({"prompt": [], "chosen": [GOOD], "rejected": [BAD]}, "its prompt is empty"),
        ({"prompt": [ASK], "chosen": [], "rejected": [BAD]}, "must end in an answer of the assistant"),
        ({"prompt": [{"role": "judge", "content": "x"}], "chosen": [GOOD], "rejected": [BAD]}, "prompt must be a text"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_a_row_of_another_shape_is_one_line_that_names_it(
    tiny_model: Path, tmp_path: Path, row: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError) as error:
        texts(tiny_model, tmp_path, {"source": "room.json:7", **row})
    [line] = error.value.lines
    assert line.startswith("room.json:7: ") and told in line and line.endswith("Mend the row, or drop it before.")
