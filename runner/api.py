"""The OpenAI-compatible API: what may be asked of an entry of `chat:`, and how the answer is worded.

An entry's own prompt stands first; a client's system messages follow it, in the same system message. What a client does
not say, the entry's decoding says. Settings that a mode does not have (the temperature of greedy) change nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner import dials
from runner.chat import Message
from runner.decoding import Ended
from runner.errors import RunnerError, StepError
from runner.guard import error
from runner.persona import Persona, Told
from runner.step import Decoding

SEEDS = 2**31


class Refused(Exception):
    """A request that is answered with an error: its status and its body."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, error(status, message, param, code)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Part(_Strict):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: str


class Turn(_Strict):
    """A message of a request."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    def text(self) -> str:
        """The words alone."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Strict):
    """stream_options of a request."""

    include_usage: bool | None = None


class Request(_Strict):
    """A chat completion request. `alpha` and `person` are our own: weights of steering models, who answers."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    presence_penalty: float | None = Field(default=None, ge=0, le=0)
    frequency_penalty: float | None = Field(default=None, ge=0, le=0)
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: Literal[False] | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)
    alpha: float | dict[str, float] | None = None
    person: str | int | None = None

    def talk(self) -> list[Message]:
        """The conversation in our roles."""
        roles = {"developer": "system"}
        return [{"role": roles.get(turn.role, turn.role), "content": turn.text()} for turn in self.messages]

    def decoding(self, how: Decoding) -> Decoding:
        """An entry's decoding with what the client asks for. Raises StepError for a value that it cannot have."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        asked: dict[str, Any] = {
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "stop": [*dict.fromkeys([*(how.params.get("stop") or []), *filter(None, stops)])] or None,
            "top_k": self.top_k or None,
            **{key: getattr(self, key) for key in ("temperature", "top_p", "min_p", "repetition_penalty")},
        }
        made = dials.turned(how, **{key: one for key, one in asked.items() if one is not None and dials.has(how, key)})
        weights = self.alpha if isinstance(self.alpha, dict) else {"": self.alpha} if self.alpha is not None else {}
        for name, weight in weights.items():
            made = dials.with_alpha(made, name, weight)
        return made


def read(body: bytes) -> Request:
    """A request's body. Raises Refused with what is wrong where."""
    try:
        return Request.model_validate_json(body)
    except ValidationError as invalid:
        # Of a value that fits none of several types, the error that looked deepest says most
        first = max(invalid.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
        where = ".".join(str(one) for one in first["loc"] if not _is_branch(one))
        said = first["msg"] if first["type"] == "json_invalid" else f"{where}: {first['msg']}"
        raise Refused(400, f"{said}.", where or None, "invalid_json" if not where else None) from invalid


def _is_branch(one: Any) -> bool:
    """Whether a step of a place only names an alternative type, such as list[Part]."""
    return isinstance(one, str) and (one in ("str", "int", "float") or "[" in one)


@dataclass(frozen=True)
class Job:
    """One answer to make: the work for the desk, and what the reply says of it."""

    request: Request
    persona: Persona
    how: Decoding
    seed: int

    def work(self) -> Generator[Told | str, None, Ended]:
        """First what the persona is told, then the pieces; how it ended at last."""
        told = self.persona.tell(self.request.talk(), self._person(), seed=self.seed)
        yield told
        return (yield from self.persona.answer(told, self.how, self.seed))

    def _person(self) -> int | None:
        people = self.persona.people
        if people is None:
            return None
        if self.request.person is not None:
            return people.find(str(self.request.person))
        heard = next((turn.text() for turn in self.request.messages if turn.role == "user"), "")
        return people.ranked(heard)[0][0] if people.score else people.at_first(self.seed)


def job(request: Request, persona: Persona) -> Job:
    """The job of a request. Raises Refused for what cannot be asked of this entry."""
    if request.person is not None and persona.people is None:
        raise Refused(400, f"'{persona.name}' has no person to choose.", "person")
    try:
        how = request.decoding(persona.decoding)
        if request.person is not None and persona.people:
            persona.people.find(str(request.person))
    except StepError as problem:
        raise Refused(400, str(problem)) from problem
    return Job(request, persona, how, request.seed if request.seed is not None else secrets.randbelow(SEEDS))


class Reply:
    """An answer in OpenAI's words, whole or in chunks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": job.request.model}

    def whole(self, told: Told, text: str, ended: Ended) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended.finish}
        held = {**self.head, "object": "chat.completion", "choices": [choice], "usage": usage(ended)}
        return {**held, **self._own(told)}

    async def chunks(self, told: Told, begun: list[Any], pieces: AsyncIterator[Any]) -> AsyncIterator[str]:
        """Server-sent events: the pieces, how it ended, the usage where it is asked for, [DONE]."""
        yield self._event({"role": "assistant", "content": ""}, **self._own(told))
        try:
            for piece in begun:
                yield self._chunk(piece)
            async for piece in pieces:
                yield self._chunk(piece)
        except RunnerError as problem:
            yield _data(error(502, str(problem)))
        yield "data: [DONE]\n\n"

    def _chunk(self, piece: Any) -> str:
        if not isinstance(piece, Ended):
            return self._event({"content": piece})
        options = self.job.request.stream_options
        last = self._event({}, finish=piece.finish)
        if options and options.include_usage:
            last += _data({**self.head, "object": CHUNK, "choices": [], "usage": usage(piece)})
        return last

    def _event(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**self.head, "object": CHUNK, "choices": [choice], **more})

    def _own(self, told: Told) -> dict[str, Any]:
        """What no other server says: the memory and the passages that the answer was made with."""
        made: dict[str, Any] = {}
        if told.memory and told.memory.aspect:
            made["memory"] = {"aspect": told.memory.aspect, "text": told.memory.text}
        if told.passages:
            made["passages"] = told.passages
        return {"persona": made} if made else {}


CHUNK = "chat.completion.chunk"


def usage(ended: Ended) -> dict[str, int]:
    """The tokens of an answer."""
    return {
        "prompt_tokens": ended.input,
        "completion_tokens": ended.output,
        "total_tokens": ended.input + ended.output,
    }


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
