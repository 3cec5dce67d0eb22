"""Asks an HTTP service by URLs that name a user, without a password in any URL that is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.environment.loopback import direct_session

if TYPE_CHECKING:
    import requests


def signed_in(urls: Iterable[str]) -> tuple[requests.Session, list[str]]:
    """Return a session that signs in as the first URL's user, and the URLs without users.

    The errors of `requests` quote the whole URL that was asked, so a password in it would get into logs.
    """
    session = direct_session()
    bare = []
    for url in urls:
        parts = urlsplit(url)
        if session.auth is None and parts.username is not None:
            session.auth = (unquote(parts.username), unquote(parts.password or ""))
        bare.append(without_user(url))
    return session, bare


def without_user(url: str) -> str:
    """Return the URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
