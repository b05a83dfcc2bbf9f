"""A server of other people's code: `transformers serve` with the bundled SmolLM2, whose replies are what they are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from runner import models
from runner.endpoint import stream
from runner.step import Decoding, Model
from tests.asked import Run, people, step

ROOT = Path(__file__).resolve().parents[1]
SHORT = Decoding("short", "greedy", {"max_new_tokens": 24})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The entry of a running server."""
    if not (find_spec("fastapi") and find_spec("uvicorn")):
        pytest.skip("transformers serve needs fastapi and uvicorn, of .[serve]")
    folder = models.ensure_bundled("smollm2-135m", ROOT / "artifacts")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    words = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("served") / "log.txt"
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdout=said, stderr=said, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            entry = {"endpoint": f"http://127.0.0.1:{port}/v1", "model": str(folder), "concurrency": 2, "timeout": 300}
            yield Model("served", entry)
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"transformers serve ended: {log.read_text()[-2000:]}")
        try:
            urlopen(url, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve did not come up: {log.read_text()[-2000:]}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_real_model_behind_a_real_server_answers_every_row(served: Model, tmp_path: Path) -> None:
    made = Run(tmp_path / "out", step(tmp_path, served, people(4), SHORT))
    assert len(made.rows) == 4 and all(row["answer"] for row in made.rows)
    assert made.facts["tokens"]["output"] > 0
    again = Run(tmp_path / "again", step(tmp_path, served, people(4), SHORT))
    assert again.rows == made.rows and again.facts["from_cache"] == 4


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_its_small_model_is_repaired_or_rejected_and_no_row_is_lost(served: Model, tmp_path: Path) -> None:
    shape = {"mood": ["good", "bad"], "stars": "1..5"}
    made = Run(tmp_path / "out", step(tmp_path, served, people(4), SHORT, output=shape))
    assert len(made.rows) + len(made.rejected) == 4
    # What it says is not JSON of this form at once, or it is: either way each row says how it came about
    assert all(row["mood"] in ("good", "bad") and 1 <= row["stars"] <= 5 for row in made.rows)
    assert {reason for _, reason in made.rejected} <= {"not of the shape asked for", "cut off", "refusal"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_its_stream_is_read(served: Model) -> None:
    assert "".join(stream(served, [{"role": "user", "content": "Say hello."}], SHORT))
