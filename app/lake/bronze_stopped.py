"""Lists the partitions that the bronze sink does not write for now, from its notes in the bucket.

The sink's task keeps running for all other partitions, so its state does not show them
(`Stopped.java`).
"""

from __future__ import annotations

import time
from typing import NamedTuple
from xml.etree import ElementTree

import orjson

from app.environment.settings import Settings
from spark_streaming.storage.s3_request import ask

NOTES = "_headwater/bronze-stopped/"
# The sink repeats a note at each attempt, every 30 s at most, unless it waits for the object store.
FRESH_S = 300.0


class StoppedPartition(NamedTuple):
    """A partition that is not written: since when (s since 1970), and why, with a hint."""

    topic: str
    partition: int
    since: float
    why: str

    def message(self) -> str:
        """Return the message for people."""
        return f"bronze does not keep {self.topic} partition {self.partition}: {self.why}"


def stopped_partitions(settings: Settings, now: float | None = None) -> list[StoppedPartition]:
    """List the partitions that the sink does not write, in the order of their names.

    Args:
        now: seconds since 1970; a note older than FRESH_S belongs to a sink that has ended.
    Raises: OSError if the object store does not answer as it should.
    """
    now = time.time() if now is None else now
    # Without pyarrow, whose import would take a second in each `status`.
    store = settings.store
    listing = ask(store, "GET", store.bronze_bucket, query={"list-type": "2", "prefix": NOTES})
    if not listing.ok:
        raise OSError(f"could not list {NOTES}: {listing.summary()}")
    stopped = []
    for node in ElementTree.fromstring(listing.body).iter():
        key = node.text or ""
        if not node.tag.endswith("}Key") or not key.endswith(".json"):
            continue
        answer = ask(store, "GET", store.bronze_bucket, key)
        if not answer.ok:
            continue  # written again since it was listed
        note = orjson.loads(answer.body)
        if now - note["at_ms"] / 1_000 < FRESH_S:
            topic, name = key.removeprefix(NOTES).rsplit("/", 1)
            number = int(name.removesuffix(".json"))
            stopped.append(StoppedPartition(topic, number, note["since_ms"] / 1_000, note["why"]))
    return sorted(stopped)
