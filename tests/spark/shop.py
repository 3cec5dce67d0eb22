"""A source with contract files, and the job over it, batch by batch, on the real store."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.replay import Replay
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.breaches import Breaches
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.ops.requests import Answer, Request
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import MergeEngine
from spark_streaming.tables.silver_table import TableOptions
from tests.unit.debezium_events import change_event

NO_SOURCE = "postgresql://nobody@127.0.0.1:1/none"
OPTIONS = TableOptions()
POSITIVE = "[columns.v]\nmin = 1\n"
GONE = "__debezium_unavailable_value"
COLUMNS = (
    Column("id", "int", "int32", nullable=False),
    Column("v", "int", "int32"),
    Column("big", "text", "text", toastable=True),
)


class Shop:
    """A source schema with tables `items` and `parents`, its events, and the job over them.

    The contract folder has the test's clock, so each batch reads the files again.
    """

    def __init__(self, lake: Lake, engine: MergeEngine, folder: Path) -> None:
        self.lake, self.engine, self.folder = lake, engine, folder
        self.schema = f"q{uuid.uuid4().hex[:8]}"
        self.query_id = uuid.uuid4().hex
        self.offset = self.batch = 0
        self._now = 0.0
        self.events: list[RawEvent] = []
        self.ends: dict[str, dict[int, int]] = {}
        store = ContractStore(lake, NO_SOURCE)
        for table in ("items", "parents"):
            store.keep(Contract(self.schema, table, COLUMNS, key=("id",)))
        bag = Contract(self.schema, "bag", COLUMNS, key=(), replica_identity="full")
        store.keep(bag)
        self.restart()

    def restart(self) -> None:
        """A new process over the same lake."""
        ledger = Ledger(self.lake, self.query_id, OPTIONS.properties())
        restored = ledger.restore()
        store = ContractStore(self.lake, NO_SOURCE)
        self.topics = topics = Topics(self.lake, store, "hw", OPTIONS, restored.high_water)
        self.files = ContractFolder([self.folder], b"secret", clock=lambda: self._now)
        self.breaches = Breaches(self.lake, self.query_id, OPTIONS.properties())
        gate = Gate(
            self.files,
            Quarantine(self.lake, self.query_id, OPTIONS.properties()),
            self.breaches,
            topics,
        )
        steps = TableSteps(self.query_id, topics, gate, self.engine)
        self.stopped = Resumption(steps, ledger, restored, self.read)
        rounds = Rounds(steps, ThreadPoolExecutor(4))
        self.runner = BatchRunner(rounds, self.stopped, ledger, restored)
        self.replayer = Replay(steps, self.stopped.is_stopped)

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        """The events of an offset range again, as Kafka would return them."""
        return {
            topic: [
                event
                for event in self.events
                if event.topic == topic and span.start[topic].get(0, 0) <= event.offset < ends[0]
            ]
            for topic, ends in span.end.items()
        }

    def contract(self, text: str, table: str = "items") -> None:
        (self.folder / f"{self.schema}.{table}.toml").write_text(text)
        self._now += 10

    def event(
        self, op: str, lsn: int, key: int, v: object = None, big: object = "b", table: str = "items"
    ) -> RawEvent:
        row = {"id": key, "v": v, "big": big}
        self.offset += 1
        return change_event(self.schema, table, op, lsn, self.offset, row)

    def run(self, *events: RawEvent) -> list[LedgerRow]:
        by_topic: dict[str, list[RawEvent]] = {}
        for event in events:
            by_topic.setdefault(event.topic, []).append(event)
        self.events += events
        self.ends |= {t: {0: max(e.offset for e in some) + 1} for t, some in by_topic.items()}
        self.batch += 1
        span = BatchSpan({}, dict(self.ends))
        return self.runner.run(self.batch - 1, by_topic, span, started=0.0)

    def catch_up(self) -> None:
        """Run batches of the other table until `items` is no longer stopped."""
        for number in range(1_000, 1_020):
            self.run(self.event("c", number, number, 0, table="parents"))
            if not self.stopped.is_stopped(f"hw.{self.schema}.items"):
                return
        raise AssertionError("the table is still stopped after 20 batches")

    def rows(self, table: str = "items") -> dict[int, tuple[Any, Any]]:
        found = self.lake.table(f"silver/{self.schema}__{table}").to_pyarrow_table()
        return {row["id"]: (row["v"], row["big"]) for row in found.to_pylist()}

    def quarantined(self) -> list[tuple[int, str, str]]:
        """(offset, rule, status) in the order of offsets."""
        found = self.lake.table("ops/quarantine").to_pyarrow_table().to_pylist()
        mine = [row for row in found if row["topic"].startswith(f"hw.{self.schema}.")]
        return sorted((row["offset"], row["rule"], row["status"]) for row in mine)

    @property
    def table(self) -> str:
        """Silver's name of the table `items`."""
        return f"{self.schema}__items"

    def ask(
        self, action: Any = "replay", places: Sequence[Any] = (), table: str = "items"
    ) -> Answer:
        name = f"{self.schema}__{table}"
        request = Request(uuid.uuid4().hex, action, (name,), tuple(places))
        answer = self.replayer.carry_out(request)
        assert not answer.error
        return answer

    def outcomes(self, answer: Answer) -> list[tuple[int, str]]:
        return sorted((o.place.offset, o.outcome) for o in answer.outcomes)
