"""Proves, before a process writes, that the store refuses a second conditional put of one name.

Delta commits and objects of bronze depend on this refusal. A store that ignores
`If-None-Match: *`, as Google's S3 interface does, would let two writers overwrite each other
silently.
"""

from __future__ import annotations

import requests

from spark_streaming.storage.s3_request import Answer, ask
from spark_streaming.storage.store_address import ObjectStore

# The first writer ever puts one empty object into a bucket; each later proof is one refused put of
# it. The bronze sink, and the service `s3` in front of Google's store, use the same name.
PROBE = "_headwater/conditional-put"
ONLY_IF_FREE = {"If-None-Match": "*"}
_TAKEN = (409, 412)  # 409: another put of the name is under way

_proved: set[tuple[str, str]] = set()


class OverwritingStore(OSError):
    """The store accepted a put of a name that is taken; nothing may be written to it."""


def prove_conditional_puts(store: ObjectStore, bucket: str) -> None:
    """Put one name twice on the condition that it is free; done once per process and bucket.

    Raises: OverwritingStore if the second put is accepted; OSError if the store cannot be asked.
    """
    if (store.endpoint, bucket) in _proved:
        return
    first = _put(store, bucket)
    if first.ok:
        second = _put(store, bucket)
        if second.ok:
            raise OverwritingStore(
                f"the object store at {store.endpoint} overwrote {bucket}/{PROBE} in spite of "
                "`If-None-Match: *`: two writers would overwrite each other's commits\n"
                "hint: use a store that honours it; for Google Cloud Storage set gcs_credentials"
            )
        first = second
    if first.status not in _TAKEN:
        raise OSError(f"could not put {bucket}/{PROBE} to {store.endpoint}: {first.summary()}")
    _proved.add((store.endpoint, bucket))


def _put(store: ObjectStore, bucket: str) -> Answer:
    try:
        return ask(store, "PUT", bucket, PROBE, headers=ONLY_IF_FREE)
    except requests.RequestException as error:  # an OSError, whose text names the whole pool
        raise OSError(f"the object store at {store.endpoint} does not answer: {error}") from error
