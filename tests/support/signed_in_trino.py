"""Queries Trino as a person, over its own protocol, and keeps every byte of its answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from app.environment.loopback import direct_session
from app.environment.settings import Settings
from app.environment.trino_accounts import trino_url_of

ANSWER_S = 120.0


@dataclass
class Answer:
    """Everything that Trino answered to one statement: bytes, rows, and why it was refused."""

    content: bytes = b""
    rows: list[Any] = field(default_factory=list)
    error: str = ""


def ask(settings: Settings, user: str, password: str, sql: str, *, of: str = "") -> Answer:
    """Run a statement as a person.

    Args:
        of: the user whom the person impersonates; "" for none.
    """
    url = urlsplit(trino_url_of(settings, user, password))
    session = direct_session()
    session.auth = (unquote(url.username or ""), unquote(url.password or ""))
    session.headers.update(
        {
            "X-Trino-User": of or user,
            "X-Trino-Catalog": "lake",
            "X-Trino-Schema": "silver",
            "X-Trino-Time-Zone": "UTC",
        }
    )
    answer, found = Answer(), dict[str, Any]()
    deadline = time.monotonic() + ANSWER_S
    address = f"https://{url.hostname}:{url.port}/v1/statement"
    reply = session.post(address, data=sql.encode(), timeout=30)
    while True:
        answer.content += reply.content
        if reply.status_code != 200:
            answer.error = f"HTTP {reply.status_code}: {reply.text}"
            return answer
        found = reply.json()
        answer.rows += found.get("data") or []
        if "error" in found:
            answer.error = str(found["error"]["message"])
        following = found.get("nextUri")
        if following is None:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"no end of the answer within {ANSWER_S} s: {sql}")
        reply = session.get(following, timeout=30)
