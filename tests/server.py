"""A loopback server that speaks the chat completions API, as fast or as badly as a test asks.

`with Server(latency=0.05) as server:` runs it in a thread; `python -m tests.server --latency 0.05` in a process of its own,
for measurements: it prints its address, and GET /stats tells what came in.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

# What can go wrong, each a way to answer.
FAULTS = (
    "429",
    "429 later",
    "500",
    "503",
    "hang",
    "reset",
    "half",
    "wrong type",
    "length",
    "no choices",
    "not UTF-8",
)
ANSWERED = ("length",)  # of these the ones that are an answer all the same
Body = dict[str, Any]


def said(body: Body) -> str:
    """A reply that is the same for the same request: JSON where a schema is asked for, else a sentence."""
    asked = body.get("response_format") or {}
    mark = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:8]
    if asked.get("type") == "json_schema":
        return json.dumps(example(asked["json_schema"]["schema"], mark))
    return f"Reply {mark} to {len(body['messages'])} messages."


def example(schema: dict[str, Any], mark: str) -> Any:
    """A value that fits a JSON Schema; which one goes by `mark`, eight hexadecimal digits."""
    at = int(mark, 16)
    if "enum" in schema:
        return schema["enum"][at % len(schema["enum"])]
    kind = schema.get("type")
    if kind == "object":
        return {name: example(held, mark) for name, held in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {"type": "string"}), mark)] * 2
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 100)
        return low + at % (high - low + 1)
    return f"text {mark}"


@dataclass
class Server:
    """The server. What it counts: `requests` that came in, `paid` answers by the digest of what was asked.

    reply:       from a request's body to the text of the answer, or to a whole response as a dict
    faults:      what goes wrong, with probability `share`, drawn by `seed`; Retry-After is `later` seconds
    refuse:      from a body and its key to (status, message) where the request is turned down, None where not
    most:        requests at a time; one more is told 429
    """

    latency: float = 0.0
    reply: Callable[[Body], str | dict[str, Any]] = said
    faults: Sequence[str] = ()
    share: float = 0.0
    seed: int = 0
    later: float = 0.05
    refuse: Callable[[Body, str], tuple[int, str] | None] = lambda body, key: None
    most: int = 10**9
    requests: int = 0
    paid: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    busy: int = 0
    peak: int = 0
    keep: int = 100_000  # so many bodies are kept
    url: str = ""

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *held: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        server = self._loop.run_until_complete(self._start(0))
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _start(self, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    @property
    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answered": sum(self.paid.values()),
            "different": len(self.paid),
            "peak": self.peak,
            "failed": dict(self.failed),
        }

    async def answer(self, path: str, headers: dict[str, str], content: bytes) -> bytes | None:
        """The response to a request, None to cut the connection."""
        if path.endswith("/stats"):
            return http(200, json.dumps(self.stats).encode())
        body = json.loads(content)
        key = headers.get("authorization", "").removeprefix("Bearer ")
        self.requests += 1
        self.keys[key] += 1
        self.times.append(asyncio.get_running_loop().time())
        if len(self.bodies) < self.keep:
            self.bodies.append(body)
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            return await self._answered(body, key, self.busy)
        finally:
            self.busy -= 1

    async def _answered(self, body: Body, key: str, busy: int) -> bytes | None:
        refused = self.refuse(body, key)
        if refused:
            return error(*refused)
        if busy > self.most:
            self.failed["too many"] += 1
            return error(429, "too many requests")
        fault = self._random.choice(list(self.faults)) if self._random.random() < self.share else ""
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault and fault not in ANSWERED:
            self.failed[fault] += 1
            return await self._fails(fault, body)
        self.paid[hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()] += 1
        held = self.reply(body)
        if isinstance(held, str):
            held = completion(held, body, "length" if fault == "length" else "stop")
        if body.get("stream"):
            return streamed(held)
        return http(200, json.dumps(held, ensure_ascii=False).encode(), {"x-request-id": f"req-{self.requests}"})

    async def _fails(self, fault: str, body: Body) -> bytes | None:
        whole = json.dumps(completion(said(body), body)).encode()
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault in ("429", "429 later"):
            return error(429, "slow down", {"Retry-After": str(self.later)} if fault == "429 later" else {})
        if fault in ("500", "503"):
            return error(int(fault), "out of order")
        return {
            "reset": None,
            "half": http(200, whole[: len(whole) // 2]),
            "wrong type": http(200, b"<html><body>Busy</body></html>", {"Content-Type": "text/html"}),
            "no choices": http(200, json.dumps({"id": "x", "choices": []}).encode()),
            "not UTF-8": http(200, whole.replace(b"Reply", b"Repl\xff\xfe")),
        }[fault]


class _Connection(asyncio.Protocol):
    """Just enough of HTTP/1.1: requests one after another, with a Content-Length."""

    def __init__(self, server: Server) -> None:
        self.server, self.held = server, b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, found, rest = self.held.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.held = rest[length:]
        self.task = asyncio.get_running_loop().create_task(self._reply(lines[0].split()[1], headers, rest[:length]))

    async def _reply(self, path: str, headers: dict[str, str], content: bytes) -> None:
        made = await self.server.answer(path, headers, content)
        if made is None:
            self.transport.abort()
        else:
            self.transport.write(made)


def http(status: int, content: bytes, headers: dict[str, str] | None = None) -> bytes:
    held = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in held.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content


def error(status: int, message: str, headers: dict[str, str] | None = None) -> bytes:
    held = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    return http(status, json.dumps(held).encode(), headers)


def completion(text: str, body: Body, finish: str = "stop") -> dict[str, Any]:
    """A response of the API around a text; a word is a token."""
    words = sum(len(str(one["content"]).split()) for one in body["messages"])
    usage = {"prompt_tokens": words, "completion_tokens": len(text.split()), "total_tokens": words + len(text.split())}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chat-1", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def streamed(held: dict[str, Any]) -> bytes:
    """The same as server-sent events, a word each."""
    words = held["choices"][0]["message"]["content"].split(" ")
    pieces = [word if place == 0 else f" {word}" for place, word in enumerate(words)]
    events: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces
    ]
    events.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [
        f"data: {json.dumps({'id': 'chat-1', 'object': 'chat.completion.chunk', 'model': 'm', 'choices': [one]})}\n\n"
        for one in events
    ]
    return http(200, ("".join(lines) + "data: [DONE]\n\n").encode(), {"Content-Type": "text/event-stream"})


async def _serve(server: Server, port: int) -> None:
    server._random = random.Random(server.seed)
    running = await server._start(port)
    print(server.url, flush=True)  # noqa: T201
    await running.serve_forever()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--latency", type=float, default=0.0)
    options.add_argument("--share", type=float, default=0.0)
    options.add_argument("--faults", nargs="*", default=[])
    options.add_argument("--port", type=int, default=0)
    given = options.parse_args()
    asyncio.run(_serve(Server(latency=given.latency, share=given.share, faults=given.faults, keep=0), given.port))
