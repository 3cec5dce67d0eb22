"""Connects to Trino and turns its failures into errors with a hint."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import requests
import trino.dbapi
import trino.exceptions

from app.errors import HeadwaterError

CATALOG = "lake"
SCHEMA = "silver"
REQUEST_TIMEOUT_S = 30.0  # one HTTP exchange; a query may take many
ATTEMPTS_MAX = 3

# Trino's error name → what to do about it.
_HINTS = {
    "TABLE_NOT_FOUND": "see what is there: headwater sql 'SHOW TABLES FROM silver'",
    "SCHEMA_NOT_FOUND": "see what is there: headwater sql 'SHOW SCHEMAS FROM lake'",
    "COLUMN_NOT_FOUND": "see the columns: headwater sql 'DESCRIBE silver.TABLE'",
    "PERMISSION_DENIED": "silver, ops and reports are written by the stack only; "
    "make tables of your own in a schema of your own: CREATE SCHEMA lake.mine",
    "SERVER_STARTING_UP": "Trino is starting; ask again when `headwater status trino` says ready",
    "EXCEEDED_LOCAL_MEMORY_LIMIT": "ask for fewer rows or columns at once, or raise Trino's heap "
    "(trino/README.md, Memory)",
    "VIEW_IS_STALE": "the source's columns changed; the view is made again within a minute",
}


def connect(
    url: str, *, user: str = "headwater", legacy_primitive_types: bool = False
) -> trino.dbapi.Connection:
    """Make a connection to the Trino at `url`; it sends nothing yet.

    Args:
        url: `http://host:port`.
        user: the user name; only `registrar` may change silver, ops and reports.
        legacy_primitive_types: return values in Trino's own JSON form, exact for every type.
    Returns: a DBAPI connection with catalog `lake`, schema `silver`, time zone UTC.
    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise HeadwaterError(f"not an address of Trino: {url}", hint="give http://host:port")
    return trino.dbapi.connect(
        host=parts.hostname,
        port=parts.port or (443 if parts.scheme == "https" else 80),
        http_scheme=parts.scheme,
        user=user,
        catalog=CATALOG,
        schema=SCHEMA,
        source="headwater",
        timezone="UTC",
        max_attempts=ATTEMPTS_MAX,
        request_timeout=REQUEST_TIMEOUT_S,
        legacy_primitive_types=legacy_primitive_types,
    )


def explain(error: Exception, url: str) -> HeadwaterError:
    """Return the error to show for an exception of a DBAPI call against `url`."""
    if isinstance(error, trino.exceptions.TrinoQueryError):
        name = error.error_name or "unknown"
        return HeadwaterError(
            f"Trino could not run the statement ({name})",
            detail=str(error.message),
            hint=_HINTS.get(name, ""),
        )
    if is_unreachable(error):
        return HeadwaterError(
            f"Trino does not answer at {url}",
            detail=_short(error),
            hint="is the stack up? see `headwater status trino`",
        )
    return HeadwaterError("the exchange with Trino failed", detail=_short(error))


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
