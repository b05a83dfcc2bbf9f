"""Dialogues of weights that are loaded here: the same with a seed whatever runs beside them, resumed, and never too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner import asking
from runner.files import Row, read_rows
from runner.step import Decoding, Input, Model, Out
from runner.steps.generate import dialogue
from tests.conftest import write_parts
from tests.server import Server
from tests.steps.generate.dialogues import MEMORY, STOP, pair, step

SAMPLED = Decoding("s", "sample", {"temperature": 1.0, "max_new_tokens": 12})


def run(folder: Path, names: list[str], model: Path, artifacts: str = "artifacts", **keys: Any) -> list[Row]:
    """The rows of a run in a folder of its own."""
    out = folder / f"out{len(list(folder.iterdir()))}"
    out.mkdir()
    rows = [pair(name) for name in names]
    inputs = (Input("pairs", write_parts(folder / f"pairs{out.name}", {"rows": rows})),)
    given = {"models": {"model": Model("m", {"load": str(model)})}, "decodings": {"decoding": SAMPLED}, **keys}
    dialogue.run(step(folder=folder / artifacts, inputs=inputs, **given), Out(out))
    return list(read_rows(out / "rows.jsonl"))


def turns(rows: list[Row]) -> dict[str, list[Row]]:
    return {row["id"]: row["turns"] for row in rows}


def test_a_dialogue_is_the_same_whatever_runs_beside_it(tmp_path: Path, tiny_model: Path) -> None:
    stop, names = {**STOP, "turns": 7}, ["a", "b", "c", "d", "e"]
    together = turns(run(tmp_path, names, tiny_model, stop=stop, memory=MEMORY))
    alone = turns(run(tmp_path, ["d"], tiny_model, artifacts="other", stop=stop, memory=MEMORY))
    assert alone == {"d": together["d"]}
    assert len({str(held) for held in together.values()}) == 5
    other = turns(run(tmp_path, ["d"], tiny_model, artifacts="other", stop=stop, memory=MEMORY, seed=1))
    assert other != alone


def test_answers_are_kept_for_the_next_run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is broken off in the middle of its dialogues; the next one begins with what was answered."""
    names, drive = ["a", "b", "c"], asking.drive
    undisturbed = run(tmp_path, names, tiny_model, artifacts="other", stop={"turns": 9})

    def broken(scripts: Any, speakers: Any, at_once: Any) -> Any:
        for speaker in set(speakers.values()):
            flush, left = speaker.flush, iter(range(3))

            def some(flush: Any = flush, left: Any = left) -> None:
                if next(left, None) is None:
                    raise KeyboardInterrupt
                flush()

            speaker.flush = some
        return drive(scripts, speakers, at_once)

    monkeypatch.setattr("runner.making.drive", broken)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, names, tiny_model, stop={"turns": 9})
    monkeypatch.undo()
    resumed = run(tmp_path, names, tiny_model, stop={"turns": 9})
    assert resumed == undisturbed


def test_a_talk_longer_than_the_context_goes_on_with_its_last_turns(tmp_path: Path, tiny_model: Path) -> None:
    long = Decoding("s", "sample", {"temperature": 1.0, "max_new_tokens": 60})
    (row,) = run(tmp_path, ["a"], tiny_model, decodings={"decoding": long}, stop={"turns": 13})
    assert len(row["turns"]) == 15
    assert row["ended"] == "turns"


def test_one_side_may_be_weights_and_the_other_an_endpoint(tmp_path: Path, tiny_model: Path) -> None:
    with Server(reply=lambda body: f"I hear {len(body['messages'])} messages.") as server:
        models = {
            "model.seeker": Model("here", {"load": str(tiny_model)}),
            "model.supporter": Model("there", {"endpoint": server.url, "model": "m"}),
        }
        (row,) = run(tmp_path, ["a"], tiny_model, models=models, stop={"turns": 6})
        assert server.requests == 4
    said = [turn["utterance"] for turn in row["turns"] if turn["speaker"] == "supporter"]
    assert said == ["I hear 2 messages.", "I hear 4 messages.", "I hear 6 messages.", "I hear 8 messages."]
