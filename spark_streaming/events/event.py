"""The values that pass through decoding and folding: raw events, changes, rejects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import parse_topic
from spark_streaming.events.position import HighWater, Position

# A row's key as events carry it: hashable; a scalar if the key is one column, else a tuple.
RawKey = Any


class Place(NamedTuple):
    """An event's place in Kafka; it identifies an entry of the quarantine."""

    topic: str
    partition: int
    offset: int


class RawEvent(NamedTuple):
    """A Kafka record as it was read; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_TRUNCATE = re.compile(rb'"op":\s*"t"')


def is_truncate(event: RawEvent) -> bool:
    """Whether an event is a TRUNCATE; faster than parsing it."""
    return event.value is not None and _TRUNCATE.search(event.value) is not None


def source_of(
    topic: str,
    prefix: str,
    events: Iterable[RawEvent],
    table_of_topic: Callable[[str, str], tuple[str, str] | None] = parse_topic,
) -> tuple[str, str]:
    """Return a topic's (schema, table) as the source names it; topic names have characters replaced.

    Args:
        table_of_topic: gives the table of (topic, prefix) if no event names it.
    """
    for event in events:
        try:
            source = json.loads(event.value)["source"] if event.value else None
            if source:
                return str(source["schema"]), str(source["table"])
        except (ValueError, TypeError, KeyError):
            continue
    parsed = table_of_topic(topic, prefix)
    if parsed is None:
        raise ValueError(f"topic {topic} does not belong to a table")
    return parsed


@dataclass(frozen=True)
class Reject:
    """An event that broke its contract, for quarantine.

    Args:
        event: the unchanged event, with its place in Kafka.
        rule: the rule that it broke, words with dashes (`not-json`, `value-out-of-range`).
        reason: for people: which column, and which value it had.
    """

    event: RawEvent
    rule: str
    reason: str

    @property
    def key(self) -> str | None:
        """The message key as text, if there is one."""
        return None if self.event.key is None else self.event.key.decode(errors="replace")


class Change(NamedTuple):
    """One change of one row (or a TRUNCATE); its images are row numbers in `Changes.images`.

    Args:
        op: c | u | d | r (snapshot row) | t (TRUNCATE), as Debezium names them.
        lsn: the LSN of the change; of the snapshot, for `r`.
        guard: the greatest `_lsn` of a silver row that this change may replace.
        committed_us: the source's commit time, microseconds since 1970 in UTC.
        key: None for a keyless table's changes and for `t`.
        after, before: image row numbers; -1 if there is none. A keyed delete's `after` holds its key
            columns only; only a keyless table's changes have a `before`.
        order: the place in the stream, to merge partitions.
        old_key: for the second half of a key change, the key that the row had; else None.
        old_image: the number of an image row that holds the old key's columns; -1 without one.
        resumes_key_change: whether the last batch ended between the halves of this key change. That
            batch left the old row in silver; this change takes its values and removes it.
        starts_snapshot: whether a snapshot of the whole table begins (or ends) here.
        event: the event that was decoded.
    """

    op: str
    lsn: Lsn
    guard: int
    committed_us: int
    key: RawKey | None
    after: int
    before: int
    order: Position
    old_key: RawKey | None
    old_image: int
    resumes_key_change: bool
    starts_snapshot: bool
    event: RawEvent


@dataclass(frozen=True)
class Changes:
    """The changes of one table in stream order, as `fold` takes them.

    Args:
        changes: one for each event that changes rows.
        images: the rows of the changes, converted: the contract's data columns.
        gaps: image row -> the columns (by number) whose value the event left out (TOAST).
        first_snapshot_lsn: the LSN at which the first snapshot of a keyed table began again; silver's
            rows of lower LSNs come from an interrupted attempt. None: it did not.
        resync_lsn: the LSN below which a resync found no rows in the source any more; it ended among
            these events. Silver's rows, and these changes' rows, of lower LSNs go. None: none ended.
    """

    changes: list[Change]
    images: pa.Table
    gaps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    first_snapshot_lsn: Lsn | None = None
    resync_lsn: Lsn | None = None

    def __len__(self) -> int:
        return len(self.changes)


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a table's events.

    Args:
        changes: for `fold`.
        rejects: events that broke the contract.
        skipped: number of repetitions, at or before the high-water mark.
        ignored: number of tombstones and messages, which change no row.
        high_water: the mark after these events (rejected ones included).
        unknown_columns: columns of events (names in the source) that the contract does not have:
            refresh the contract and decode again.
        stale_columns: columns (names in the source) that events lack, or whose values are of another
            type than the contract says: refreshing the contract may fix it. Events from before an
            ALTER TABLE keep lacking columns, so refresh once, not until this is empty.
        last_lsn: the greatest LSN seen; 0 without events.
        last_committed_us: the greatest commit time of a streamed event, microseconds since 1970;
            0 without one.
        depends_on_other_keys: whether some event depends on events of other keys (TRUNCATE, the end
            of a resync, or a place in the stream that only neighbouring events show). Then events
            of some keys cannot be decoded alone, only all events together.
        snapshot_attempts: the LSNs of the first snapshot's attempts, including the one before these
            events. If there are several, rows depend on those of other keys.
    """

    changes: Changes
    rejects: list[Reject]
    skipped: int
    ignored: int
    high_water: HighWater
    unknown_columns: set[str]
    stale_columns: set[str]
    last_lsn: Lsn
    last_committed_us: int
    depends_on_other_keys: bool = False
    snapshot_attempts: frozenset[int] = frozenset()
