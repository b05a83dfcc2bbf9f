"""OpenAI-compatible endpoints, by the official client: one request and what can go wrong with it, and streams for chat."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    OpenAI,
)

from runner import questions
from runner.asking import Answer, Ask, Speakers
from runner.chat import Message
from runner.errors import MachineError, ServiceError
from runner.lanes import Lane, Lanes, Pace
from runner.replies import Reply
from runner.service import Fault, Question, Service
from runner.step import Decoding, Model

FINISHES = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}
AGAIN = (408, 409, 425)
BUSY = (429, 529)
OVERLOADED = (503, 504)  # slower, and asked again only so often: it may be gone for good
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
FREE = {"input": 0, "output": 0}
SHORTEST = 5  # letters
WINDOW = 12  # characters: a run of this many of the question's in an error message is a quotation of it

for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they write requests, prompts and all, into debug logs


def api_keys(model: Model) -> list[str]:
    """The keys of an entry, from the environment. Raises MachineError where one is not there."""
    named = model.entry.get("api_key_env") or []
    names = [named] if isinstance(named, str) else named
    missing = [name for name in names if not os.environ.get(name, "").strip()]
    if missing:
        said = f"models.{model.name}: the environment variable {missing[0]} is not set."
        raise MachineError(f"{said} Set it to your key, or write {missing[0]}=… into .env.")
    return [os.environ[name].strip() for name in names] or ["none"]


def service(model: Model, speakers: Speakers) -> Service:
    """The endpoint of an entry, at work: a lane for each of its keys at each of its base URLs."""
    sys.setswitchinterval(0.0005)  # of two threads, one sends: it must not wait 5 ms for the other at every turn
    entry, lanes = model.entry, []
    most, timeout = entry.get("concurrency", 32), entry.get("timeout", 120)
    for url in questions.endpoints(model):
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        wire = DefaultAsyncHttpxClient(base_url=url, limits=limits, timeout=httpx2.Timeout(timeout, connect=15))
        for key in api_keys(model):
            client = AsyncOpenAI(api_key=key, base_url=url, max_retries=0, http_client=wire)
            paces = Pace(entry.get("requests_per_minute")), Pace(entry.get("tokens_per_minute"))
            lanes.append(Lane(client, url, most, *paces))

    async def send(lane: Lane, body: dict[str, Any], key: str) -> Reply:
        return await _send(lane.client, body, key, timeout)

    return Service(model, Lanes(lanes), send, speakers.replies, speakers.spending)


class At(Protocol):
    """An endpoint at work: a request for each question (runner/service.py), or batches of them (runner/batches.py)."""

    model: Model
    at_once: int

    def submit(self, question: Question) -> Future[Answer]: ...
    def flush(self) -> None: ...
    def close(self, patience: float) -> None: ...


class Endpoint:
    """A speaker (runner/asking.py): an endpoint with a decoding."""

    def __init__(self, at: At, decoding: Decoding, seed: int) -> None:
        self.service, self.at_once = at, at.at_once
        self._how = questions.parameters(decoding)
        self._seed = None if decoding.mode == "greedy" else seed

    def submit(self, ask: Ask) -> Future[Answer]:
        model, most = self.service.model, self._how["max_tokens"]
        body = questions.body(model, self._how, ask, self._seed)
        length, price = questions.size(ask.messages), model.entry.get("price") or FREE
        usd = (length * price["input"] + most * price["output"]) / 1e6
        return self.service.submit(Question(ask, body, questions.keys(model, body, ask), length, (length + most, usd)))

    def flush(self) -> None:
        self.service.flush()

    def close(self, patience: float) -> None:
        self.service.close(patience)


async def _send(client: AsyncOpenAI, body: dict[str, Any], key: str, timeout: float) -> Reply:  # noqa: ASYNC109
    """One request, its answer read with care. Raises Fault."""
    options: Any = {"headers": {"Idempotency-Key": key}}
    try:
        async with asyncio.timeout(timeout):  # the whole of it: a server may send a byte now and then for ever
            response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response, options=options)
    except TimeoutError as error:
        raise Fault("again", f"no answer within {timeout:g} s", slow=True) from error
    except (APIError, httpx2.HTTPError) as error:
        raise fault_of(error, body, client.api_key, timeout) from error
    made = _read(response.content, body)
    return made | {"request": response.headers.get("x-request-id") or made["request"]}


def _read(content: bytes, body: dict[str, Any]) -> Reply:
    """The answer in a response. Raises Fault where it holds none: cut off, no JSON."""
    try:
        held = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Fault("again", "an answer that is not JSON") from error
    return read(held, body)


def read(held: Any, body: dict[str, Any]) -> Reply:
    """The answer in a chat completion, to the request with this body. Raises Fault where it holds none."""
    try:
        choice = held["choices"][0]
        message = choice["message"]
    except (KeyError, IndexError, TypeError) as error:
        raise Fault("again", "an answer without choices") from error
    text, finish = _text(message), FINISHES.get(choice.get("finish_reason"), "stop")
    if not isinstance(text, str):
        raise Fault("again", "an answer without a text")
    if message.get("refusal"):
        text, finish = str(message["refusal"]), "content_filter"
    begun = body["messages"][-1]
    if begun["role"] == "assistant":
        text = text.removeprefix(begun["content"])
    used = held.get("usage") if isinstance(held.get("usage"), dict) else {}
    counts = {
        "input": _count(used.get("prompt_tokens"), questions.size(body["messages"])),
        "output": _count(used.get("completion_tokens"), math.ceil(len(text) / questions.CHARACTERS)),
    }
    name = held.get("id")
    return {"text": text, "finish": finish, **counts, "request": name if isinstance(name, str) else None}


def _text(message: Any) -> Any:
    """The text of a message, whose content may be a list of parts, or nothing beside a refusal."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None and (message.get("refusal") or message.get("reasoning_content")) else content


