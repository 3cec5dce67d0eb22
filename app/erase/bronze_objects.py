"""Rewrites objects of bronze in place: one conditional put each, so that a reader sees the old object or the new one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from app.errors import HeadwaterError
from spark_streaming.compaction.compactor import Compactor
from spark_streaming.compaction.packing import Body, DamagedError, offsets_of
from spark_streaming.reading.erased_events import Erasure, rewritten
from spark_streaming.storage import s3_request
from spark_streaming.storage.s3_request import Answer
from spark_streaming.storage.store_address import ObjectStore

# Another erasure may rewrite the same object at the same time.
TRIES_MAX = 5
_METADATA = "x-amz-meta-"
_CHANGED, _CONFLICT, _GONE = 412, 409, 404
_VERSIONED = (b"<Status>Enabled<", b"<Status>Suspended<")

Ask = Callable[..., Answer]


def erase_events(
    objects: BronzeObjects,
    compactor: Compactor,
    place: tuple[str, int],
    offsets: Collection[int],
    erasure: Erasure,
) -> None:
    """Erase events of a partition (topic, number) in every object that has them. The erasure's plan is written.

    1. Finish what is being packed: from here on, nobody puts an object with these events.
    2. Rewrite the sink's objects and the packed ones that have the events.

    Raises: HeadwaterError, also if an event is in no object.
    """
    with _named(f"{place[0]} partition {place[1]}"):
        compactor.settle(*place)
        paths = compactor.holders(*place, offsets)
        kept_from = compactor.kept_from(*place)
    left = {offset for offset in offsets if offset >= kept_from}
    for path in paths:
        held = objects.held(path, offsets)
        try:
            if held:
                objects.erase(path, held, erasure)
        except HeadwaterError:
            if objects.held(path, offsets):
                raise
            continue  # it is packed, and was just deleted
        left -= held
    if left:
        raise HeadwaterError(
            "bronze does not have an event that it had when it was searched",
            detail=f"{place[0]} partition {place[1]} offset {min(left)}",
            hint="`./headwater verify --bronze` lists all problems of bronze",
        )


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (DamagedError, ValueError) as error:
        raise HeadwaterError(
            "an object of bronze cannot be read",
            detail=f"{what}: {error}",
            hint="`./headwater verify --bronze` lists all problems of bronze",
        ) from error
    except OSError as error:
        raise HeadwaterError(
            "the object store did not answer, or refused",
            detail=str(error),
            hint="`./headwater status s3`; run the erasure again: it continues where it was",
        ) from error


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

    def held(self, path: str, offsets: Collection[int]) -> set[int]:
        """Return which of these offsets an object has; none if it is gone.

        Raises: HeadwaterError if the store does not answer or refuses, or the object cannot be read.
        """
        answer = self._sent("GET", path)
        if answer.status == _GONE:
            return set()
        if not answer.ok:
            raise _refused("read", path, answer)
        with _named(path):
            return {offset for offset, _ in offsets_of(Body(path, answer.body))} & {*offsets}

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
