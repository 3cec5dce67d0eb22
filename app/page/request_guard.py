"""The guard before every request of the page: who may send requests, and how much.

The browser that shows the page also shows other sites. Such a site could send requests here. With a
name of its own that resolves to this machine, it could also read the answers. Therefore:
- the Host must be one of the page's own names;
- a request that another site caused is refused, by its Origin and by Sec-Fetch-Site;
- a request under `/api`, or one that is not GET or HEAD, needs the token. `./headwater urls` prints
  it and no
  answer holds it, so another user of this machine has none;
- a body is JSON.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 256 << 10
TOKEN_HEADER = "x-headwater-token"
API = "/api/"
# For the supervisor, which has no token; the answer says nothing but that the page is alive.
READY = "/api/ready"
_SAFE = ("GET", "HEAD")
# Scripts and styles are the page's own files; nothing is loaded from elsewhere, nothing frames it.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that refuses requests which are not the page's own.

    Args:
        hosts: the Host names of the page, with ports (`127.0.0.1:18090`).
        token: the value of TOKEN_HEADER that requests under API must have.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], token: str) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a web socket is not answered at all

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        refused = self._refusal(scope)
        if refused is None and scope["method"] not in _SAFE:
            body = await _body(receive)
            if body is None:
                refused = 413, f"the body is larger than {BODY_BYTES_MAX >> 10} KiB"
            else:
                receive = _replayed(body, receive)
        if refused is not None:
            await _answer(guarded, *refused)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421, "the page is not served under that host name"
        if any(origin not in self._origins for origin in headers.get("origin", ())):
            return 403, "another site's request is refused"
        changes = scope["method"] not in _SAFE
        site = headers.get("sec-fetch-site", ["none"])[0]
        # A link from another site to the page itself does no harm.
        if site not in ("same-origin", "none") and (changes or scope["path"] != "/"):
            return 403, "another site's request is refused"
        if not changes and (not scope["path"].startswith(API) or scope["path"] == READY):
            return None
        given = headers.get(TOKEN_HEADER, [""])[0].encode("latin-1")
        if not secrets.compare_digest(given, self._token):
            return (
                401,
                "the token is missing or wrong: open the address that `./headwater urls` prints",
            )
        if not changes:
            return None
        if headers.get("content-type", [""])[0].split(";")[0].strip() != "application/json":
            return 415, "send JSON"
        lengths = headers.get("content-length", ["0"])
        if not lengths[0].isdecimal() or int(lengths[0]) > BODY_BYTES_MAX:
            return 413, f"the body is larger than {BODY_BYTES_MAX >> 10} KiB"
        return None


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the client is gone
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_BYTES_MAX:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first gives a body that was already read, then the rest."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message}}).encode()
    headers: list[Any] = [(b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
