"""Debezium's events into typed changes of one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from spark_streaming.contract import Contract


class RawEvent(NamedTuple):
    """One Kafka record as it was read; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True)
class Reject:
    """An event that broke its contract, for quarantine.

    Args:
        event: the event, untouched, with its coordinates.
        rule: which rule it broke, one word with dashes (`not-json`, `value-out-of-range`).
        reason: for people: which column, what was seen.
        key: the row's key as JSON text, if it could be read.
    """

    event: RawEvent
    rule: str
    reason: str
    key: str | None = None


class Position(NamedTuple):
    """Where an event stands in the source's stream; compares in commit order."""

    last_commit_lsn: int
    lsn: int
    total_order: int


@dataclass(frozen=True)
class HighWater:
    """The greatest position already merged, for each (topic, partition)."""

    positions: dict[tuple[str, int], Position] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """The changes of one table in the order of the stream; opaque: hand it to `fold`."""

    images: pa.Table

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Decoded:
    """What `decode` made of a table's events."""

    changes: Changes
    rejects: list[Reject]
    skipped: int
    high_water: HighWater
    unknown_columns: set[str]


def decode(events: Iterable[RawEvent], contract: Contract, high_water: HighWater) -> Decoded:
    """Decode one table's events."""
    raise NotImplementedError
