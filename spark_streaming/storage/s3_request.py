"""Sends one signed request (AWS Signature Version 4) to an S3 object store.

None of the project's client libraries can both put on a condition and make buckets. One that can
would add 15 MB for the few requests of a check.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import requests

from spark_streaming.storage.store_address import ObjectStore

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
_SIGNED = "x-amz-"
_ALGORITHM = "AWS4-HMAC-SHA256"
_COLOURS = re.compile(r"\x1b\[\d*m|↳")
_ERROR = re.compile(r"<Error\b.*?</Error>", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """The answer of an object store; `code` and `message` are S3's own, "" if it sent none.

    `headers` have names in lower case.
    """

    status: int
    body: bytes = b""
    code: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def summary(self) -> str:
        """Return a few words: `HTTP 403 AccessDenied: Access Denied.`"""
        text = ": ".join(part for part in (self.code, self.message) if part)
        return f"HTTP {self.status} {text}".rstrip()


def ask(
    store: ObjectStore,
    method: str,
    bucket: str,
    key: str = "",
    *,
    query: Mapping[str, str] | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request. Raises: requests.RequestException if there is no answer."""
    path = quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/~")
    parts = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}"
        for name, value in sorted((query or {}).items())
    )
    now = datetime.now(timezone.utc)
    signed = signature_headers(store, method, path, parts, body, now, headers or {})
    with requests.Session() as session:
        # Services ignore the shell's proxy: a store that only the proxy reaches would be of no use
        # to them.
        session.trust_env = False
        session.verify = os.environ.get(
            "REQUESTS_CA_BUNDLE", True
        )  # the stack's own, if it has one
        answer = session.request(
            method,
            f"{store.endpoint.rstrip('/')}{path}{'?' if parts else ''}{parts}",
            data=body or None,
            headers={**signed, **(headers or {})},
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,
        )
    named = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status_code, answer.content, *error_of(answer.content), named)


def signature_headers(
    store: ObjectStore,
    method: str,
    path: str,
    query: str,
    body: bytes,
    now: datetime,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the headers that sign a request; `path` and `query` (sorted) as they are sent.

    Those of `headers` that begin with `x-amz-` are signed, too: S3 refuses them otherwise.
    """
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    scope = f"{day}/{store.region}/s3/aws4_request"
    given = {
        "host": urlsplit(store.endpoint).netloc,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": stamp,
    }
    given |= {n.lower(): v.strip() for n, v in headers.items() if n.lower().startswith(_SIGNED)}
    given = dict(sorted(given.items()))
    names = ";".join(given)
    canonical = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{value}" for name, value in given.items()),
            "",
            names,
            given["x-amz-content-sha256"],
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    secret = f"AWS4{store.secret_key}".encode()
    for part in (day, store.region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    text = "\n".join([_ALGORITHM, stamp, scope, digest])
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    credential = f"Credential={store.access_key}/{scope}"
    return {
        "x-amz-content-sha256": given["x-amz-content-sha256"],
        "x-amz-date": stamp,
        "Authorization": f"{_ALGORITHM} {credential},SignedHeaders={names},Signature={signature}",
    }


def error_of(body: bytes) -> tuple[str, str]:
    """Return S3's error code and message from a body; "" if it is not an S3 error."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", ""
    if root.tag.rpartition("}")[2] != "Error":
        return "", ""
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root}
    return found.get("Code", ""), found.get("Message", "")[:200]


def store_cause(error: Exception) -> str:
    """Return the cause of an error in one line. The texts of obstore and delta-rs have many lines."""
    text = _COLOURS.sub("", str(error)).partition("\n\nDebug source")[0].strip()
    if answer := _ERROR.search(text):
        code, message = error_of(answer[0].encode())
        if code:
            return f"{code}: {message}"
    return text.splitlines()[-1].strip() if text else type(error).__name__
