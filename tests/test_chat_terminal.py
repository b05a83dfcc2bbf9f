"""`chat` in a terminal and through a pipe, on a real tiny model."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest import mock

import pexpect
import pytest
from click.testing import CliRunner, Result

from runner.cli import main
from tests import project

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """\
recipe: 1
models:
  base: {load: "%s"}
decoding:
  talk: {mode: sample, max_new_tokens: 12}
  forever: {mode: sample, top_k: 50, max_new_tokens: 90000}
prompts:
  persona: {system: You are Holmes.}
  asked: {system: "You are {{ who }}.", user: "They say: {{ text }}"}
steps:
  chats: {preprocess: discord, folder: datasets/chat, speaker: holmes}
  turns: {preprocess: conversations, from: chats, prompt: persona}
  parts: {preprocess: split, from: turns, validation: 2, test: 2}
  voice: {train: sft, from: parts, model: base, lora: {rank: 4}, max_steps: 1, batch: 2}
chat:
  bare: {model: base, decoding: talk}
  endless: {model: base, decoding: forever}
  filled: {model: base, decoding: talk, prompt: asked, with: {who: Watson}}
  holmes: {model: voice, decoding: talk}
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    return project.make(tmp_path, RECIPE % tiny_model)


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("ARTIFACTS", "DATASETS")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "dumb"}


def chat(folder: Path, *arguments: str, typed: str = "") -> Result:
    """The command through a pipe, in this process."""
    with chdir(folder), mock.patch.dict(os.environ, clear=True):
        os.environ.update(environment())
        return CliRunner().invoke(main, ["chat", "small", *arguments], input=typed, catch_exceptions=False)


def terminal(folder: Path, *arguments: str) -> Any:
    command = ["-m", "runner", "chat", "small", *arguments]
    return pexpect.spawn(sys.executable, command, cwd=str(folder), env=environment(), encoding="utf-8", timeout=300)


def test_one_prompt_gives_one_answer_and_the_same_seed_the_same_one(folder: Path) -> None:
    said = [chat(folder, "--text", "Who was it?", "--seed", seed) for seed in ("1", "1", "2")]

    assert [one.exit_code for one in said] == [0, 0, 0]
    assert said[0].stdout == said[1].stdout != said[2].stdout


def test_a_piped_conversation_has_no_prompts_in_it_and_ends_at_quit(folder: Path) -> None:
    said = chat(folder, typed="Who was it?\n/reset\n/quit\nnot read\n")

    assert said.exit_code == 0
    assert "you>" not in said.stdout and "Kept in" in said.stderr
    assert said.stdout.count("(The conversation begins anew.)") == 1


def test_the_end_of_a_pipe_ends_the_conversation(folder: Path) -> None:
    assert chat(folder, typed="Who was it?\n").exit_code == 0


def test_an_entry_whose_model_is_not_made_says_what_to_run(folder: Path) -> None:
    said = chat(folder, "--entry", "holmes", "--text", "Hello")

    assert said.exit_code == 1
    assert said.stderr == "chat.holmes: 'voice' is not made yet. Run make small/voice.\n"


def test_an_unknown_entry_and_a_checkpoint_of_an_untrained_model_are_one_line_each(folder: Path) -> None:
    assert "no entry 'baer' under chat:. Did you mean 'bare'?" in chat(folder, "-C", "baer", "--text", "x").stderr
    assert "is not trained here" in chat(folder, "-C", "bare", "--checkpoint", "final", "--text", "x").stderr


def test_a_prompt_with_one_open_variable_takes_what_is_typed(folder: Path) -> None:
    assert chat(folder, "-C", "filled", "--text", "Hello {{ 7 * 7 }}").exit_code == 0


def endless(folder: Path, base: Path) -> Path:
    """The small model with a context of 100,000 tokens, whose end token is never among the fifty likeliest."""
    from safetensors.torch import load_file, save_file

    made = folder / "endless"
    shutil.copytree(base, made)
    weights = load_file(made / "model.safetensors")
    for mark in (0, 1, 2):  # its special tokens; a score of zero is about the middle one of 400
        weights["model.embed_tokens.weight"][mark] = 0
    save_file(weights, made / "model.safetensors", {"format": "pt"})
    for name, key in {"config.json": "max_position_embeddings", "tokenizer_config.json": "model_max_length"}.items():
        held = json.loads((made / name).read_text(encoding="utf-8"))
        (made / name).write_text(json.dumps(held | {key: 100_000}), encoding="utf-8")
    return made


def test_in_a_terminal_answers_are_streamed_ctrl_c_keeps_the_session_and_ctrl_d_ends_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    folder = project.make(tmp_path / "project", RECIPE % endless(tmp_path, tiny_model))
    child = terminal(folder, "-C", "endless")
    child.expect("you> ")
    child.sendline("Tell me everything.")
    child.expect(re.compile(r"everything\.\r\n.{3}", re.DOTALL))
    child.sendintr()
    child.expect("you> ")
    child.sendline("/temperature 0.5")
    child.expect("temperature 0.5")
    child.expect("you> ")
    child.sendline("/persona filled")
    child.expect("filled answers from now on")
    child.expect("you> ")
    child.sendline("/reset")
    child.expect("begins anew")
    child.expect("you> ")
    child.sendintr()
    child.expect("Ctrl-C once more leaves")
    child.expect("you> ")
    child.sendeof()
    child.expect(r"Kept in (\S+\.jsonl)")
    kept = Path(child.match.group(1))
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == 0 and kept.parent == folder / "artifacts" / "chats" / "small"
    assert '"content": "Tell me everything."' in kept.read_text(encoding="utf-8")
