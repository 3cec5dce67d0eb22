"""What Debezium says of its snapshots, read from its notification topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

    def __init__(self, kafka: str, prefix: str) -> None:
        """Raises kafka.errors.KafkaError where the broker does not answer."""
        self._partition = TopicPartition(f"{prefix}.notifications", 0)
        self._consumer = KafkaConsumer(
            bootstrap_servers=kafka,
            client_id="headwater-capture",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_bytes=1 << 20,
        )
        self._consumer.assign([self._partition])
        self._consumer.seek_to_end(self._partition)
        self._consumer.position(self._partition)  # now, not at the first poll

    def scans(self, wait_ms: int) -> Iterator[Scan]:
        """The tables whose snapshot ended since the last call; waits up to `wait_ms` for one."""
        found = self._consumer.poll(timeout_ms=wait_ms, max_records=_POLL_RECORDS_MAX)
        for record in found.get(self._partition, []):
            notice = json.loads(record.value)
            details = notice.get("additional_data") or {}
            if notice.get("type") == "TABLE_SCAN_COMPLETED":
                yield Scan(str(details.get("scanned_collection")), str(details.get("status")))

    def close(self) -> None:
        self._consumer.close()
