"""Entries of `chat:` that speak through an endpoint, in the terminal and as an API that `make serve` starts, and a
scorer trained here that chooses who answers. The endpoint is a server on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import openai
import pytest
from click.testing import CliRunner, Result

from runner import chatting, scorers, talk
from runner import plan as planning
from runner import recipe as recipes
from runner.cli import main
from runner.errors import MachineError
from runner.specs import model_of
from tests.server import Body, Server
from tests.steps.train.classifier_steps import backbone
from tests.test_makefile import OF_OUTER_MAKE

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """\
recipe: 1
models:
  away: {endpoint: "URL", model: some-model, api_key_env: AWAY_KEY, retries: 0, timeout: 20}
  encoder: {load: "BERT"}
decoding: {talk: {mode: sample, temperature: 0.7, max_new_tokens: 12}}
prompts:
  holmes: {system: You are Holmes.}
  me: {system: "{{ supporter.statement }}"}
steps:
  people: {preprocess: table, folder: datasets/people}
  pairs: {preprocess: table, folder: datasets/pairs}
  judge: {train: classifier, from: pairs, model: encoder, predict: number, epochs: 2, batch: 4, learning_rate: 0.01}
chat:
  holmes: {model: away, decoding: talk, prompt: holmes}
  helper:
    model: away
    decoding: talk
    prompt: me
    person: {from: people, as: supporter, label: name, best_by: judge, column: statement}
