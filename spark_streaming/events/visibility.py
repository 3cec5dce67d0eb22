"""From which commit on a reader of the source sees an event's change.

A streamed event does not say where its own transaction commits, but which commit came last before
it (`source.sequence`). Transactions are streamed whole, in the order of their commits. So its own
commit is the first one after that.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import parse_sequence
from spark_streaming.events.resync_events import end_of


class Origin(NamedTuple):
    """Where an event comes from in the source's log.

    Args:
        after_commit: the last commit before its transaction; None for rows of a first snapshot and
            ends of a resync, which are visible at `lsn`.
        lsn: its own position; None if it names none.
    """

    after_commit: Lsn | None
    lsn: Lsn | None


def origin_of(event: RawEvent) -> Origin | None:
    """Return an event's origin; None for tombstones and records that are not events of a row."""
    if event.value is None:
        return None
    try:
        document = orjson.loads(event.value)
        source = document["source"]
        if document["op"] == "m":
            end = end_of(document)
            return None if end is None else Origin(None, end.below_lsn)
        before, position = parse_sequence(source["sequence"])
        lsn = source["lsn"] if source["lsn"] is not None else position
        own = None if lsn is None else Lsn(int(lsn))
        if document["op"] == "r" and source.get("snapshot") != "incremental":
            return Origin(None, own)
        return Origin(before or LOG_START, own)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
