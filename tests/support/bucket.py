"""A test's own bucket in the stack's store, and threads that race over it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

from spark_streaming.storage.s3_request import Answer, ask
from tests.support.stack import Stack

JOB_S = 60.0
ONLY_IF_FREE = {"If-None-Match": "*"}
PART_BYTES = 5 << 20  # the smallest part that S3 accepts, except for the last
PAGE_LIMIT = 400


class Bucket:
    """The lake's bucket of a stack, for any number of threads."""

    def __init__(self, stack: Stack) -> None:
        settings = stack.settings
        self.name = settings.store.lake_bucket
        self._store = settings.store

    def ask(self, method: str, key: str = "", body: bytes = b"", **options: object) -> Answer:
        query = options.get("query")
        headers = options.get("headers")
        assert query is None or isinstance(query, dict)
        assert headers is None or isinstance(headers, dict)
        return ask(self._store, method, self.name, key, query=query, body=body, headers=headers)

    def put(self, key: str, body: bytes) -> None:
        answer = self.ask("PUT", key, body)
        assert answer.status == 200, f"PUT {key}: {answer.summary()}"

    def get(self, key: str) -> bytes:
        answer = self.ask("GET", key)
        assert answer.status == 200, f"GET {key}: {answer.summary()}"
        return answer.body

    def delete(self, key: str) -> None:
        answer = self.ask("DELETE", key)
        assert answer.status == 204, f"DELETE {key}: {answer.summary()}"

    def page(self, asked: dict[str, str]) -> tuple[dict[str, tuple[int, str]], list[str], str]:
        """A page: the objects' sizes and ETags by key in its order, its prefixes, what is next."""
        answer = self.ask("GET", query=asked)
        assert answer.status == 200, f"list {asked}: {answer.summary()}"
        tree = ElementTree.fromstring(answer.body)
        space = tree.tag.partition("}")[0] + "}"

        def said(node: ElementTree.Element, *path: str) -> str:
            return node.findtext("/".join(space + name for name in path)) or ""

        objects = [
            (said(node, "Key"), (int(said(node, "Size")), said(node, "ETag").strip('"')))
            for node in tree.iter(f"{space}Contents")
        ]
        assert len(objects) == len(dict(objects)), f"list {asked}: a key twice"
        prefixes = [said(node, "Prefix") for node in tree.iter(f"{space}CommonPrefixes")]
        following = said(tree, "NextContinuationToken") or said(tree, "NextMarker")
        if said(tree, "IsTruncated") == "true" and not following:
            following = objects[-1][0]  # S3's rule for a listing of the first version
        return dict(objects), prefixes, following

    def listing(
        self, version: int, asked: dict[str, str]
    ) -> tuple[dict[str, tuple[int, str]], list[str]]:
        """All pages of a listing of version 1 or 2."""
        first = {"list-type": "2", **asked} if version == 2 else dict(asked)
        if version == 1 and "start-after" in first:
            first["marker"] = first.pop("start-after")
        token = "continuation-token" if version == 2 else "marker"
        objects, prefixes, following = self.page(first)
        for _ in range(PAGE_LIMIT):
            if not following:
                return objects, prefixes
            more, more_prefixes, following = self.page({**first, token: following})
            objects.update(more)
            prefixes += more_prefixes
        raise AssertionError(f"more than {PAGE_LIMIT} pages of {asked}")


def digest(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def begin_upload(bucket: Bucket, key: str) -> str:
    answer = bucket.ask("POST", key, query={"uploads": ""})
    assert answer.status == 200, answer.summary()
    tree = ElementTree.fromstring(answer.body)
    return str(tree.findtext(f"{tree.tag.partition('}')[0]}}}UploadId"))


def put_part(bucket: Bucket, key: str, upload: str, number: int, body: bytes) -> None:
    query = {"partNumber": str(number), "uploadId": upload}
    assert bucket.ask("PUT", key, body, query=query).status == 200


def complete(
    bucket: Bucket, key: str, upload: str, parts: list[bytes], headers: dict[str, str] | None = None
) -> Answer:
    listed = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;{digest(part)}&quot;</ETag></Part>"
        for n, part in enumerate(parts, 1)
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return bucket.ask("POST", key, body, query={"uploadId": upload}, headers=headers)


def at_once(*jobs: Callable[[], object]) -> None:
    """Run all jobs at once; raises the first error of any."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait(JOB_S)
            job()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOB_S)
        assert not thread.is_alive(), f"a job took more than {JOB_S} s"
    if errors:
        raise errors[0]


@contextmanager
def meanwhile(*jobs: Callable[[], object]) -> Iterator[None]:
    """Repeat each job in its own thread until the block ends, which raises their errors."""
    errors: list[BaseException] = []
    ended = threading.Event()

    def run(job: Callable[[], object]) -> None:
        try:
            while not ended.is_set():
                job()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(JOB_S)
    assert not any(thread.is_alive() for thread in threads), f"a job took more than {JOB_S} s"
    if errors:
        raise errors[0]
