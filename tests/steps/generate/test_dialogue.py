"""The whole step against a loopback endpoint: every dialogue a row, none lost, none twice, the same bytes however it went."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DataError, ServiceError
from runner.files import Row, read_rows
from runner.step import Decoding, Input, Model, Out
from runner.steps.generate import dialogue
from tests.conftest import make_tokenizer, write_parts
from tests.server import Server
from tests.steps.generate.dialogues import MEMORY, STOP, pair, step

SAMPLED = Decoding("s", "sample", {"temperature": 1.0, "max_new_tokens": 9})


def reply(body: dict[str, Any]) -> str:
    """A talker, a chooser and a judge, by how they are asked; the same question with another seed has another answer."""
    asked = body["messages"][-1]["content"]
    number = sum(map(ord, json.dumps(body["messages"]))) + body.get("seed", 0)
    if asked.startswith("Which?"):
        return ["hobby", "family", "worry", "NONE"][number % 4]
    return str(number % 6) if asked.startswith("Mood") else f"So I say {number}."


class Runs:
    """Runs the step in one artifacts folder; `rows` and `rejected` are what the last run left."""

    def __init__(self, tmp_path: Path, url: str, count: int) -> None:
        self.tmp, self.model = tmp_path, Model("m", {"endpoint": url, "model": "m", "retries": 1})
        self.input = Input("pairs", write_parts(tmp_path / "pairs", {"rows": [pair(f"p{at}") for at in range(count)]}))
        self.runs = 0

    def __call__(self, **keys: Any) -> dict[str, Any]:
        self.runs += 1
        self.folder = self.tmp / f"out{self.runs}"
        self.folder.mkdir()
        keys = {"models": {"model": self.model}, "stop": STOP | {"scale": "0..5"}, "memory": MEMORY} | keys
        out = Out(self.folder)
        try:
            return dialogue.run(step(folder=self.tmp / "artifacts", inputs=(self.input,), **keys), out)
        finally:
            out.close()

    @property
    def rows(self) -> list[Row]:
        return list(read_rows(self.folder / "rows.jsonl"))

    @property
    def bytes(self) -> bytes:
        return (self.folder / "rows.jsonl").read_bytes()

    @property
    def rejected(self) -> list[str]:
        return [row["reason"] for row in read_rows(self.folder / "rejected.jsonl")]


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Runs]:
    return lambda server, count=4: Runs(tmp_path, server.url, count)


def test_a_row_holds_a_dialogue_with_all_that_belongs_to_it(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        facts = run()
    assert [row["id"] for row in run.rows] == [f"p{at}" for at in range(4)]
    for row in run.rows:
        assert list(row) == ["id", "seeker", "supporter", "turns", "transcript", "ended", "scores", "tokens", "cost"]
        assert len(row["turns"]) % 2 and 13 <= len(row["turns"]) <= 21
        assert [turn["turn"] for turn in row["turns"]] == list(range(len(row["turns"])))
        assert all(list(turn) == ["turn", "speaker", "aspect", "memory", "utterance"] for turn in row["turns"])
        assert row["transcript"].splitlines()[0] == "seeker: Hello"
        assert row["tokens"]["input"] > row["tokens"]["output"] > 0
    assert facts["metrics"]["dialogues"] == 4
    assert sum(count for _, count in facts["tables"][0]["rows"]) == 4
    assert facts["requests"] == server.requests == len(list(read_rows(run.folder / "side.jsonl")))
    provenance = list(read_rows(run.folder / "provenance.jsonl"))
    assert [one["id"] for one in provenance] == [f"p{at}" for at in range(4)]
    assert {answer["to"] for answer in provenance[0]["answers"]} == set(provenance[0]["models"])


def test_a_second_run_asks_nothing_again_and_writes_the_same_bytes(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        run(decodings={"decoding": SAMPLED})
        first, asked = run.bytes, server.requests
        run(decodings={"decoding": SAMPLED})
    assert (run.bytes, server.requests) == (first, asked)


def test_what_will_be_asked_is_told_before_and_nothing_where_the_cache_holds_it(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server, 3)
        run()
        before = (run.folder / "step.log").read_text(encoding="utf-8").splitlines()[0]
        asked = server.requests
        run()
        after = (run.folder / "step.log").read_text(encoding="utf-8").splitlines()[0]
    found = re.match(r"3 rows: (\d+) questions", before)
    assert found and asked <= int(found[1]) <= 2 * asked
    assert after == f"3 rows, {asked} answers in the cache, nothing to ask"


def test_dialogues_are_the_same_whatever_runs_beside_them(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        run(decodings={"decoding": SAMPLED})
        all_of_them = {row["id"]: row for row in run.rows}
        run.input = Input("pairs", write_parts(run.tmp / "fewer", {"rows": [pair("p3"), pair("p1")]}))
        asked = server.requests
        run(decodings={"decoding": SAMPLED})
        assert run.rows == [all_of_them["p3"], all_of_them["p1"]]
        assert server.requests == asked
        run(decodings={"decoding": SAMPLED}, seed=1)
        assert [row["turns"] for row in run.rows] != [all_of_them["p3"]["turns"], all_of_them["p1"]["turns"]]


def test_the_same_pair_twice_has_two_dialogues_that_differ(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        run.input = Input("pairs", write_parts(run.tmp / "twice", {"rows": [pair("p"), pair("p")]}))
        run(decodings={"decoding": SAMPLED})
    assert [row["id"] for row in run.rows] == ["p", "p/2"]
    assert run.rows[0]["turns"] != run.rows[1]["turns"]


def test_either_side_may_have_a_model_and_a_decoding_of_its_own(runs: Callable[..., Runs]) -> None:
    with Server(reply=lambda body: f"From {body['model']} {body['max_tokens']}") as server:
        run = runs(server, 1)
        models = {
            f"model.{role}": Model(role, {"endpoint": server.url, "model": name, "price": {"input": 2, "output": 8}})
            for role, name in (("seeker", "sick"), ("supporter", "kind"))
        }
        how = {
            f"decoding.{role}": Decoding(role, "greedy", {"max_new_tokens": most})
            for role, most in (("seeker", 5), ("supporter", 7))
        }
        run(models=models, decodings=how, model={}, decoding={}, memory=None, stop={"turns": 3})
    (row,) = run.rows
    assert [turn["utterance"] for turn in row["turns"]] == [
        "Hello",
        "From kind 7",
        "From sick 5",
        "From kind 7",
        "From sick 5",
    ]
    assert row["cost"] == pytest.approx((row["tokens"]["input"] * 2 + row["tokens"]["output"] * 8) / 1e6)
    provenance = next(read_rows(run.folder / "provenance.jsonl"))
    assert provenance["models"] == {"seeker": "sick", "supporter": "kind"}


def test_the_judge_and_the_chooser_may_be_others(runs: Callable[..., Runs]) -> None:
    with Server(reply=lambda body: {"judge": "5", "chooser": "hobby"}.get(body["model"], "Well then.")) as server:
        run = runs(server, 1)
        models = {
            path: Model(name, {"endpoint": server.url, "model": name})
            for path, name in (("model", "m"), ("stop.model", "judge"), ("memory.model", "chooser"))
        }
        short = Decoding("short", "greedy", {"max_new_tokens": 3})
        run(models=models, decodings={"decoding": SAMPLED, "stop.decoding": short})
    (row,) = run.rows
    assert (len(row["turns"]), row["ended"], row["turns"][1]["aspect"]) == (13, "score", "hobby")
    judged = [body for body in server.bodies if body["model"] == "judge"]
    assert len(judged) == 5
    assert {body["max_tokens"] for body in judged} == {3}


def test_a_turn_without_an_answer_fails_the_dialogue_alone_and_the_next_run_goes_on_where_it_stood(
    runs: Callable[..., Runs],
) -> None:
    broken = {"on": True}

    def refuse(body: dict[str, Any], key: str) -> tuple[int, str] | None:
        deep = len(body["messages"]) > 6 and "p3 " in body["messages"][0]["content"]
        return (500, "out of order") if broken["on"] and deep else None

    named = {"prompt": {"system": "{{ id }} {{ me.statement }}"}}
    with Server(reply=reply, refuse=refuse) as server:
        run = runs(server)
        run.model.entry["retries"] = 0
        with pytest.raises(ServiceError, match="talks: 1 of 4 have no answer"):
            run(prompts=named)
        assert not (run.folder / "rows.jsonl").exists()
        broken["on"], asked = False, server.requests
        run(prompts=named)
        resumed, paid = run.bytes, server.requests - asked
    with Server(reply=reply) as other:
        undisturbed = Runs(run.tmp / "other", other.url, 4)
        undisturbed(prompts=named)
    assert resumed == undisturbed.bytes
    assert paid < other.requests / 4
    assert len(run.rows) == 4


def test_what_an_endpoint_refuses_for_good_is_rejected_with_the_reason(runs: Callable[..., Runs]) -> None:
    def refuse(body: dict[str, Any], key: str) -> tuple[int, str] | None:
        return (400, "not this one") if "p3 " in body["messages"][0]["content"] else None

    with Server(reply=reply, refuse=refuse) as server:
        run = runs(server)
        run(prompts={"prompt": {"system": "{{ id }} {{ me.statement }}"}}, memory=None, stop={"turns": 5})
    assert [row["id"] for row in run.rows] == ["p0", "p1", "p2"]
    assert run.rejected == ["the endpoint refuses a question"]


def test_a_talk_longer_than_the_endpoint_can_read_goes_on_without_its_oldest_turns(runs: Callable[..., Runs]) -> None:
    def refuse(body: dict[str, Any], key: str) -> tuple[int, str] | None:
        long = len(body["messages"]) > 6
        return (400, "This model's maximum context length is 60 tokens, and yours are 61.") if long else None

    with Server(reply=reply, refuse=refuse) as server:
        run = runs(server, 3)
        facts = run(stop={"turns": 15}, memory=None)
    assert [len(row["turns"]) for row in run.rows] == [17, 17, 17]
    assert facts["metrics"]["turns told no more"] > 0
    assert max(len(body["messages"]) for body in server.bodies) == 8


def test_faults_lose_no_dialogue_and_change_none(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server, 6)
        run()
        good = run.bytes
    with Server(reply=reply, faults=("429", "500", "reset", "half"), share=0.15, later=0.01) as server:
        again = Runs(run.tmp / "faults", server.url, 6)
        again.model.entry["retries"] = 8
        again()
    assert again.bytes == good


def test_pairs_that_make_no_dialogue_are_rejected_before_they_cost_anything(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        mute = pair("mute")
        mute["seeker"] = {**mute["seeker"], "aspects": {"hobby": "You row."}}
        run.input = Input("pairs", write_parts(run.tmp / "mute", {"rows": [pair("p"), mute]}))
        run(memory={**MEMORY, "first": {"seeker": "worry"}}, stop={"turns": 5})
    assert [row["id"] for row in run.rows] == ["p"]
    assert run.rejected == ["seeker has no memory 'worry'"]


def test_a_row_without_a_person_is_an_error_that_names_it(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        run.input = Input("pairs", write_parts(run.tmp / "less", {"rows": [{"id": "p", "seeker": {}}]}))
        with pytest.raises(DataError, match="p: no column 'supporter', which between: names"):
            run()
        run.input = Input("pairs", write_parts(run.tmp / "none", {"rows": []}))
        with pytest.raises(DataError, match="there are no pairs"):
            run()
    assert server.requests == 0


def test_a_split_of_pairs_stays_one(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server)
        parts = {"train": [pair("a"), pair("b")], "test": [pair("c")]}
        run.input = Input("pairs", write_parts(run.tmp / "parts", parts))
        run(stop={"turns": 3}, limit=1)
    held = {part: [row["id"] for row in read_rows(run.folder / f"{part}.jsonl")] for part in parts}
    assert held == {"train": ["a"], "test": ["c"]}


def test_shares_of_the_pairs_put_together_are_the_whole(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server, 4)
        run()
        whole = run.bytes
        folders = []
        for share in (1, 2, 3):
            run(shard=(share, 3))
            folders.append(run.folder)
        facts = run(joins=tuple(folders))
    assert run.bytes == whole
    assert facts["metrics"]["dialogues"] == 4


def test_a_budget_ends_it_cleanly_and_the_next_run_goes_on(runs: Callable[..., Runs]) -> None:
    with Server(reply=reply) as server:
        run = runs(server, 3)
        while run.runs < 9:
            try:
                run(budget={"requests": 30})
                break
            except ServiceError as error:
                assert "budget" in str(error)
        assert len(run.rows) == 3
        asked = server.requests
        again = Runs(run.tmp / "again", server.url, 3)
        again()
    assert server.requests == 2 * asked > 90
    assert again.bytes == run.bytes


@pytest.fixture(scope="module")
def chooser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer encoder with one output, as if trained to score pairs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder, held = tmp_path_factory.mktemp("chooser"), make_tokenizer()
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(
        **sizes, vocab_size=len(held), num_labels=1, pad_token_id=held.pad_token_id, initializer_range=0.5
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


def test_a_trained_model_chooses_the_memory_that_it_scores_highest(runs: Callable[..., Runs], chooser: Path) -> None:
    from runner import scorers

    scorer = Model("chooser", {"load": str(chooser)})
    memory = {
        "of": "aspects",
        "best_by": "chooser",
        "opener": False,
        "leave_out": ["extra"],
        "history": "{{ utterance }} | ",
    }
    with Server(reply=reply) as server:
        run = runs(server, 2)
        run(models={"model": run.model, "memory.best_by": scorer}, memory=memory, stop={"turns": 6})
    loaded = scorers.load(scorer, run.tmp / "artifacts")
    for row in run.rows:
        for at, turn in enumerate(row["turns"][1:6], 1):
            told = "".join(f"{one['utterance']} | " for one in row["turns"][1:at])
            held = {name: text for name, text in row[turn["speaker"]]["aspects"].items() if name != "extra"}
            scores = [one.popitem()[1] for one in loaded.scores([told] * 3, list(held.values()))]
            assert turn["memory"] == list(held.values())[scores.index(max(scores))]
