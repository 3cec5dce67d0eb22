"""Reads and changes a database's address in libpq's `postgresql://` form."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlsplit

from app.errors import HeadwaterError


def with_user(dsn: str, user: str, password: str) -> str:
    """Return the DSN with another user and password, otherwise unchanged.

    Raises: HeadwaterError if it is not such a URL.
    """
    parts = re.match(r"^(postgres(?:ql)?://)(?:[^@/]*@)?(.*)$", dsn)
    if parts is None:
        raise HeadwaterError("the source must be given as postgresql://user:password@host:port/db")
    rest, _, query = parts.group(2).partition("?")
    # User and password in the query would override those before the host.
    options = [o for o in query.split("&") if o.partition("=")[0] not in ("user", "password", "")]
    return f"{parts.group(1)}{user}:{quote(password)}@{rest}{'?' if options else ''}{'&'.join(options)}"


def query_of(dsn: str) -> dict[str, str]:
    """Return the options in a DSN's query: name → value."""
    return dict(parse_qsl(urlsplit(dsn).query))


def without_secrets(dsn: str) -> str:
    """Return the DSN without any password, for messages."""
    parts = re.match(r"^((?:postgres(?:ql)?|mysql)://)([^@/]*@)?(.*)$", dsn)
    if parts is None:
        return "postgresql://"
    user = (parts.group(2) or "").partition(":")[0].removesuffix("@")
    rest, _, query = parts.group(3).partition("?")
    options = [o for o in query.split("&") if o and "password" not in o.partition("=")[0]]
    address = f"{parts.group(1)}{user}{'@' if user else ''}{rest}"
    return f"{address}?{'&'.join(options)}" if options else address
