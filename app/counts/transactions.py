"""Reads the connector's records about transactions: END records, and the events' own numbers.

A table's event has the block `transaction`: `id` is `<32-bit transaction id>:<LSN of the event>`,
and `data_collection_order` is its number among the transaction's events of the table, from 1. The
END record in the topic `<prefix>.transaction` has the number of events of each table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.contract.names import topic_of

TOPIC = "transaction"
# Our connector puts this header on each END record. It means: the counts are those of the log,
# also if the connector was restarted within the transaction.
COUNTED_HEADER = "headwater.counted"
# Within a line of bronze the event is a JSON text of its own. A column's value that holds these
# words has its quotes escaped once more, so it never matches.
_BLOCK = re.compile(
    rb'\\"transaction\\":\{\\"id\\":\\"(\d+):(\d+)\\",\\"total_order\\":\d+,'
    rb'\\"data_collection_order\\":(\d+)\}'
)
_SEQUENCE = re.compile(rb'\\"sequence\\":\\"\[(?:null|\\\\\\"(\d+)\\\\\\"),')


class End(NamedTuple):
    """A transaction's END record.

    Args:
        xid: 32 bits; the source reuses it after four billion transactions.
        lsn: the LSN of its commit, in bytes.
        expected: topic → number of its events.
        counted: whether the connector counted all events that the log has of the transaction. If
            not, the numbers may start again at 1 after a restart within the transaction.
    """

    xid: int
    lsn: Lsn
    expected: dict[str, int]
    counted: bool


class EventRun(NamedTuple):
    """Consecutive events of one transaction: how many, the sum of their numbers in the transaction
    and table, and the LSN of the last."""

    xid: int
    events: int
    numbers: int
    lsn: Lsn


def ends(body: bytes, prefix: str) -> Iterator[tuple[int, End]]:
    """Read the END records of an object of the transaction topic, with their offsets.

    Raises: ValueError if a line is not such a record.
    """
    for line in body.splitlines():
        document = orjson.loads(line)
        value = document["value"]
        if not isinstance(value, str):
            continue
        record = orjson.loads(value)
        if record["status"] != "END":
            continue
        xid, _, lsn = record["id"].partition(":")
        expected: dict[str, int] = {}
        for one in record["data_collections"] or ():
            topic = _topic(prefix, one["data_collection"])
            if topic is not None and one["event_count"]:
                expected[topic] = expected.get(topic, 0) + one["event_count"]
        counted = any(name == COUNTED_HEADER for name, _ in document["headers"])
        yield document["offset"], End(int(xid), Lsn(int(lsn)), expected, counted)


def _topic(prefix: str, collection: str) -> str | None:
    """Return the topic of `<schema>.<table>`; None for logical messages, which have no table."""
    schema, dot, table = collection.partition(".")
    if not dot or collection.startswith("io.debezium."):
        return None
    return topic_of(prefix, schema, table)


def last_offset(body: bytes) -> int:
    """Return the offset of an object's last record. Raises: ValueError, KeyError for a bad line."""
    return int(orjson.loads(body[body.rfind(b"\n", 0, -1) + 1 :])["offset"])


def from_offset(body: bytes, offset: int) -> bytes:
    """Return an object's lines from an offset on."""
    at = 0
    while at < len(body):
        end = body.find(b"\n", at) + 1
        if orjson.loads(body[at:end])["offset"] >= offset:
            break
        at = end
    return body[at:]


def events(body: bytes) -> list[EventRun]:
    """Read the transactions of an object of a table's topic, in the order of its lines.

    Snapshot rows, tombstones and other events without a transaction are left out.
    """
    found: list[EventRun] = []
    current = b""
    count = numbers = 0
    last = b"0"
    for match in _BLOCK.finditer(body):
        xid, lsn, number = match.groups()
        if xid != current:
            if count:
                found.append(EventRun(int(current), count, numbers, Lsn(int(last))))
            current, count, numbers = xid, 0, 0
        count += 1
        numbers += int(number)
        last = lsn
    if count:
        found.append(EventRun(int(current), count, numbers, Lsn(int(last))))
    return found


def commit_before(body: bytes) -> Lsn | None:
    """Return the LSN of the commit before the object's first event of a transaction; None if none."""
    block = _BLOCK.search(body)
    if block is None:
        return None
    begin = body.rfind(b"\n", 0, block.start()) + 1
    sequence = _SEQUENCE.search(body, begin, block.start())
    if sequence is None or sequence[1] is None:
        return LOG_START
    return Lsn(int(sequence[1]))
