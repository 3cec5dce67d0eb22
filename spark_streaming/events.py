"""What goes through decoding and folding: raw events, changes, rejects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from spark_streaming.naming import parse_topic
from spark_streaming.position import HighWater, Position

# A row's key as it stands in events: hashable, one scalar where the key is one column.
RawKey = Any


class RawEvent(NamedTuple):
    """One Kafka record as it was read; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_TRUNCATE = re.compile(rb'"op":\s*"t"')


def is_truncate(event: RawEvent) -> bool:
    """Whether an event is a TRUNCATE; quicker than to read it."""
    return event.value is not None and _TRUNCATE.search(event.value) is not None


def source_of(topic: str, prefix: str, events: Iterable[RawEvent]) -> tuple[str, str]:
    """The table as the source names it: its topic's name has characters replaced."""
    for event in events:
        try:
            source = json.loads(event.value)["source"] if event.value else None
            if source:
                return str(source["schema"]), str(source["table"])
        except (ValueError, TypeError, KeyError):
            continue
    parsed = parse_topic(topic, prefix)
    if parsed is None:
        raise ValueError(f"topic {topic} is no table's")
    return parsed


@dataclass(frozen=True)
class Reject:
    """An event that broke its contract, for quarantine.

    Args:
        event: the event, untouched, with its coordinates.
        rule: which rule it broke, words with dashes (`not-json`, `value-out-of-range`).
        reason: for people: which column, what was seen.
        key: the message key as text, if there is one.
    """

    event: RawEvent
    rule: str
    reason: str

    @property
    def key(self) -> str | None:
        return None if self.event.key is None else self.event.key.decode(errors="replace")


class Change(NamedTuple):
    """One change of one row (or a TRUNCATE); its images are row numbers in `Changes.images`.

    Args:
        op: c | u | d | r (snapshot row) | t (TRUNCATE), as Debezium names them.
        lsn: of the change; of the snapshot, for `r`.
        guard: the greatest `_lsn` of a silver row that this change may replace.
        committed_us: the source's commit time, microseconds since 1970 in UTC.
        key: None for a bag's changes and for `t`.
        after, before: image row numbers; -1 where there is none. A keyed delete's `after` holds
            its key columns only; `before` is a bag's.
        order: the place in the stream, to merge partitions.
        old_key: for the second half of a key change, the key that the row had; else None.
        old_image: an image row number that holds the old key's columns; -1 without one.
        resumes_move: whether the last batch ended between the halves of this key change; then
            it left the old row in silver, and this change takes its values and removes it.
        starts_snapshot: whether a snapshot of the whole table begins (or ends) here.
        event: where it came from.
    """

    op: str
    lsn: int
    guard: int
    committed_us: int
    key: RawKey | None
    after: int
    before: int
    order: Position
    old_key: RawKey | None
    old_image: int
    resumes_move: bool
    starts_snapshot: bool
    event: RawEvent


@dataclass(frozen=True)
class Changes:
    """The changes of one table in stream order; opaque: hand it to `fold`.

    Args:
        changes: one for each event that changes rows.
        images: the rows that the changes speak of, converted: the contract's data columns.
        gaps: image row -> the columns (by number) whose value the event left out (TOAST).
        first_snapshot_lsn: the first snapshot of a keyed table began anew here: what silver holds
            of lower LSNs comes of an interrupted try.
    """

    changes: list[Change]
    images: pa.Table
    gaps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    first_snapshot_lsn: int | None = None

    def __len__(self) -> int:
        return len(self.changes)


@dataclass(frozen=True)
class Decoded:
    """What `decode` made of a table's events.

    Args:
        changes: for `fold`.
        rejects: events that broke the contract.
        skipped: replays, which the high-water mark had passed.
        ignored: tombstones and messages, which change no row.
        high_water: the mark after these events (rejected ones included).
        unknown_columns: names in the source that the contract does not have: refresh the
            contract and decode again.
        stale_columns: names in the source that events lack, or whose values are of another type
            than the contract says: a refresh may mend it. Events from before an ALTER TABLE
            keep lacking columns, so refresh once, not until it is empty.
        last_lsn: the greatest LSN seen; 0 without events.
        last_committed_us: the greatest commit time of a streamed event, microseconds since 1970;
            0 without.
        by_place: what some event means hangs on the events of other keys around it (TRUNCATE, or
            a place in the stream that only its neighbours tell): only all events together can
            be decoded rightly, not those of some keys.
        tries: the LSNs of the first snapshot's tries, that before these events among them: where
            they are several, what a row means hangs on those of other keys.
    """

    changes: Changes
    rejects: list[Reject]
    skipped: int
    ignored: int
    high_water: HighWater
    unknown_columns: set[str]
    stale_columns: set[str]
    last_lsn: int
    last_committed_us: int
    by_place: bool = False
    tries: frozenset[int] = frozenset()
