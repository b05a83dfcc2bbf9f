"""Rows a second, and requests repeated after a crash: this runner, a plain asyncio script on the openai client, and curator.

python tests/bench_generate.py [rows]; bespokelabs-curator is measured where CURATOR_PYTHON names an interpreter that has it.
It fetches the vocabulary cl100k_base when it starts; without a network, TIKTOKEN_CACHE_DIR names a folder that holds it (litellm brings one).
All ask the same loopback server (0.1 s, 32 connections), are killed half-way, and run again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
LATENCY, CONNECTIONS = 0.1, 32

OURS = """
import sys
from pathlib import Path
from tests.asked import Run, people, step, writer
folder, url, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
Run(folder / "out", step(folder, writer(url, concurrency=%d), people(rows)))
"""
PLAIN = """
import asyncio, json, sys
from pathlib import Path
from openai import AsyncOpenAI
folder, url, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
async def main():
    client, room = AsyncOpenAI(api_key="none", base_url=url), asyncio.Semaphore(%d)
    async def one(place):
        async with room:
            messages = [{"role": "user", "content": f"Hello, person {place}"}]
            made = await client.chat.completions.create(model="m", messages=messages, temperature=0, max_tokens=40)
            return made.choices[0].message.content
    answers = await asyncio.gather(*(one(place) for place in range(rows)))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"answer": one}) + "\\n" for one in answers))
asyncio.run(main())
"""
CURATOR = """
import sys
from bespokelabs import curator
folder, url, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
llm = curator.LLM(model_name="m", backend="openai", generation_params={"temperature": 0, "max_tokens": 40},
    backend_params={"base_url": url, "api_key": "none", "max_concurrent_requests": %d,
                    "max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**9})
llm([f"Hello, person {place}" for place in range(rows)], working_dir=folder)
"""


def run(python: str, program: str, folder: Path, url: str, rows: int, kill_after: int = 0) -> float:
    """Run a program to its end, or kill it once the server has had so many requests; returns seconds."""
    words = [python, "-c", program % CONNECTIONS, str(folder), url, str(rows)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"}
    began = time.monotonic()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    before = asked(url)
    while kill_after and process.poll() is None and asked(url) - before < kill_after:
        time.sleep(0.02)
    if kill_after and process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    if process.returncode and not kill_after:
        raise SystemExit(said.decode()[-2000:])
    return time.monotonic() - began


def asked(url: str) -> int:
    with urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as answer:
        return int(json.load(answer)["requests"])


def measure(name: str, python: str, program: str, url: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken:
        seconds = run(python, program, Path(whole), url, rows)
        before = asked(url)
        run(python, program, Path(broken), url, rows, kill_after=rows // 2)
        run(python, program, Path(broken), url, rows)
        repeated = asked(url) - before - rows
    print(f"{name:<24}{rows / seconds:>10.1f} rows/s{repeated:>10} of {rows} requests repeated after a crash")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    command = [sys.executable, "-m", "tests.server", "--latency", str(LATENCY)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().strip()
        try:
            print(f"The server answers {CONNECTIONS / LATENCY:.0f} a second at best. Starting Python is counted in.")
            measure("this runner", sys.executable, OURS, url, rows)
            measure("asyncio and openai", sys.executable, PLAIN, url, rows)
            curator = os.environ.get("CURATOR_PYTHON")
            if curator:
                measure("bespokelabs-curator", curator, CURATOR, url, rows)
            else:
                print("bespokelabs-curator: not measured. CURATOR_PYTHON=/path/to/python with it installed adds it.")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
