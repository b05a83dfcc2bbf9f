"""`serve`: the chat page and the OpenAI-compatible API on one port, by default for this machine alone."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.requests import Request as HttpRequest
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from runner import api
from runner.api import Refused
from runner.chatting import Cast
from runner.decoding import Ended
from runner.desk import Busy, Desk
from runner.errors import MachineError, RunnerError, ServiceError
from runner.guard import Guard, error
from runner.persona import Persona, Told
from runner.voices import Away

WAITING = 64  # requests that may wait
SETTINGS: dict[str, Any] = {
    "log_level": "warning",
    "access_log": False,  # what is asked is nobody else's business
    "timeout_graceful_shutdown": 2,
    "server_header": False,
}
TOKEN = "PERSONA_TOKEN"  # noqa: S105 (the name of an environment variable)


class Floor:
    """The personas of a recipe with the line in front of them: one answer at a time by the weights of this machine,
    several by endpoints."""

    def __init__(self, cast: Cast, waiting: int = WAITING) -> None:
        self.cast = cast
        self.personas = {name: cast.persona(name) for name in cast.entries}
        self.here, self.away = Desk(1, waiting), Desk(Away.at_once, waiting)

    def desk(self, persona: Persona) -> Desk:
        """The line that this persona's answers stand in."""
        return self.away if isinstance(persona.voice, Away) else self.here

    def close(self) -> None:
        """Nothing more is begun."""
        self.here.close()
        self.away.close()


def build(floor: Floor, names: tuple[str, ...] = (), token: str = "", page: bool = True) -> FastAPI:
    """The application. names: more names that it may be called by; token: what callers must show, '' for none."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    began = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": began, "owned_by": floor.cast.plan.recipe.name}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [entry(name) for name in floor.personas]}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        _known(floor, name)
        return entry(name)

    @app.post("/v1/chat/completions", response_model=None)
    async def completions(http: HttpRequest) -> JSONResponse | StreamingResponse:
        kind = http.headers.get("content-type", "").partition(";")[0].strip().casefold()
        if kind != "application/json":  # what a page of another site could send unasked is not that
            raise Refused(415, "Content-Type must be application/json.")
        request = api.read(await http.body())
        persona = _known(floor, request.model)
        job = api.job(request, persona)
        return await _answered(http, job, floor.desk(persona))

    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
    def other(rest: str) -> None:
        raise Refused(404, f"/v1/{rest[:100]}: not here. There are /v1/models and /v1/chat/completions.")

    _say_errors(app)
    if page:
        from runner.page import mount

        mount(app, floor)
    app.add_middleware(Guard, names=names, token=token)
    return app


def _known(floor: Floor, name: str) -> Persona:
    if name not in floor.personas:
        held = ", ".join(floor.personas)
        raise Refused(404, f"The model '{name[:100]}' does not exist. There are: {held}.", "model", "model_not_found")
    return floor.personas[name]


def _say_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    def refused(http: HttpRequest, problem: Refused) -> JSONResponse:
        return JSONResponse(problem.body, problem.status)

    @app.exception_handler(Busy)
    def busy(http: HttpRequest, problem: Busy) -> JSONResponse:
        body = error(503, "Too many requests are waiting. Try again in a moment.", code="overloaded")
        return JSONResponse(body, 503, {"Retry-After": "5"})

    @app.exception_handler(RunnerError)
    def failed(http: HttpRequest, problem: RunnerError) -> JSONResponse:
        status = 502 if isinstance(problem, ServiceError) else 400
        return JSONResponse(error(status, str(problem)), status)

    @app.exception_handler(HTTPException)
    def plain(http: HttpRequest, problem: HTTPException) -> JSONResponse:
        return JSONResponse(error(problem.status_code, str(problem.detail)), problem.status_code, problem.headers)

    @app.exception_handler(Exception)
    def bug(http: HttpRequest, problem: Exception) -> JSONResponse:
        return JSONResponse(error(500, "Something went wrong here; the server's terminal says what."), 500)


async def _answered(http: HttpRequest, job: api.Job, desk: Desk) -> JSONResponse | StreamingResponse:
    """The reply; a client that hangs up ends the work, waiting or not. What goes wrong before the first piece has a
    status of its own, also where the reply is streamed."""
    pieces = _while_there(http, desk.pieces(job.work))
    begun = [piece async for piece in _first(pieces, 2)]
    if len(begun) < 2:
        return JSONResponse(error(499, "The client has gone."), 499)
    told: Told = begun[0]
    reply = api.Reply(job)
    if job.request.stream:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        chunks = reply.chunks(told, begun[1:], pieces)
        return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
    said = [*begun[1:], *[piece async for piece in pieces]]
    ended = said.pop()
    if not isinstance(ended, Ended):
        return JSONResponse(error(499, "The client has gone."), 499)
    return JSONResponse(reply.whole(told, "".join(said).strip(), ended))


async def _first(pieces: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        try:
            yield await anext(pieces)
        except StopAsyncIteration:
            return


async def _while_there(http: HttpRequest, pieces: Any) -> AsyncIterator[Any]:
    """The pieces for as long as the client is there."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        while True:
            coming = asyncio.ensure_future(anext(pieces))
            try:
                done, _ = await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if coming not in done:
                    return
                yield coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                    await coming
    finally:
        leaving.cancel()
        await pieces.aclose()


def server_of(app: FastAPI) -> uvicorn.Server:
    """The server of an application. Once it is to end, it does not complain of pages that are still open."""
    server = uvicorn.Server(uvicorn.Config(app, **SETTINGS))
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    return server


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises MachineError in one line."""
    if not 0 <= port < 2**16:
        raise MachineError(f"{host}:{port}: no such port. Choose another: PORT=8001.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as problem:
        raise MachineError(
            f"{host}:{port}: {problem.strerror}. Choose another: PORT=8001, HOST=127.0.0.1."
        ) from problem


def run(cast: Cast, host: str, port: int, names: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C."""
    held = listen(host, port)
    floor = Floor(cast)
    token = os.environ.get(TOKEN, "").strip()
    app = build(floor, (host, *names), token)
    address = f"http://{f'[{host}]' if ':' in host else host}:{held.getsockname()[1]}"
    say(f"{address}/ is the page, {address}/v1 the API for {', '.join(floor.personas)}. Ctrl-C ends both.")
    if not token and host not in ("127.0.0.1", "::1", "localhost"):
        say(f"Whoever reaches {host} can use it. To ask for a token: {TOKEN}=… in the environment or in .env.")
    with suppress(KeyboardInterrupt):  # how a server is ended
        server_of(app).run(sockets=[held])
    floor.close()