"""
PEOPLE = {"ada": "You play chess.", "bo": "You keep bees.", "cy": "You sail at weekends."}
HELLO: Any = [{"role": "user", "content": "Who was it?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with its people and its scorer made."""
    made = tmp_path_factory.mktemp("away")
    bert = backbone(tmp_path_factory.mktemp("bert"))
    for name in ("people", "pairs"):
        (made / "datasets" / name).mkdir(parents=True)
        (made / "datasets" / name / "README.md").write_text("Made up.\n", encoding="utf-8")
    people = [{"id": name, "name": name.title(), "statement": told} for name, told in PEOPLE.items()]
    pairs = [
        {"text": f"I like {told.split()[-1]}", "text_pair": other, "label": float(told == other)}
        for told in PEOPLE.values()
        for other in PEOPLE.values()
    ]
    for name, rows in (("people", people), ("pairs", pairs * 3)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (made / "datasets" / name / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (made / "recipes").mkdir()
    shutil.copy(ROOT / "Makefile", made)
    write(made, "http://127.0.0.1:9/v1", bert)
    done = run(made, "run", "away")
    assert done.exit_code == 0, done.stderr
    return made


def write(folder: Path, url: str, bert: Path | str | None = None) -> None:
    path = folder / "recipes" / "away.yaml"
    held = bert or json.loads(path.read_text(encoding="utf-8").split("encoder: {load: ")[1].split("}")[0])
    path.write_text(RECIPE.replace("URL", url).replace('"BERT"', json.dumps(str(held))), encoding="utf-8")


@contextmanager
def inside(folder: Path, **more: str) -> Iterator[None]:
    with chdir(folder), mock.patch.dict(os.environ, {"ARTIFACTS": str(folder / "artifacts"), "AWAY_KEY": "k", **more}):
        os.environ.pop("DATASETS", None)
        yield


def run(folder: Path, *words: str, typed: str = "", **more: str) -> Result:
    with inside(folder, **more):
        return CliRunner().invoke(main, list(words), input=typed, catch_exceptions=False)


def systems(server: Server) -> list[str]:
    return [body["messages"][0]["content"] for body in server.bodies]


def test_a_talk_in_the_terminal_goes_through_the_endpoint_turn_by_turn(folder: Path) -> None:
    with Server() as server:
        write(folder, server.url)
        said = run(folder, "chat", "away", typed="Who was it?\nAnd then?\n")
    assert said.exit_code == 0 and said.stdout.count("Reply ") == 2
    first, second = server.bodies
    assert first["model"] == "some-model" and first["stream"] and first["max_tokens"] == 12
    assert first["messages"] == [{"role": "system", "content": "You are Holmes."}, *HELLO]
    assert [one["role"] for one in second["messages"]] == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] in said.stdout and set(server.keys) == {"k"}


def test_an_endpoint_that_fails_is_one_line_and_the_talk_goes_on(folder: Path) -> None:
    down = {"down"}

    def refuse(body: Body, key: str) -> tuple[int, str] | None:
        return (400, "out of order") if down else None

    with Server(refuse=refuse) as server:
        write(folder, server.url)
        once = run(folder, "chat", "away", "--text", "Hello")
        with inside(folder):
            cast = chatting.Cast(planning.make(recipes.load(recipes.find("away"))), lambda line: None)
            waiting = ["Hello", "Hello again"]
            heard: list[str] = []

            def read() -> str:
                if not waiting:
                    raise EOFError
                if len(waiting) == 1:
                    down.clear()
                return waiting.pop(0)

            session = talk.Session(cast, "holmes", read, heard.append)
            session.run()
    assert once.exit_code == 4 and once.stderr.count("\n") == 1 and "models.away: " in once.stderr
    assert "".join(heard).startswith("(models.away: ") and "Reply " in "".join(heard)
    assert session.talk and session.talk.turns[0].content == "Hello again"


def test_a_key_that_is_missing_is_said_before_anything_is_typed(folder: Path) -> None:
    with Server() as server:
        write(folder, server.url)
        said = run(folder, "chat", "away", "--text", "Hello", AWAY_KEY="")
    assert said.exit_code == MachineError.exit_code and "AWAY_KEY" in said.stderr and not server.bodies


def test_the_scorer_that_was_trained_chooses_who_suits_the_first_words(folder: Path) -> None:
    with Server() as server:
        write(folder, server.url)
        with inside(folder):
            plan = planning.make(recipes.load(recipes.find("away")))
            judge = next(use for one in plan.recipe.chats.values() for use in one.node.models.get("person.best_by", ()))
            scorer = scorers.load(model_of(plan.specs.model(judge), plan.root), plan.root)
            asked = "I like bees."
            told = scorer.scores([asked] * 3, list(PEOPLE.values()))
        said = run(folder, "chat", "away", "-C", "helper", typed=f"{asked}\n")
    best = max(zip((one["number"] for one in told), PEOPLE, strict=True))[1]
    assert f"({best.title()} answers.)" in said.stdout
    assert systems(server) == [PEOPLE[best]]


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[openai.OpenAI, Server]]:
    """`make serve`, ended by Ctrl-C as a terminal sends it: to make and all that it has started."""
    own = {name: value for name, value in os.environ.items() if name not in OF_OUTER_MAKE}
    own |= {"PERSONA_PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "AWAY_KEY": "k"}
    command = ["make", "serve", "R=away", "PORT=0"]
    with Server() as server:
        write(folder, server.url)
        with subprocess.Popen(
            command, cwd=folder, env=own, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as made:
            lines = []
            try:
                for line in made.stderr or ():
                    lines.append(line)
                    if " is the page, " in line:
                        address = line.split(" is the page, ")[0]
                        with openai.OpenAI(base_url=f"{address}v1", api_key="x", max_retries=0, timeout=60) as client:
                            yield client, server
                        break
            finally:
                os.killpg(made.pid, signal.SIGINT)
                rest = made.stderr.read() if made.stderr else ""
    assert "Traceback" not in rest and " is the page, " in "".join(lines), "".join([*lines, rest])


def test_make_serve_offers_the_entries_and_streams_what_the_endpoint_says(served: tuple[openai.OpenAI, Server]) -> None:
    client, server = served
    assert [model.id for model in client.models.list()] == ["holmes", "helper"]
    whole = client.chat.completions.create(model="holmes", messages=HELLO, seed=3)
    pieces = list(client.chat.completions.create(model="holmes", messages=HELLO, seed=3, stream=True))
    text = "".join(one.choices[0].delta.content or "" for one in pieces)
    assert text == whole.choices[0].message.content and text.startswith("Reply ") and len(pieces) > 4
    assert server.bodies[-1]["messages"][0]["content"] == "You are Holmes."


def test_make_serve_lets_the_person_be_chosen_by_name(served: tuple[openai.OpenAI, Server]) -> None:
    client, server = served
    client.chat.completions.create(model="helper", messages=HELLO, extra_body={"person": "bo"})
    assert systems(server)[-1] == PEOPLE["bo"]


def test_an_endpoint_that_fails_is_a_bad_gateway_and_the_server_stays_up(served: tuple[openai.OpenAI, Server]) -> None:
    client, server = served
    with mock.patch.object(server, "refuse", mock.Mock(return_value=(400, "out of order"))):
        with pytest.raises(openai.APIStatusError, match=r"models\.away") as failed:
            client.chat.completions.create(model="holmes", messages=HELLO)
        assert failed.value.status_code == 502
    assert client.chat.completions.create(model="holmes", messages=HELLO).choices[0].message.content
