"""The requests to the bucket of bronze that packing needs: each put and each replacement on a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from xml.etree import ElementTree

import requests

from spark_streaming.storage import s3_request
from spark_streaming.storage.s3_request import Answer
from spark_streaming.storage.store_address import ObjectStore

Ask = Callable[..., Answer]
METADATA = "x-amz-meta-"
# The condition is not met: another one was first.
_TAKEN = (409, 412)
_GONE = 404
_DENIED = (401, 403)


class StoreError(OSError):
    """The store did not answer, or refused; the text names the request."""


class DeniedError(StoreError):
    """The store does not allow the request."""


class Listed(NamedTuple):
    """An object in a listing; `put_at` in seconds since 1970, by the store's clock."""

    path: str
    etag: str
    size: int
    put_at: float


class Stored(NamedTuple):
    """An object's content, its ETag, its headers `x-amz-meta-…`, and when it was put (0: unknown)."""

    body: bytes
    etag: str
    metadata: Mapping[str, str]
    put_at: float


class BronzeStore:
    """A bronze bucket.

    Args:
        ask: sends a request (`s3_request.ask`).
    """

    def __init__(self, store: ObjectStore, ask: Ask = s3_request.ask) -> None:
        self._store = store
        self._ask = ask

    def folders(self, prefix: str) -> list[str]:
        """Return the folders below a folder, without the slash at the end, sorted."""
        found: list[str] = []
        for page in self._pages(prefix, delimiter="/"):
            nodes = (node for node in page.iter() if _tag(node) == "CommonPrefixes")
            found += [child.text or "" for node in nodes for child in node]
        return sorted(path.rstrip("/") for path in found)

    def objects(self, folder: str) -> list[Listed]:
        """Return the objects below a folder, by name."""
        found = []
        for page in self._pages(folder):
            for node in page.iter():
                if _tag(node) == "Contents":
                    said = {_tag(child): child.text or "" for child in node}
                    put_at = datetime.fromisoformat(said["LastModified"].replace("Z", "+00:00"))
                    etag = said["ETag"].strip('"')
                    size = int(said["Size"])
                    found.append(Listed(said["Key"], etag, size, put_at.timestamp()))
        return sorted(found)

    def get(self, path: str) -> Stored | None:
        """Return an object; None if there is none."""
        answer = self._sent("GET", path)
        if answer.status == _GONE:
            return None
        if not answer.ok:
            raise _refused("GET", path, answer)
        kept = {n: v for n, v in answer.headers.items() if n.startswith(METADATA)}
        etag = answer.headers.get("etag", "").strip('"')
        return Stored(answer.body, etag, kept, _time(answer.headers.get("last-modified")))

    def put_new(self, path: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Put an object under a name that must be free. Returns: whether it was."""
        return self._put(path, body, {**headers, "If-None-Match": "*"})

    def replace(self, path: str, body: bytes, etag: str) -> bool:
        """Replace an object if it has this ETag still; put a new one without. Returns: whether it was done."""
        return self._put(path, body, {"If-Match": f'"{etag}"'} if etag else {"If-None-Match": "*"})

    def delete(self, path: str) -> None:
        """Delete an object; it may be gone already."""
        answer = self._sent("DELETE", path)
        if not answer.ok and answer.status != _GONE:
            raise _refused("DELETE", path, answer)

    def now(self) -> float:
        """Return the store's time (seconds since 1970): the ages of objects are by its clock."""
        answer = self._sent("GET", "", query={"list-type": "2", "max-keys": "1"})
        return _time(answer.headers.get("date")) or datetime.now(timezone.utc).timestamp()

    def _put(self, path: str, body: bytes, headers: Mapping[str, str]) -> bool:
        answer = self._sent("PUT", path, body=body, headers=headers)
        if answer.ok:
            return True
        # A replacement of an object that is gone.
        if answer.status in _TAKEN or (answer.status == _GONE and "If-Match" in headers):
            return False
        raise _refused("PUT", path, answer)

    def _pages(self, folder: str, **more: str) -> Iterator[ElementTree.Element]:
        query = {"list-type": "2", "prefix": f"{folder}/" if folder else "", **more}
        while True:
            answer = self._sent("GET", "", query=query)
            if not answer.ok:
                raise _refused("list", folder, answer)
            page = ElementTree.fromstring(answer.body)
            yield page
            following = [n.text or "" for n in page.iter() if _tag(n) == "NextContinuationToken"]
            if not following:
                return
            query["continuation-token"] = following[0]

    def _sent(self, method: str, path: str, **more: Any) -> Answer:
        try:
            return self._ask(self._store, method, self._store.bronze_bucket, path, **more)
        except requests.RequestException as error:
            raise StoreError(f"{method} {path}: {type(error).__name__}") from error


def _refused(doing: str, path: str, answer: Answer) -> StoreError:
    kind = DeniedError if answer.status in _DENIED else StoreError
    return kind(f"{doing} {path}: {answer.summary()}")


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _time(text: str | None) -> float:
    return parsedate_to_datetime(text).timestamp() if text else 0.0
