"""A batch can be repeated from its start, wherever it was interrupted."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from spark_streaming.batch.failed_parts import BatchFailedError
from spark_streaming.batch.gate import Gate
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.ops.ledger import WHOLE_BATCH, Ledger, LedgerRow
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.kafka_source import Read
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.silver_table import TableOptions
from tests.support.entries import entries_of
from tests.unit.debezium_events import change_event

NO_SOURCE = "postgresql://nobody@127.0.0.1:1/none"
OPTIONS = TableOptions()
Make = Callable[..., "Job"]


def ledger_table(lake: Lake) -> pa.Table:
    """All rows of the ledger."""
    return Ledger(lake, "a reader", {}).handle().to_pyarrow_table()


class Job:
    """One process's state over the lake; a new one is a restart."""

    def __init__(
        self,
        lake: Lake,
        query_id: str,
        engine: Any = None,
        read: Read = lambda span, bytes_max=None: {},
    ) -> None:
        self.ends: dict[str, dict[int, int]] = {}  # the written ends in Kafka, committed or not
        self.ledger = Ledger(lake, query_id, OPTIONS.properties())
        restored = self.ledger.restore()
        contracts = ContractStore(lake, NO_SOURCE)
        self.topics = Topics(lake, contracts, "hw", OPTIONS, restored.high_water)
        self.quarantine = Quarantine(lake, query_id, OPTIONS.properties())
        gate = Gate(ContractFolder(), self.quarantine, None, self.topics)
        steps = TableSteps(query_id, self.topics, gate, engine or ArrowEngine())
        self.stopped = Resumption(steps, self.ledger, restored, read)
        self.rounds = Rounds(steps, ThreadPoolExecutor(4))
        self.runner = BatchRunner(
            self.rounds, self.stopped, self.ledger, restored, ends=lambda: self.ends
        )

    def run(self, batch_id: int, *events: RawEvent) -> list[LedgerRow]:
        by_topic: dict[str, list[RawEvent]] = {}
        for event in events:
            by_topic.setdefault(event.topic, []).append(event)
        end = {topic: {0: max(e.offset for e in some) + 1} for topic, some in by_topic.items()}
        started = time.monotonic()
        span = BatchSpan({}, end)
        return self.runner.run(batch_id, by_topic, span, started=started)


