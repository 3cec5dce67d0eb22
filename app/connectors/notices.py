"""Reads Debezium's notifications of snapshots from its topic."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition

from spark_streaming.storage.connections import KAFKA_LIMITS
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer

_POLL_RECORDS_MAX = 500


@dataclass(frozen=True)
class Scan:
    """The end of a table's snapshot: SUCCEEDED and EMPTY are successes, other statuses are failures.

    Args:
        rows: how many were read.
        mark: the identifier of the signal, for an incremental snapshot.
    """

    table: str
    status: str
    rows: int = 0
    mark: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status in ("SUCCEEDED", "EMPTY")


class Notices:
    """The notifications of the connector whose topics begin with `prefix`."""

    def __init__(
        self,
        kafka: KafkaCluster,
        prefix: str,
        *,
        from_start: bool = False,
        since: int | None = None,
    ) -> None:
        """Begin at the topic's end, at the first notification that is kept, or at an offset.

        Raises: kafka.errors.KafkaError if the broker does not answer.
        """
        self._partition = TopicPartition(f"{prefix}.notifications", 0)
        self._consumer = BoundedConsumer(
            **kafka.options,
            client_id="headwater-capture",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_bytes=1 << 20,
            **KAFKA_LIMITS,
        )
        self._scans: dict[str, Scan] = {}
        self.chunks: Counter[str] = Counter()  # chunks read, by table
        self.initial_starts: int = 0  # how often the first snapshot began, until it ended
        self.initial_empty: set[str] = set()  # tables in which its last attempt found no row
        self.initial_ended = False
        self._consumer.assign([self._partition])
        if since is not None:
            self._consumer.seek(self._partition, since)
        elif from_start:
            self._consumer.seek_to_beginning(self._partition)
        else:
            self._consumer.seek_to_end(self._partition)
        self._consumer.position(self._partition)  # resolves the position now, not at the first poll

    def read(self, wait_ms: int) -> None:
        """Read the notifications since the last call; wait up to `wait_ms` for one."""
        found = self._consumer.poll(timeout_ms=wait_ms, max_records=_POLL_RECORDS_MAX)
        for record in found.get(self._partition, []):
            notice = json.loads(record.value)
            details = notice.get("additional_data") or {}
            if notice.get("aggregate_type") == "Initial Snapshot":
                # A blocking snapshot is also called initial, but comes after the first one has
                # ended.
                starts = notice.get("type") == "STARTED" and not self.initial_ended
                self.initial_starts += starts
                if starts:
                    self.initial_empty.clear()
                self.initial_ended |= notice.get("type") == "COMPLETED"
            if notice.get("type") == "IN_PROGRESS":
                self.chunks[str(details.get("current_collection_in_progress"))] += 1
            if notice.get("type") == "TABLE_SCAN_COMPLETED":
                table, rows = str(details.get("scanned_collection")), _count(details)
                if not self.initial_ended and rows == 0:
                    self.initial_empty.add(table)
                status, mark = str(details.get("status")), str(notice.get("id"))
                self._scans[table] = Scan(table, status, rows or 0, mark)

    def read_all(self) -> None:
        """Read all notifications up to the end of the topic at the moment of the call."""
        end = self._consumer.end_offsets([self._partition])[self._partition]
        while self._consumer.position(self._partition) < end:
            self.read(wait_ms=1000)

    def end(self) -> int:
        """Return the offset after the last notification."""
        return int(self._consumer.end_offsets([self._partition])[self._partition])

    def take(self, table: str) -> Scan | None:
        """Return the newest end of this table's snapshot, once; None if there is none."""
        return self._scans.pop(table, None)

    def close(self) -> None:
        self._consumer.close()


def _count(details: Mapping[str, Any]) -> int | None:
    found = details.get("total_rows_scanned")
    return int(found) if found is not None and str(found).isdigit() else None
