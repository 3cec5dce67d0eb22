"""Connects to Trino and turns its failures into errors with a hint."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
import trino.auth
import trino.dbapi
import trino.exceptions

from app.environment.signed_in import without_user
from app.environment.trino_accounts import COMMANDS
from app.errors import HeadwaterError

CATALOG = "lake"
SCHEMA = "silver"
REQUEST_TIMEOUT_S = 30.0  # one HTTP exchange; a query may take many
ATTEMPTS_MAX = 3
USER = COMMANDS

# Trino's error name → hint.
_HINTS = {
    "TABLE_NOT_FOUND": "list the tables: headwater sql 'SHOW TABLES FROM silver'",
    "SCHEMA_NOT_FOUND": "list the schemas: headwater sql 'SHOW SCHEMAS FROM lake'",
    "COLUMN_NOT_FOUND": "list the columns: headwater sql 'DESCRIBE silver.TABLE'",
    "PERMISSION_DENIED": "silver, ops, history and reports are written by the stack only; "
    "make tables of your own in a schema of your own: CREATE SCHEMA lake.mine",
    "SERVER_STARTING_UP": "Trino is starting; ask again when `headwater status trino` says ready",
    "EXCEEDED_LOCAL_MEMORY_LIMIT": "ask for fewer rows or columns at once, or raise Trino's heap "
    "(trino/README.md, Memory)",
    "VIEW_IS_STALE": "the source's columns changed; the view is made again within a minute",
}


def connect(
    url: str, *, user: str = USER, source: str = "headwater", **options: Any
) -> trino.dbapi.Connection:
    """Make a connection to the Trino at `url`; it sends nothing yet.

    Args:
        url: `http://host:port` of the stack's Trino, or
            `https://user:password@host:port[?verify=FILE]` of one's own.
        user: the user name, if the URL has none; only `registrar` may change silver, ops and
            reports.
        source: the name of the asking program in Trino's list of queries.
        options: options of the client that replace the defaults here.
    Returns: a DBAPI connection with catalog `lake`, schema `silver`, time zone UTC.
    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise HeadwaterError(
            f"not an address of Trino: {without_user(url)}", hint="give http://host:port"
        )
    return trino.dbapi.connect(
        host=parts.hostname,
        port=parts.port or (443 if parts.scheme == "https" else 80),
        http_scheme=parts.scheme,
        **_account(url, user),
        catalog=CATALOG,
        schema=SCHEMA,
        source=source,
        timezone="UTC",
        **{"max_attempts": ATTEMPTS_MAX, "request_timeout": REQUEST_TIMEOUT_S, **options},
    )


def _account(url: str, user: str) -> dict[str, Any]:
    """Return the client's user, and the certificates that it trusts."""
    parts = urlsplit(url)
    trusted = os.environ.get("REQUESTS_CA_BUNDLE", True)  # the stack's own, if it has one
    if parts.username is None:
        return {"user": user, "verify": trusted}
    name = unquote(parts.username)
    found: dict[str, Any] = {
        "user": name,
        "verify": dict(parse_qsl(parts.query)).get("verify", trusted),
    }
    if parts.password is not None:
        found["auth"] = trino.auth.BasicAuthentication(name, unquote(parts.password))
    return found


def explain(error: Exception, url: str) -> HeadwaterError:
    """Return the error to show for an exception of a DBAPI call against `url`."""
    if isinstance(error, trino.exceptions.TrinoQueryError):
        name = error.error_name or "unknown"
        return HeadwaterError(
            f"Trino could not run the statement ({name})",
            detail=str(error.message),
            hint=_HINTS.get(name, ""),
        )
    if "error 401" in str(error):
        return HeadwaterError(
            f"Trino refused the sign-in at {without_user(url)}",
            detail=_short(error),
            hint="check name and password; all users: ./headwater users list",
        )
    if is_unreachable(error):
        return HeadwaterError(
            f"Trino does not answer at {without_user(url)}",
            detail=_short(error),
            hint="is the stack up? see `headwater status trino`",
        )
    return HeadwaterError("the request to Trino failed", detail=_short(error))


def is_unreachable(error: Exception) -> bool:
    """Check whether an error means that Trino did not answer, and not that it refused a statement."""
    if isinstance(error, trino.exceptions.TrinoQueryError):
        return error.error_name in ("SERVER_STARTING_UP", "SERVER_SHUTTING_DOWN")
    kinds = (
        requests.RequestException,
        trino.exceptions.TrinoConnectionError,
        trino.exceptions.HttpError,
        OSError,
    )
    return isinstance(error, kinds)


def _short(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    # The HTTP client wraps the operating system's message in several layers of its own.
    reason = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    if reason:
        return reason.group(1)
    return text.splitlines()[0][:300]
