"""A silver job over a test's events in memory, with small limits, so that every path is used."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_streaming.batch.backlog import Backlog
from spark_streaming.batch.gate import Gate
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.events.event import RawEvent
from spark_streaming.job_settings import SilverSettings
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import EventReader
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.engines.choice import engines_of
from spark_streaming.tables.silver_table import TableOptions
from tests.support.entries import entries_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NO_SOURCE = "postgresql://nobody@127.0.0.1:1/none"
OPTIONS = TableOptions()
RAW_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        (
            "headers",
            pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])),
        ),
    ]
)


class Held:
    """Events in memory, read like a batch's events from Kafka."""

    def __init__(self) -> None:
        self.events: list[RawEvent] = []
        self.reads: list[int] = []  # the number of events of each read by the driver

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        found: dict[str, list[RawEvent]] = {}
        for event in self._within(span):
            found.setdefault(event.topic, []).append(event)
        size = sum(len(event.value or b"") for some in found.values() for event in some)
        if bytes_max is not None and size > bytes_max:
            raise TooManyBytesError(f"more than {bytes_max} bytes")
        self.reads.append(sum(map(len, found.values())))
        return found

    def frame(self, span: BatchSpan, session: SparkSession) -> DataFrame:
        rows = [
            {
                **dict(zip(RAW_SCHEMA.names, event[:6], strict=False)),
                "headers": [{"key": name, "value": value} for name, value in event.headers],
            }
            for event in self._within(span)
        ]
        return session.createDataFrame(pa.Table.from_pylist(rows, schema=RAW_SCHEMA))

    def _within(self, span: BatchSpan) -> list[RawEvent]:
        def holds(event: RawEvent) -> bool:
            start = span.start.get(event.topic, {}).get(event.partition, 0)
            return start <= event.offset < span.end.get(event.topic, {}).get(event.partition, 0)

        return [event for event in self.events if holds(event)]


class Table:
    """One captured table with its contract, its events, and its rows in silver."""

    def __init__(self, lake: Lake, contract: Contract) -> None:
        self.lake = lake
        self.name = f"{contract.table}_{uuid.uuid4().hex[:8]}"
        self.contract = replace(contract, table=self.name)
        self.topic = f"hw.public.{self.name}"
        self.query_id = uuid.uuid4().hex
        self.held = Held()
        self.done: dict[int, int] = {}
        self.batches = 0
        ContractStore(lake, NO_SOURCE).keep(self.contract)

    def job(self, session: SparkSession, settings: SilverSettings, **changed: Any) -> Job:
        """Make a process of the job; another one is a restart."""
        return Job(self, session, settings.model_copy(update=changed))

    def rows(self) -> Counter[tuple[Any, ...]]:
        """The rows with their LSNs and commit times, counted."""
        names = [*(c.name for c in self.contract.columns), "_lsn", "_committed_at"]
        found = self.lake.table(f"silver/{self.name}").to_pyarrow_table(columns=names)
        return Counter(tuple(row.values()) for row in found.to_pylist())

    def content(self) -> Counter[tuple[Any, ...]]:
        """The source's columns of the rows, counted."""
        width = len(self.contract.columns)
        counted: Counter[tuple[Any, ...]] = Counter()
        for row, count in self.rows().items():
            counted[row[:width]] += count
        return counted

    def quarantined(self) -> list[dict[str, Any]]:
        """The table's quarantine entries by offset."""
        return entries_of(self.lake, self.name)

    def next_span(self, events: Sequence[RawEvent]) -> BatchSpan:
        """Put more events into the topic. Returns: the offset ranges of their batch."""
        events = [event._replace(topic=self.topic) for event in events]
        self.held.events += events
        start = dict(self.done)
        for event in events:
            start.setdefault(event.partition, 0)
            self.done[event.partition] = max(self.done.get(event.partition, 0), event.offset + 1)
        return BatchSpan({self.topic: start}, {self.topic: dict(self.done)})


class Job:
    """One process's state over a table's topic."""

    def __init__(
        self,
        table: Table,
        session: SparkSession,
        settings: SilverSettings,
        reader: EventReader | None = None,
    ) -> None:
        lake = table.lake
        self.table = table
        self.ledger = Ledger(lake, table.query_id, OPTIONS.properties())
        restored = self.ledger.restore()
        self.topics = Topics(
            lake, ContractStore(lake, NO_SOURCE), "hw", OPTIONS, restored.high_water
        )
        self.quarantine = Quarantine(lake, table.query_id, OPTIONS.properties())
        self.quarantine.ensure()
        gate = Gate(ContractFolder(), self.quarantine, None, self.topics)
        steps = TableSteps(table.query_id, self.topics, gate, ArrowEngine())
        self.stopped = Resumption(steps, self.ledger, restored, table.held.read)
        rounds = Rounds(steps, ThreadPoolExecutor(4))
        self.runner = BatchRunner(rounds, self.stopped, self.ledger, restored)
        self.backlog = Backlog(
            settings,
            rounds,
            self.stopped.is_stopped,
            reader or table.held,  # type: ignore[arg-type]
            engines_of(settings, session),
            session,
        )

    def run(self, batch_id: int, span: BatchSpan) -> LedgerRow:
        """Run one batch. Returns: the table's row of the ledger."""
        events, more = self.backlog.split(batch_id, span)
        rows = self.runner.run(batch_id, events, span, started=time.monotonic(), more=more)
        return rows[0]

    def take(self, events: Sequence[RawEvent]) -> LedgerRow:
        """Run the next batch over these events."""
        self.table.batches += 1
        return self.run(self.table.batches - 1, self.table.next_span(events))
