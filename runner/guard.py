"""What stands before the server: who may call it, by which name, with how much. Every refusal is an error as OpenAI's
API words them.

A page of another site must not speak to a server on this machine. Such a page can make its own name point here (DNS
rebinding), so names that the public DNS could answer for are refused; it says where it comes from (Origin), so other
origins are refused too.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST = 8 * 2**20  # bytes of a request
DRAINED = 64 * MOST  # so much of a request that is too large is read and forgotten, so that the refusal is heard
PRIVATE = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
}


def error(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error's body."""
    kind = KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class TooLarge(Exception):
    """A request's body is larger than allowed."""


class Guard:
    """ASGI middleware. names: more names that the server may be called by; token: what callers must show, '' for none."""

    def __init__(self, app: Any, names: tuple[str, ...] = (), token: str = "", most: int = MOST) -> None:
        self.app, self.token, self.most = app, token, most
        self.names = {name.casefold() for name in (*names, socket.gethostname(), socket.getfqdn())}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            refused = self._refused(headers, scope["path"])
            length = headers.get("content-length", "")
            if refused is None and length.isdecimal() and int(length) > self.most:
                refused = self._too_large()
            if refused is None:
                await self._pass(scope, receive, send)
            else:
                await _drain(receive)
                await _answer(send, *refused, scope["path"])

    def _refused(self, headers: dict[str, str], path: str) -> tuple[int, dict[str, Any]] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            said = f"This server is not called '{host[:100]}'. Use its address, or start it with NAMES={host[:100]}."
            return 403, error(403, said, code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.casefold() != host.casefold():
            return 403, error(403, "Pages of other sites may not call this server.", code="origin_not_allowed")
        if self.token and path != "/health" and not self._is_shown(headers.get("authorization", "")):
            return 401, error(401, "The right token is needed: Authorization: Bearer <token>.", code="invalid_api_key")
        return None

    def _is_own(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
        try:
            ip_address(name)
        except ValueError:
            plain = "." not in name and name != ""
            return plain or name in self.names or name.endswith(PRIVATE)
        return True

    def _is_shown(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        if kind.casefold() == "basic":  # what a browser asks its user for; any name goes with the token
            try:
                value = base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.casefold() != "bearer":
            return False
        return secrets.compare_digest(value.strip().encode(), self.token.encode())

    def _too_large(self) -> tuple[int, dict[str, Any]]:
        said = f"The request is larger than {self.most // 2**20} MiB. Send less of the conversation."
        return 413, error(413, said, code="request_too_large")

    async def _pass(self, scope: Any, receive: Receive, send: Send) -> None:
        """To the application, the body counted as it comes."""
        read, begun = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise TooLarge
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, sent)
        except TooLarge:
            if not begun:
                await _drain(receive)
                await _answer(send, *self._too_large(), scope["path"])


async def _drain(receive: Receive) -> None:
    """Read what the caller still sends: one who is cut off while sending does not hear why."""
    left = DRAINED
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b"")) or 1
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def _answer(send: Send, status: int, body: dict[str, Any], path: str) -> None:
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 401:
        way = b"Bearer" if path.startswith("/v1") else b'Basic realm="any name, and the token as password"'
        headers.append((b"www-authenticate", way))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
