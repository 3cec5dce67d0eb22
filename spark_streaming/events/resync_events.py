"""The event that ends a resync of a table, in each partition of its topic.

`capture` writes it after the rows that a resync read. It says that rows which silver has from before
the resync are not in the source any more. Its operation is Debezium's for a message (`m`), so a
reader that does not know it skips it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent

PREFIX = "headwater.resync"
# Bronze holds an event as text within JSON, so its quotes are escaped there.
IN_BRONZE = b'\\"prefix\\":\\"headwater.resync\\"'


class ResyncEnd(NamedTuple):
    """The end of a resync.

    Args:
        below_lsn: silver removes rows with a lower `_lsn` when the end has been read in all partitions.
        partitions: number of the topic's partitions that have an end: 0 to partitions - 1.
    """

    below_lsn: Lsn
    partitions: int


def resync_end(
    schema: str, table: str, end: ResyncEnd, *, resync: str, at_ms: int, prefix: str
) -> bytes:
    """Return the value of the event; it has no key.

    Args:
        resync: a name of the resync, for people.
        at_ms: the time, ms since 1970.
        prefix: the topics' prefix, as in other events.
    """
    return orjson.dumps(
        {
            "op": "m",
            "before": None,
            "after": None,
            "message": {
                "prefix": PREFIX,
                "content": {**end._asdict(), "resync": resync},
            },
            "source": {
                "connector": "headwater",
                "name": prefix,
                "ts_ms": at_ms,
                "schema": schema,
                "table": table,
                "lsn": end.below_lsn,
            },
            "ts_ms": at_ms,
            "transaction": None,
        }
    )


def end_of(document: Mapping[str, Any]) -> ResyncEnd | None:
    """Return the end of a resync that an event holds; None for any other event.

    Raises: KeyError, TypeError, ValueError if it is malformed.
    """
    message = document.get("message")
    if document.get("op") != "m" or not isinstance(message, dict):
        return None
    if message.get("prefix") != PREFIX:
        return None
    content = message["content"]
    return ResyncEnd(Lsn(int(content["below_lsn"])), int(content["partitions"]))


def is_resync_end(event: RawEvent) -> bool:
    """Whether an event ends a resync."""
    if event.key is not None or event.value is None or PREFIX.encode() not in event.value:
        return False
    try:
        return end_of(orjson.loads(event.value)) is not None
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return False