class Source:
    """Two captured tables in a schema of their own, with stored contracts, and their events."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.schema = f"s{uuid.uuid4().hex[:8]}"
        self.query_id = uuid.uuid4().hex
        self.offset = 0
        columns = (Column("id", "int", "int32", nullable=False), Column("v", "int", "int32"))
        store = ContractStore(lake, NO_SOURCE)
        for table in ("one", "two"):
            store.keep(Contract(self.schema, table, columns, key=("id",)))

    def job(self, engine: Any = None) -> Job:
        return Job(self.lake, self.query_id, engine)

    def event(self, table: str, op: str, lsn: int, key: int, value: object = None) -> RawEvent:
        row = {"id": key, "v": value}
        self.offset += 1
        return change_event(self.schema, table, op, lsn, self.offset, row)

    def rows(self, table: str) -> Counter[tuple[Any, ...]]:
        found = self.lake.table(f"silver/{self.schema}__{table}").to_pyarrow_table(
            columns=["id", "v"]
        )
        return Counter(tuple(row.values()) for row in found.to_pylist())

    def ledger(self) -> list[dict[str, Any]]:
        rows = ledger_table(self.lake).to_pylist()
        return [row for row in rows if row["query_id"] == self.query_id]


@pytest.fixture
def source(lake: Lake) -> Source:
    return Source(lake)


class Cut(Exception):
    """Simulates the death of the process."""


def test_the_ledger_tells_what_came_what_changed_and_what_went(source: Source) -> None:
    job = source.job()
    job.run(0, *(source.event("one", "c", 10 + n, n, 1) for n in (1, 2, 3)))
    job.run(
        1,
        source.event("one", "u", 20, 1, 2),
        source.event("one", "u", 21, 2, 2),
        source.event("one", "d", 22, 3, 1),
        source.event("one", "c", 23, 4, 1),
        source.event("two", "c", 24, 1, 1),
    )
    rows = [row for row in source.ledger() if row["batch_id"] == 1]
    names = ("rows_in", "rows_inserted", "rows_updated", "rows_deleted", "rows_upserted")
    found = {row["table_name"].rpartition("__")[2]: [row[n] for n in names] for row in rows}
    assert found == {"one": [4, 1, 2, 1, 3], "two": [1, 1, 0, 0, 1], "": [5, 2, 2, 1, 4]}


def test_batch_cut_before_the_ledger_runs_again_without_effect(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [source.event("one", "c", 10, 1, 1), source.event("two", "c", 11, 1, 1)]
    job = source.job()
    monkeypatch.setattr(job.ledger, "append", _raise_cut)
    with pytest.raises(Cut):
        job.run(0, *events)
    assert source.ledger() == []
    rows = source.job().run(0, *events)
    assert source.rows("one") == source.rows("two") == Counter([(1, 1)])
    assert [r.rows_upserted for r in rows] == [0, 0, 0]
    assert source.job().run(0, *events) == [], "it is in the ledger now"
    assert source.lake.table(f"silver/{source.schema}__one").version() == 1


def _raise_cut(*_: object) -> None:
    raise Cut


class StoreIsAway(ArrowEngine):
    def merge(self, table: Any, folded: Any, commit: Any) -> Any:
        if table.name.endswith("__one"):
            raise OSError("Generic S3 error: error sending request")
        return super().merge(table, folded, commit)


def test_store_that_does_not_answer_fails_the_batch_after_the_others_are_merged(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", (0.0,))
    events = [source.event("one", "c", 10, 1, 1), source.event("two", "c", 11, 1, 1)]
    with pytest.raises(BatchFailedError, match="1 of 2 tables failed"):
        source.job(StoreIsAway()).run(0, *events)
    assert source.rows("two") == Counter([(1, 1)])
    source.job().run(0, *events)
    assert source.rows("one") == source.rows("two") == Counter([(1, 1)])


def test_restarted_job_skips_events_that_come_again_at_new_offsets(source: Source) -> None:
    insert, delete = source.event("one", "c", 10, 1, 1), source.event("one", "d", 20, 1)
    source.job().run(0, insert, delete)
    [row, _] = source.job().run(1, insert._replace(offset=900), source.event("one", "c", 30, 2, 2))
    assert row.rows_skipped == 1
    assert source.rows("one") == Counter([(2, 2)])


def test_bad_value_goes_to_quarantine_once_and_others_go_on(source: Source) -> None:
    events = [source.event("one", "c", 10, 1, "not a number"), source.event("one", "c", 11, 2, 2)]
    # Its contract may be stale. The source does not answer, so the value is checked by the
    # stored contract.
    job = source.job()
    for _ in range(2):
        job.run(0, *events)
        job = source.job()
    assert source.rows("one") == Counter([(2, 2)])
    mine = entries_of(source.lake, f"{source.schema}__one")
    assert [(row["offset"], row["raw_value"]) for row in mine] == [(1, events[0].value)]
    assert "v" in mine[0]["reason"]


def test_tables_are_complete_to_what_earlier_batches_saw(source: Source) -> None:
    job = source.job()
    job.run(0, source.event("one", "c", 10, 1, 1))
    job.ends = {f"hw.{source.schema}.one": {0: source.offset + 4}}
    job.run(1, source.event("two", "c", 50, 1, 1))
    job.run(2, source.event("one", "c", 60, 2, 2))
    job.run(3, source.event("one", "c", 70, 3, 3))
    whole = sorted(
        (r["batch_id"], r["complete_lsn"])
        for r in source.ledger()
        if r["table_name"] == WHOLE_BATCH
    )
    seen_before = whole[0][1] or 0  # other tests share the lake
    assert whole[1][1] == max(seen_before, 9)
    assert whole[2][1] == whole[1][1], "more was written than it has"
    assert whole[3][1] == max(seen_before, 59)


def test_ledger_keeps_what_a_restart_needs_when_it_is_shortened(source: Source) -> None:
    job = source.job()
    job.run(0, source.event("one", "c", 10, 1, 1))
    job.run(1, source.event("two", "c", 20, 1, 1))
    before: HighWater = source.job().ledger.restore().high_water
    job.ledger.compact(job.run(2, source.event("two", "c", 30, 2, 2))[0].merged_at)
    after = source.job().ledger.restore().high_water
    topic = f"hw.{source.schema}.one"
    assert after.of_topic(topic) == before.of_topic(topic)
    assert len([r for r in source.ledger() if r["table_name"].endswith("__two")]) == 1
