"""The job over a modelled source whose table changes, batch by batch, on the real store."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.replay import Replay
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.ops.requests import Request
from spark_streaming.ops.schema_changes import SchemaChanges
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topic import Topic
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import MergeEngine
from spark_streaming.tables.silver_table import TableOptions
from tests.unit.debezium_events import change_event
from tests.unit.evolving_source import EvolvingSource, ModelCatalog

OPTIONS = TableOptions()
HEARTBEAT = "hw.headwater.heartbeat"


class EvolvingJob:
    """One query over one table and the heartbeat; `restart` is a new process."""

    def __init__(
        self, lake: Lake, engine: MergeEngine, folder: Path, source: EvolvingSource
    ) -> None:
        self.lake, self.engine, self.folder, self.source = lake, engine, folder, source
        self.catalog = ModelCatalog(source, lake)
        self.query_id = uuid.uuid4().hex
        self.batch = self.taken = self.beats = 0
        self._now = 0.0
        self.ends: dict[str, dict[int, int]] = {}
        self.beaten: list[RawEvent] = []
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.lake, self.query_id, OPTIONS.properties())
        restored = self.ledger.restore()
        files = ContractFolder([self.folder], clock=lambda: self._now)
        self.records = SchemaChanges(self.lake, OPTIONS.properties())
        evolver = Evolver(
            self.catalog,
            cast(CatalogWatch, self.catalog),
            files.evolution_of,
            self.records,
            clock=lambda: self._now,
        )
        self.topics = Topics(self.lake, self.catalog, "hw", OPTIONS, restored.high_water, evolver)
        gate = Gate(
            files, Quarantine(self.lake, self.query_id, OPTIONS.properties()), None, self.topics
        )
        steps = TableSteps(self.query_id, self.topics, gate, self.engine)
        self.stopped = Resumption(steps, self.ledger, restored, self.read)
        rounds = Rounds(steps, ThreadPoolExecutor(2))
        self.runner = BatchRunner(rounds, self.stopped, self.ledger, restored)
        self.replayer = Replay(steps, self.stopped.is_stopped)

    @property
    def topic(self) -> Topic:
        return self.topics.resolve(self.source.topic, [])

    def policies(self, **policies: str) -> None:
        """Write the table's contract file."""
        lines = [f"{kind} = {json.dumps(policy)}" for kind, policy in policies.items()]
        path = self.folder / f"{self.source.schema}.{self.source.table}.toml"
        path.write_text("\n".join(["[evolution]", *lines]))
        self._now += 100

    def run(self, count: int | None = None) -> list[LedgerRow]:
        """Run the next batch: this many more events of the table (None: all), and a heartbeat.

        The catalog is read in its state at the source's end.
        """
        upto = len(self.source.events) if count is None else self.taken + count
        events = self.source.events[self.taken : upto]
        self.taken = min(upto, len(self.source.events))
        self.beats += 1
        lsn = self._reached()
        beat = change_event("headwater", "heartbeat", "u", lsn + 1, self.beats, {"id": 1})
        self.beaten.append(beat)
        start = {topic: dict(ends) for topic, ends in self.ends.items()}
        self.ends[HEARTBEAT] = {0: self.beats + 1}
        if self.taken:
            self.ends[self.source.topic] = {0: self.taken}
        span = BatchSpan(start, {topic: dict(ends) for topic, ends in self.ends.items()})
        by_topic = {HEARTBEAT: [beat], **({self.source.topic: events} if events else {})}
        self.batch += 1
        self.last = (self.batch - 1, by_topic, span)
        return self.repeat()

    def _reached(self) -> int:
        """The log position up to which all events were read; heartbeats do not overtake events."""
        if self.taken == len(self.source.events):
            return self.source.lsn
        return max((lsn for count, lsn in self.source.ends if count <= self.taken), default=0)

    def repeat(self) -> list[LedgerRow]:
        """Run the newest batch (again)."""
        batch_id, events, span = self.last
        return self.runner.run(batch_id, events, span, started=0.0)

    def settle(self) -> None:
        """Send heartbeats until silver is complete up to the source's end and has followed its changes."""
        for _ in range(3):
            self._now += 100
            self.run(0)

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        """The events of an offset range again, as Kafka would return them."""
        known = [*self.source.events, *self.beaten]
        return {
            topic: [
                event
                for event in known
                if event.topic == topic
                and span.start.get(topic, {}).get(0, 0) <= event.offset < ends[0]
            ]
            for topic, ends in span.end.items()
        }

    def replay(self) -> list[str]:
        """Replay all of the table's quarantine entries. Returns: the outcomes."""
        name = self.topic.silver_name
        answer = self.replayer.carry_out(Request(uuid.uuid4().hex, "replay", (name,), ()))
        assert not answer.error
        return [outcome.outcome for outcome in answer.outcomes]

    def content(self, table: str | None = None, names: list[str] | None = None) -> Any:
        """Silver's rows, counted: the source's columns, in the order of their names."""
        if names is None:
            contract = self.topic.contract
            assert contract is not None
            names = sorted(c.name for c in contract.columns if not c.dropped)
        path = self.lake.silver_path(table or self.topic.silver_name)
        found = self.lake.table(path).to_pyarrow_table(columns=names)
        return Counter(zip(*(found[name].to_pylist() for name in names), strict=True))

    def recorded(self) -> list[tuple[str, str]]:
        """(kind, outcome) of the table's recorded changes, oldest first."""
        rows = self.lake.table("ops/schema_changes").to_pyarrow_table().to_pylist()
        mine = [row for row in rows if row["table_name"] == self.topic.silver_name]
        ordered = sorted(mine, key=lambda row: row["recorded_at"])
        return [(row["kind"], row["outcome"]) for row in ordered]

    def quarantined(self) -> list[tuple[str, str]]:
        """(rule, status) of the table's entries in quarantine, by offset."""
        rows = self.lake.table("ops/quarantine").to_pyarrow_table().to_pylist()
        mine = [row for row in rows if row["topic"] == self.source.topic]
        return [(r["rule"], r["status"]) for r in sorted(mine, key=lambda row: row["offset"])]
