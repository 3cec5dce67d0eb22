"""An object of bronze is replaced only if nobody changed it meanwhile, and keeps its metadata."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from app.erase.bronze_objects import TRIES_MAX, BronzeObjects
from app.errors import HeadwaterError
from spark_streaming.reading.erased_events import Erasure
from spark_streaming.storage.s3_request import Answer
from spark_streaming.storage.store_address import ObjectStore
from tests.unit.spark_streaming.reading.test_erased_events import OBJECT, lines_of

STORE = ObjectStore("http://localhost:1", "us-east-1", "key", "secret")
ERASURE = Erasure("one", "2026-11-25T05:00:00+00:00")
METADATA = {
    "x-amz-meta-seal": "s",
    "x-amz-meta-last-offset": "23",
    "content-type": "application/gzip",
}


class FakeStore:
    """An object store with one object; `others` change it before each of so many puts."""

    def __init__(self, others: int = 0) -> None:
        self.body, self.version = OBJECT, 1
        self.metadata: dict[str, str] = dict(METADATA)
        self.others = others
        self.puts = 0
        self.status = 0
        self.versioning = b"<VersioningConfiguration/>"

    def ask(
        self, store: ObjectStore, method: str, bucket: str, key: str = "", *,
        query: Mapping[str, str] | None = None, body: bytes = b"", headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        if query:
            return Answer(200, self.versioning)
        if self.status:
            return Answer(self.status)
        if method == "GET":
            shown = {**self.metadata, "etag": f'"{self.version}"', "date": "today"}
            return Answer(200, self.body, headers=shown)
        self.puts += 1
        if self.others:
            self.others -= 1
            self.version += 1
        given = dict(headers or {})
        if given.pop("If-Match") != f'"{self.version}"':
            return Answer(412)
        self.body, self.version, self.metadata = body, self.version + 1, given
        return Answer(200)


def test_an_object_is_replaced_under_its_name_with_all_of_its_metadata() -> None:
    store = FakeStore()
    assert BronzeObjects(STORE, store.ask).erase("a/b", [20], ERASURE)
    assert store.metadata == METADATA
    assert lines_of(store.body)[0]["value"] is None and lines_of(store.body)[1]["value"] is not None


def test_an_object_that_another_erasure_changed_meanwhile_is_read_again() -> None:
    store = FakeStore(others=2)
    assert BronzeObjects(STORE, store.ask).erase("a/b", [20], ERASURE)
    assert store.puts == 3 and b"erased" in gzip.decompress(store.body)


def test_an_object_that_changes_again_and_again_ends_the_erasure() -> None:
    store = FakeStore(others=TRIES_MAX)
    with pytest.raises(HeadwaterError, match="again and again"):
        BronzeObjects(STORE, store.ask).erase("a/b", [20], ERASURE)
    assert store.body == OBJECT


def test_a_second_erasure_of_the_same_events_puts_nothing() -> None:
    store = FakeStore()
    objects = BronzeObjects(STORE, store.ask)
    objects.erase("a/b", [20], ERASURE)
    assert not objects.erase("a/b", [20], ERASURE) and store.puts == 1


def test_without_an_etag_nothing_is_put() -> None:
    store = FakeStore()

    def ask(*words: Any, **more: Any) -> Answer:
        answer = store.ask(*words, **more)
        return Answer(answer.status, answer.body, headers={})

    with pytest.raises(HeadwaterError, match="no ETag"):
        BronzeObjects(STORE, ask).erase("a/b", [20], ERASURE)
    assert store.puts == 0


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_store_that_refuses_is_named_with_the_object(status: int) -> None:
    store = FakeStore()
    store.status = status
    with pytest.raises(HeadwaterError) as refused:
        BronzeObjects(STORE, store.ask).erase("a/b", [20], ERASURE)
    assert f"a/b: HTTP {status}" in (refused.value.detail or "")


def test_a_store_that_does_not_answer_leaves_the_erasure_to_be_continued() -> None:
    def ask(*_: Any, **__: Any) -> Answer:
        raise requests.ConnectionError("no")

    with pytest.raises(HeadwaterError) as away:
        BronzeObjects(STORE, ask).erase("a/b", [20], ERASURE)
    assert "continues" in (away.value.hint or "")


def test_an_object_that_lost_the_events_is_not_rewritten() -> None:
    store = FakeStore()
    with pytest.raises(HeadwaterError, match="not as it was"):
        BronzeObjects(STORE, store.ask).erase("a/b", [99], ERASURE)
    assert store.puts == 0


def test_a_bucket_that_keeps_versions_is_noticed() -> None:
    store = FakeStore()
    assert not BronzeObjects(STORE, store.ask).keeps_versions()
    store.versioning = (
        b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    assert BronzeObjects(STORE, store.ask).keeps_versions()
