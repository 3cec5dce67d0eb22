"""What Debezium says of its snapshots, read from its notification topic."""

from __future__ import annotations

import json
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition

_POLL_RECORDS_MAX = 500


@dataclass(frozen=True)
class Scan:
    """A table's snapshot has ended: SUCCEEDED and EMPTY are good, all else is not."""

    table: str
    status: str

    @property
    def succeeded(self) -> bool:
        return self.status in ("SUCCEEDED", "EMPTY")


class Notices:
    """The notifications from now on, of the connector whose topics begin with `prefix`."""

    def __init__(self, kafka: str, prefix: str, *, from_start: bool = False) -> None:
        """Open them, from now on or from the first that is kept.

        Raises: kafka.errors.KafkaError where the broker does not answer.
        """
        self._partition = TopicPartition(f"{prefix}.notifications", 0)
        self._consumer = KafkaConsumer(
            bootstrap_servers=kafka,
            client_id="headwater-capture",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_bytes=1 << 20,
        )
        self._scans: dict[str, Scan] = {}
        self.initial_starts: int = 0  # how often the initial snapshot began, until it ended
        self.initial_empty: set[str] = set()  # tables in which its last try found no row
        self._initial_ended = False
        self._consumer.assign([self._partition])
        if from_start:
            self._consumer.seek_to_beginning(self._partition)
        else:
            self._consumer.seek_to_end(self._partition)
        self._consumer.position(self._partition)  # now, not at the first poll

    def read(self, wait_ms: int) -> None:
        """Take in what was said since the last call; waits up to `wait_ms` for something."""
        found = self._consumer.poll(timeout_ms=wait_ms, max_records=_POLL_RECORDS_MAX)
        for record in found.get(self._partition, []):
            notice = json.loads(record.value)
            details = notice.get("additional_data") or {}
            if notice.get("aggregate_type") == "Initial Snapshot":
                # A blocking snapshot calls itself initial too, but comes after the end of it.
                starts = notice.get("type") == "STARTED" and not self._initial_ended
                self.initial_starts += starts
                if starts:
                    self.initial_empty.clear()
                self._initial_ended |= notice.get("type") == "COMPLETED"
            if notice.get("type") == "TABLE_SCAN_COMPLETED":
                table = str(details.get("scanned_collection"))
                if not self._initial_ended and details.get("total_rows_scanned") == "0":
                    self.initial_empty.add(table)
                self._scans[table] = Scan(table, str(details.get("status")))

    def read_all(self) -> None:
        """Take in all that is there at the moment of the call."""
        end = self._consumer.end_offsets([self._partition])[self._partition]
        while self._consumer.position(self._partition) < end:
            self.read(wait_ms=1000)

    def take(self, table: str) -> Scan | None:
        """The newest end of this table's snapshot, once; None where none was said."""
        return self._scans.pop(table, None)

    def close(self) -> None:
        self._consumer.close()
