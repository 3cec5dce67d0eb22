"""An object store's answers to the requests with which bronze is packed and erased, over a mapping or a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from spark_streaming.storage.s3_request import Answer
from spark_streaming.storage.store_address import ObjectStore

STORE = ObjectStore("http://localhost:1", "us-east-1", "key", "secret")
PAGE = 1_000


class Object(NamedTuple):
    """An object: its bytes, its headers, when it was put."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    put_at: float = 0.0

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


Objects = MutableMapping[str, Object]


class Folder(Objects):
    """Objects as files below a folder; their headers are in memory, their times are the files'."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._headers: dict[str, tuple[tuple[str, str], ...]] = {}

    def __getitem__(self, key: str) -> Object:
        path = self._folder / key
        if not path.is_file():
            raise KeyError(key)
        return Object(path.read_bytes(), self._headers.get(key, ()), path.stat().st_mtime)

    def __setitem__(self, key: str, one: Object) -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.body)
        self._headers[key] = one.headers
        if one.put_at:
            os.utime(path, (one.put_at, one.put_at))

    def __delitem__(self, key: str) -> None:
        path = self._folder / key
        path.unlink()
        for folder in path.relative_to(self._folder).parents[:-1]:
            if not any((self._folder / folder).iterdir()):
                (self._folder / folder).rmdir()

    def __iter__(self) -> Iterator[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return iter(sorted(str(path.relative_to(self._folder)) for path in files))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FakeStore:
    """A store over `objects`; `now` is its time."""

    def __init__(self, objects: Objects, now: float = 0.0) -> None:
        self.objects = objects
        self.now = now
        self.requests: list[tuple[str, str]] = []

    def ask(self, _: Any, method: str, __: str, key: str = "", **more: Any) -> Answer:
        """Answer a request as `s3_request.ask` does."""
        self.requests.append((method, key or str(more.get("query"))))
        return answer(self.objects, self.now, method, key, **more)


def answer(
    objects: Objects,
    now: float,
    method: str,
    key: str = "",
    *,
    query: Mapping[str, str] | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer one request; a put changes `objects`."""
    if not key:
        return _listing(objects, now, query or {})
    old = objects.get(key)
    if method == "GET":
        return (
            Answer(404, code="NoSuchKey")
            if old is None
            else Answer(200, old.body, headers=_said(old))
        )
    if method == "DELETE":
        objects.pop(key, None)
        return Answer(204)
    given = dict(headers or {})
    if given.pop("If-None-Match", None) and old is not None:
        return Answer(412)
    wanted = given.pop("If-Match", None)
    if wanted is not None and old is None:
        return Answer(404, code="NoSuchKey")
    if wanted is not None and old is not None and wanted.strip('"') != old.etag:
        return Answer(412)
    objects[key] = Object(body, tuple(sorted(given.items())), now)
    return Answer(200)


def _said(one: Object) -> dict[str, str]:
    at = format_datetime(datetime.fromtimestamp(one.put_at, timezone.utc), usegmt=True)
    return {**dict(one.headers), "etag": f'"{one.etag}"', "last-modified": at}


def _listing(objects: Objects, now: float, query: Mapping[str, str]) -> Answer:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", "")
    parts, number, last, more = [], 0, "", False
    folders = set[str]()
    for key in sorted(key for key in objects if key.startswith(prefix) and key > after):
        below = key[len(prefix) :]
        if delimiter and delimiter in below:
            folders.add(prefix + below.split(delimiter)[0] + delimiter)
            continue
        if number == PAGE:
            more = True
            break
        one = objects[key]
        at = datetime.fromtimestamp(one.put_at, timezone.utc).isoformat().replace("+00:00", "Z")
        parts.append(
            f'<Contents><Key>{escape(key)}</Key><LastModified>{at}</LastModified><ETag>"{one.etag}"</ETag>'
            f"<Size>{len(one.body)}</Size></Contents>"
        )
        number, last = number + 1, key
    parts += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders)]
    if more:
        parts.append(f"<NextContinuationToken>{escape(last)}</NextContinuationToken>")
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    text = f"<ListBucketResult {space}>{''.join(parts)}</ListBucketResult>"
    at = format_datetime(datetime.fromtimestamp(now, timezone.utc), usegmt=True)
    return Answer(200, text.encode(), headers={"date": at})
