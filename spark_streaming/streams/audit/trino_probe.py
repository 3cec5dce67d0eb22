"""Gets a query id from Trino, so that the newest queries are noticed even if their events are missing."""

from __future__ import annotations

import os
import threading
import time
from urllib.parse import SplitResult, unquote, urlsplit

import requests
import trino.auth
import trino.dbapi
import trino.exceptions

EVERY_S = 30.0
TIMEOUT_S = 5.0
USER, SOURCE = "headwater", "headwater-audit"


class TrinoProbe:
    """Puts the smallest question to Trino each half minute, from a thread: Trino may be slow, or hang.

    Args:
        url: `http://host:port`, `https://…` of an encrypted stack, with `user:password@` where Trino asks for one:
            never print it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking: threading.Thread | None = None
        self._asked_at = time.monotonic()
        self._newest: str | None = None

    def newest_id(self) -> str | None:
        """Return the id of the newest question that was answered; None before the first."""
        asks = self._asking is not None and self._asking.is_alive()
        if not asks and time.monotonic() - self._asked_at >= EVERY_S:
            self._asked_at = time.monotonic()
            self._asking = threading.Thread(target=self._ask, name="trino-probe", daemon=True)
            self._asking.start()
        return self._newest

    def _ask(self) -> None:
        parts = urlsplit(self._url)
        trusted = os.environ.get("REQUESTS_CA_BUNDLE", True)
        try:
            # While it starts, Trino numbers questions, refuses them, and sends no events.
            info = requests.get(f"{self._url}/v1/info", timeout=TIMEOUT_S, verify=trusted)
            if info.json().get("starting", True):
                return
            connection = trino.dbapi.connect(
                host=parts.hostname,
                port=parts.port,
                http_scheme=parts.scheme,
                user=parts.username or USER,
                auth=_log_in(parts),
                source=SOURCE,
                verify=trusted,
                request_timeout=TIMEOUT_S,
                max_attempts=1,
            )
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            self._newest = str(cursor.query_id)
        except (trino.exceptions.Error, trino.exceptions.HttpError, requests.RequestException):
            pass  # it is retried; an alert reports a Trino that does not answer


def _log_in(parts: SplitResult) -> trino.auth.BasicAuthentication | None:
    if not parts.username:
        return None
    return trino.auth.BasicAuthentication(parts.username, unquote(parts.password or ""))
