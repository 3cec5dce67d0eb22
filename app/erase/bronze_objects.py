"""Rewrites objects of bronze in place: one conditional put each, so that a reader sees the old object or the new one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import requests

from app.errors import HeadwaterError
from spark_streaming.reading.erased_events import Erasure, rewritten
from spark_streaming.storage import s3_request
from spark_streaming.storage.s3_request import Answer
from spark_streaming.storage.store_address import ObjectStore

# Another erasure may rewrite the same object at the same time.
TRIES_MAX = 5
_METADATA = "x-amz-meta-"
_CHANGED, _CONFLICT = 412, 409
_VERSIONED = (b"<Status>Enabled<", b"<Status>Suspended<")

Ask = Callable[..., Answer]


class BronzeObjects:
    """The objects of a bronze bucket, as this command changes them."""

    def __init__(self, store: ObjectStore, ask: Ask = s3_request.ask) -> None:
        self._store = store
        self._ask = ask

    def erase(self, path: str, offsets: Collection[int], erasure: Erasure) -> bool:
        """Erase the events at these offsets from an object; name, metadata and all other events stay.

        1. Read the object with its ETag and its metadata.
        2. Put the new one on the condition that the ETag is still the same.

        Returns: whether the object was changed; False if the events were erased already.
        Raises: HeadwaterError if the store does not answer, refuses, or the object holds other events.
        """
        for _ in range(TRIES_MAX):
            old = self._sent("GET", path)
            if not old.ok:
                raise _refused("read", path, old)
            try:
                new = rewritten(old.body, offsets, erasure)
            except (ValueError, KeyError, EOFError, OSError) as error:
                raise HeadwaterError(
                    "an object of bronze is not as it was when it was searched",
                    detail=f"{path}: {type(error).__name__}: {error}",
                    hint="`./headwater verify --bronze` lists all problems of bronze",
                ) from error
            if new is None:
                return False
            answer = self._sent("PUT", path, body=new, headers=_headers(old.headers))
            if answer.ok:
                return True
            if answer.status not in (_CHANGED, _CONFLICT):
                raise _refused("put", path, answer)
        raise HeadwaterError(
            "an object of bronze is being rewritten again and again",
            detail=f"{path}: changed {TRIES_MAX} times between the read and the put",
            hint="is another erasure running? Run this again afterwards",
        )

    def keeps_versions(self) -> bool:
        """Whether the bucket keeps older versions of objects; False if the store does not say."""
        answer = self._sent("GET", "", query={"versioning": ""})
        return answer.ok and any(word in answer.body for word in _VERSIONED)

    def _sent(self, method: str, path: str, **more: Any) -> Answer:
        try:
            return self._ask(self._store, method, self._store.bronze_bucket, path, **more)
        except requests.RequestException as error:
            raise HeadwaterError(
                "the object store did not answer",
                detail=f"{method} {path}: {type(error).__name__}",
                hint="`./headwater status s3`; run the erasure again: it continues where it was",
            ) from error


def _headers(old: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the put. Raises: HeadwaterError if the store gave no ETag."""
    if not old.get("etag"):
        raise HeadwaterError(
            "the object store gave no ETag, so no put can depend on the old object"
        )
    kept = {n: v for n, v in old.items() if n.startswith(_METADATA) or n == "content-type"}
    return {**kept, "If-Match": old["etag"]}


def _refused(doing: str, path: str, answer: Answer) -> HeadwaterError:
    return HeadwaterError(
        f"the object store refused to {doing} an object of bronze",
        detail=f"{path}: {answer.summary()}",
        hint="an erasure needs the right to read and to put objects of bronze",
    )
