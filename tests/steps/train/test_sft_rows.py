"""What is learned of a row: its turns, its last answer, its completion or its text; never its prefill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner import chat, recipe
from runner.errors import DataError, StepError
from runner.step import Out
from runner.steps.train import _lessons, sft
from tests.conftest import talks
from tests.steps.train.sft_steps import make, run

END = "<|im_end|>"
QUESTION = {"role": "user", "content": "Has the letter come?"}
ANSWER = {"role": "assistant", "content": "Yes. Observe the mud."}
LONG = "The rain has not stopped since Tuesday. " * 40


def lessons(folder: Path, model: Path, rows: Any, **keys: Any) -> tuple[list[list[tuple[str, bool]]], list[str]]:
    """The examples of rows as pieces, and the reasons of those that are left out."""
    step = make(folder, model, {"rows": rows}, **keys)
    folder.mkdir(exist_ok=True)
    out = Out(folder)
    tokenizer = _lessons.load_tokenizer(step)
    made = [chat.pieces(tokenizer, one) for one in _lessons.examples(step, tokenizer, None, out)]
    out.close()
    path = folder / "rejected.jsonl"
    lost = [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []
    return made, lost


def learned(folder: Path, model: Path, row: Any, **keys: Any) -> list[str]:
    [made], lost = lessons(folder, model, [row], **keys)
    assert not lost
    return [text for text, kept in made if kept]


def test_turns_are_learned_or_the_last_of_them_or_all(tiny_model: Path, tmp_path: Path) -> None:
    row = {"messages": [QUESTION, ANSWER, QUESTION, {"role": "assistant", "content": "Elementary!"}]}
    assert learned(tmp_path, tiny_model, row) == [f"Yes. Observe the mud.{END}", f"Elementary!{END}"]
    assert learned(tmp_path, tiny_model, row, loss="completion") == [f"Elementary!{END}"]
    [whole] = learned(tmp_path, tiny_model, row, loss="all")
    assert whole.startswith("<|im_start|>user\nHas the") and whole.endswith(f"Elementary!{END}\n")


@pytest.mark.parametrize("loss", ["assistant", "completion", "all"])
def test_the_prefill_of_a_row_is_never_learned(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    row = {"prefill": "[INFO-mud]", "messages": [QUESTION, {"role": "assistant", "content": "[INFO-mud] Look!"}]}
    assert learned(tmp_path, tiny_model, row, loss=loss)[-1].startswith(f" Look!{END}")
    assert "INFO" not in "".join(learned(tmp_path, tiny_model, row, loss=loss))


def test_a_completion_is_learned_and_its_prompt_is_not(tiny_model: Path, tmp_path: Path) -> None:
    said = {"prompt": [QUESTION], "completion": [ANSWER]}
    assert learned(tmp_path, tiny_model, said) == [f"Yes. Observe the mud.{END}"]
    begun = {
        "prompt": [QUESTION, {"role": "assistant", "content": "Yes."}],
        "completion": [{**ANSWER, "content": " No."}],
    }
    assert learned(tmp_path, tiny_model, begun) == [f" No.{END}"]
    text = {"prompt": "The rain has", "completion": " not stopped."}
    [made], _ = lessons(tmp_path, tiny_model, [text])
    assert made == [("The rain has", False), (f" not stopped.{END}", True)]
    assert learned(tmp_path, tiny_model, text, loss="all") == [f"The rain has not stopped.{END}"]


def test_a_completion_begins_where_its_prompt_ends_and_not_within_a_token(tiny_model: Path, tmp_path: Path) -> None:
    [made], _ = lessons(tmp_path, tiny_model, [{"prompt": "Elem", "completion": "entary"}])
    assert made == [("Elem", False), (f"entary{END}", True)]


def test_plain_text_is_learned_whole_without_a_template(tiny_model: Path, tmp_path: Path) -> None:
    assert learned(tmp_path, tiny_model, {"text": "The rain has not stopped."}) == [f"The rain has not stopped.{END}"]
    assert learned(tmp_path, tiny_model, {"text": "Rain."}, loss="all") == [f"Rain.{END}"]


@pytest.mark.parametrize(
    ("row", "loss"), [({"text": "Rain."}, "completion"), ({"prompt": "a", "completion": "b"}, "assistant")]
)
def test_a_loss_that_text_has_no_place_for_is_an_error(tiny_model: Path, tmp_path: Path, row: Any, loss: str) -> None:
    with pytest.raises(StepError, match="voice: loss: rows of plain text have no turns"):
        lessons(tmp_path, tiny_model, [row], loss=loss)


@pytest.mark.parametrize(
    "row", [{"id": "7", "prompt": "a", "completion": [ANSWER]}, {"id": "7", "text": 3}, {"id": "7"}]
)
def test_a_row_of_no_known_shape_is_named(tiny_model: Path, tmp_path: Path, row: Any) -> None:
    with pytest.raises(DataError, match="7: needs messages, or prompt and completion"):
        lessons(tmp_path, tiny_model, [row])


def test_a_template_of_tags_is_what_is_learned_and_kept(tiny_model: Path, tmp_path: Path) -> None:
    tags = {"user": "<SEEKER>", "assistant": "<SUPPORTER>", "system": "", "after": "", "end": "answers"}
    row = {"messages": [QUESTION, ANSWER]}
    [made], _ = lessons(tmp_path, tiny_model, [row], template=tags)
    assert made == [("<SEEKER>Has the letter come?<SUPPORTER>", False), (f"Yes. Observe the mud.{END}", True)]
    _, folder = run(make(tmp_path, tiny_model, template=tags, max_steps=1), tmp_path / "out")
    assert "<SUPPORTER>" in (folder / "best" / "chat_template.jinja").read_text()


def test_too_long_text_is_split_dropped_or_loses_the_start_of_its_prompt(tiny_model: Path, tmp_path: Path) -> None:
    keys = {"max_length": 64}
    made, lost = lessons(tmp_path / "1", tiny_model, [{"text": LONG}], **keys)
    assert "".join(text for one in made for text, _ in one) == LONG + END and not lost
    for at, too_long in enumerate(("drop", "cut"), 2):
        assert lessons(tmp_path / str(at), tiny_model, [{"text": LONG}], too_long=too_long, **keys) == (
            [],
            ["longer than 64 tokens"],
        )
    pair = {"prompt": LONG, "completion": " So it goes."}
    for at, too_long in enumerate(("split", "cut"), 4):
        [one], lost = lessons(tmp_path / str(at), tiny_model, [pair], too_long=too_long, **keys)
        assert one[-1] == (f" So it goes.{END}", True) and LONG.endswith(one[0][0]) and not lost
    assert lessons(tmp_path / "6", tiny_model, [pair], too_long="drop", **keys)[1] == ["longer than 64 tokens"]
    huge = {"prompt": "Well.", "completion": LONG}
    assert lessons(tmp_path / "7", tiny_model, [huge], too_long="cut", **keys)[1] == ["longer than 64 tokens"]


def test_where_the_last_answer_alone_is_learned_a_long_talk_is_one_example(tiny_model: Path, tmp_path: Path) -> None:
    row = {"messages": [QUESTION, ANSWER] * 12}
    split, _ = lessons(tmp_path, tiny_model, [row], max_length=100)
    [cut], lost = lessons(tmp_path, tiny_model, [row], max_length=100, loss="completion")
    assert len(split) > 2 and not lost and [kept for _, kept in cut] == [False, True, False]


def test_a_row_is_never_longer_than_the_model_reads(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"messages": [QUESTION, ANSWER] * 30}]
    facts, folder = run(make(tmp_path, tiny_model, {"rows": rows}, max_length=4096, max_steps=1), tmp_path / "out")
    assert "the model reads 512 tokens: max_length is 512, not 4096" in (folder / "step.log").read_text()
    assert facts["metrics"]["updates"] == 1


def test_all_of_it_trains(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"text": "The rain has not stopped since Tuesday."},
        {"prompt": "Good", "completion": " morning"},
        *talks(4),
    ]
    facts, _ = run(make(tmp_path, tiny_model, {"rows": rows}, epochs=8), tmp_path / "out")
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1] - 0.1
    assert sft.show(make(tmp_path, tiny_model, {"rows": rows}), 1)["samples"][0][-1] == (
        f"The rain has not stopped since Tuesday.{END}",
        True,
    )


PLAIN = """\
recipe: 1
models: {base: smollm2-135m}
prompts: {me: {user: "{{ text }}", assistant: "{{ text }}"}}
steps:
  texts: {preprocess: table, folder: texts}
  lessons: {preprocess: examples, from: texts, prompt: me}
  voice: {train: sft, model: base, FROM}
"""


@pytest.mark.parametrize(
    ("keys", "warns"),
    [
        ("from: texts", True),
        ("from: lessons", False),
        ("from: texts, loss: all", False),
        ("from: texts, columns: {text: source}", False),
        ("from: texts, columns: {prompt: id, completion: text}", False),
    ],
)
def test_texts_that_no_step_has_made_conversations_of_are_learned_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str, warns: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.csv").write_text("text\nObserve.\n", encoding="utf-8")
    path = tmp_path / "made.yaml"
    path.write_text(PLAIN.replace("FROM", keys), encoding="utf-8")
    found = recipe.check(path)
    assert not [str(one) for one in found if not one.warning]
    assert [one.message for one in found if "as it stands" in one.message] == [
        "steps.voice: learns column 'text' of 'texts' as it stands, for want of 'messages' or 'prompt and completion'. "
        "Put a step such as conversations or examples before it; if it is meant, say loss: all."
    ] * warns