def _count(said: Any, guessed: int) -> int:
    return said if isinstance(said, int) and said >= 0 else guessed


def fault_of(error: Exception, body: dict[str, Any], key: str, timeout: float) -> Fault:
    """What an error of the client means for the question: ask again, slow down, give it up or stop."""
    if not isinstance(error, APIStatusError):
        timed_out = "Timeout" in type(error).__name__
        lost = (
            "the connection failed" if isinstance(error, APIConnectionError | httpx2.HTTPError) else "a broken answer"
        )
        return Fault("again", f"no answer within {timeout:g} s" if timed_out else lost, slow=timed_out)
    return refusal(error.status_code, error.body, body, key, _retry_after(error.response))


def refusal(status: int, held: Any, body: dict[str, Any], key: str, after: float | None = None) -> Fault:
    """What a status other than 200 means for a question; held: the error that came with it."""
    told, named = _told(held), held if isinstance(held, dict) else {}
    code = str(named.get("code") or "")
    reason = f"HTTP {status}{_safe(code, told, body, key)}"
    if code in QUOTA or named.get("type") in QUOTA:
        return Fault("stop", reason)
    if status in BUSY:
        return Fault("busy", reason, after)
    if status in AGAIN or status >= 500:
        return Fault("again", reason, after, told=told, slow=status in OVERLOADED)
    return Fault("no", reason, told=told)


def _told(held: Any) -> str:
    """What the server said; of a body that is no JSON object, only that it is none."""
    message = held.get("message", held.get("detail")) if isinstance(held, dict) else None
    return message if isinstance(message, str) else json.dumps(held) if isinstance(held, dict) else ""


def _safe(code: str, told: str, body: dict[str, Any], key: str) -> str:
    """What a server said of an error, where it repeats neither the key nor the question."""
    shown = f" {code}" if re.fullmatch(r"[a-z][a-z0-9_.]{2,40}", code) else ""
    message = " ".join(told.split())[:200]
    secret = [" ".join(one.split()) for one in (key, *(one["content"] for one in body["messages"]))]
    pieces = {message[at : at + WINDOW] for at in range(max(1, len(message) - WINDOW + 1))}
    quoted = any(len(piece) >= SHORTEST and piece in text for piece in pieces for text in secret)
    repeated = any(len(text) >= SHORTEST and text in message for text in (*secret, key[-SHORTEST:]))
    return shown if quoted or repeated or not message else f"{shown}: {message.rstrip('.')}"


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds that a server asks to wait: Retry-After in seconds or as a date, retry-after-ms."""
    headers = response.headers
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers and headers["retry-after"].strip()[:1].isdigit():
            seconds = float(headers["retry-after"])
        elif "retry-after" in headers:
            seconds = parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 1e6 else None


def stream(model: Model, messages: Sequence[Message], decoding: Decoding, seed: int = 0) -> Iterator[str]:
    """The pieces of one answer as they come, for chat and serve; nothing is kept. Closing the iterator ends it.

    Raises ServiceError, without the question in it, where the endpoint fails.
    """
    own = None if decoding.mode == "greedy" else seed
    body = questions.body(model, questions.parameters(decoding), Ask("model", messages), own)
    timeout, key = model.entry.get("timeout", 120), api_keys(model)[0]
    with OpenAI(api_key=key, base_url=questions.endpoints(model)[0], timeout=timeout, max_retries=2) as client:
        try:
            known = ("model", "messages", "temperature", "top_p", "stop", "max_tokens", "seed")
            extra = {name: value for name, value in body.items() if name not in known}
            plain: Any = {name: value for name, value in body.items() if name in known}
            with client.chat.completions.create(**plain, stream=True, extra_body=extra or None) as pieces:
                for piece in pieces:
                    if piece.choices and piece.choices[0].delta.content:
                        yield piece.choices[0].delta.content
        except (APIError, httpx2.HTTPError) as error:
            raise ServiceError(f"models.{model.name}: {fault_of(error, body, key, timeout).reason}.") from error
