"""Silver makes captured tables without rows and follows their changes; with a real source and Delta tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.source.definition_notes import Notes, notes_finding
from spark_streaming.batch.gate import Gate
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger
from spark_streaming.ops.schema_changes import SchemaChanges
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.empty_tables import EmptyTables
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import LEDGER
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from tests.spark.shop import OPTIONS
from tests.support.disk_lake import DiskLake
from tests.unit.debezium_events import change_event, event

HEARTBEAT = "hw.headwater.heartbeat"
Source = psycopg.Connection[tuple[Any, ...]]


class Killed(Exception):
    """Ends the process here."""


class KilledStore(ContractStore):
    """Its process is killed before it stores a contract."""

    def keep(self, contract: Contract) -> None:
        raise Killed(contract.table)


class Job:
    """Silver on a real source; `restart` makes a new process."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.lake = dsn, DiskLake(folder)
        for table in ("t", "left_alone"):
            (folder / "contracts" / f"public.{table}").mkdir(parents=True)
        self.batch = self.beats = 0
        self.ends = dict[str, dict[int, int]]()
        self.watch: CatalogWatch | None = None
        self.restart()

    def restart(self, store: type[ContractStore] = ContractStore) -> None:
        self.close()
        self.now = 0.0
        self.watch = watch = CatalogWatch(self.dsn)
        ledger = Ledger(self.lake, "q", OPTIONS.properties())
        restored = ledger.restore()
        contracts = store(self.lake, self.dsn)
        records = SchemaChanges(self.lake, OPTIONS.properties())
        evolver = Evolver(contracts, watch, records=records, clock=lambda: self.now)
        topics = Topics(self.lake, contracts, "hw", OPTIONS, restored.high_water, evolver)
        gate = Gate(
            ContractFolder(), Quarantine(self.lake, "q", OPTIONS.properties()), None, topics
        )
        steps = TableSteps("q", topics, gate, ArrowEngine())
        self.stopped = Resumption(steps, ledger, restored, lambda span, bytes_max=None: {})
        rounds = Rounds(steps, ThreadPoolExecutor(2))
        self.runner = BatchRunner(
            rounds,
            self.stopped,
            ledger,
            restored,
            empty_tables=EmptyTables(watch, topics, "hw", "headwater", lambda: self.now),
        )

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()

    def run(self, *events: RawEvent, times: int = 1) -> None:
        """Run a batch of these events and a heartbeat, then `times` - 1 batches with only a heartbeat."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("select pg_logical_emit_message(true, 'test', 'a heartbeat')")
            [(lsn,)] = connection.execute(
                "select (pg_current_wal_insert_lsn() - '0/0')::bigint"
            ).fetchall()
        self.now += 100
        self.beats += 1
        beat = change_event("headwater", "heartbeat", "u", lsn, self.beats, {"id": 1})
        self.ends[HEARTBEAT] = {0: self.beats + 1}
        by_topic: dict[str, list[RawEvent]] = {HEARTBEAT: [beat]}
        for one in events:
            by_topic.setdefault(one.topic, []).append(one)
            self.ends[one.topic] = {0: one.offset + 1}
        span = BatchSpan({}, {topic: dict(ends) for topic, ends in self.ends.items()})
        self.runner.run(self.batch, by_topic, span, started=0.0)
        self.batch += 1
        if times > 1:
            self.run(times=times - 1)

    def columns(self, table: str) -> list[str]:
        names = self.lake.table(f"silver/{table}").to_pyarrow_table().column_names
        return [name for name in names if not name.startswith("_")]

    def rows(self, table: str) -> list[dict[str, Any]]:
        found = self.lake.table(f"silver/{table}").to_pyarrow_table(columns=self.columns(table))
        return list(found.to_pylist())

    def told(self, table: str) -> tuple[str, dict[str, Any], int | None]:
        """The newest row of the ledger: state, offsets, and the LSN up to which the table is complete."""
        rows = self.lake.table(LEDGER).to_pyarrow_table().sort_by("merged_at").to_pylist()
        row = next(row for row in reversed(rows) if row["table_name"] == table)
        return row["state"], json.loads(row["offsets"]), row["complete_lsn"]


@pytest.fixture
def dsn(dsn: str) -> str:
    """A database with a publication that records its definitions."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("create schema headwater")
        for fix in notes_finding(Notes(may_make=True), "headwater").fixes:
            owner.execute(fix.run or "")
        owner.execute("create table headwater.heartbeat (id int primary key)")
        owner.execute("create publication headwater")
    return dsn


@pytest.fixture
def job(dsn: str, tmp_path: Path) -> Iterator[Job]:
    job = Job(dsn, tmp_path)
    yield job
    job.close()


def capture(source: Source, definition: str, name: str = "t") -> None:
    source.execute(f"create table {name} ({definition})".encode())
    source.execute(f"alter publication headwater add table {name}".encode())


def lsn(source: Source) -> int:
    [(found,)] = source.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchall()
    return int(found)


def change(at: int, offset: int, row: dict[str, Any]) -> RawEvent:
    return change_event("public", "t", "c", at, offset, row)


def test_a_captured_table_without_a_row_is_there_with_its_columns_and_claims_nothing(
    job: Job, source: Source
) -> None:
    job.run(times=2)
    capture(source, "id int primary key, v text")
    source.execute("create table left_alone (id int primary key)")
    job.run(times=3)
    assert (job.columns("t"), job.rows("t")) == (["id", "v"], [])
    assert job.told("t") == ("running", {}, None)
    assert not job.lake.exists("silver/left_alone")
    job.restart()
    job.run(times=2)
    assert job.told("t") == ("running", {}, None)
    job.run(change(lsn(source), 0, {"id": 1, "v": "a"}))
    assert job.rows("t") == [{"id": 1, "v": "a"}]
    state, offsets, complete = job.told("t")
    assert (state, offsets, complete is not None) == ("running", {"hw.public.t": {"0": 1}}, True)


def test_an_event_of_an_older_definition_finds_its_own_in_a_table_that_was_made_without_one(
    job: Job, source: Source
) -> None:
    job.run(times=2)
    capture(source, "id int primary key, v text")
    written = lsn(source)
    source.execute("alter table t rename v to w")
    source.execute("alter table t add n int")
    job.run()
    # Written before silver saw the table, but later in Kafka.
    job.run(change(written, 0, {"id": 1, "v": "old"}))
    job.run(change(lsn(source), 1, {"id": 2, "w": "new", "n": 2}), times=3)
    assert sorted(job.rows("t"), key=lambda row: int(row["id"])) == [
        {"id": 1, "w": "old", "n": None},
        {"id": 2, "w": "new", "n": 2},
    ]


def test_a_table_without_a_row_follows_its_definition(job: Job, source: Source) -> None:
    capture(source, "id int primary key, v text")
    job.run(times=3)
    source.execute("alter table t add n int")
    source.execute("alter table t alter v type varchar(20)")
    job.run(times=4)
    assert job.columns("t") == ["id", "v", "n"]
    source.execute("drop table t")
    capture(source, "key int primary key")
    job.run(times=4)
    assert "key" in job.columns("t")
    job.run(event("t", lsn=lsn(source), offset=0)._replace(topic="hw.public.t"))
    assert job.rows("t") == []
    assert job.told("t")[:2] == ("running", {"hw.public.t": {"0": 1}})


def test_a_process_killed_between_table_and_contract_leaves_no_column_of_an_older_one(
    job: Job, source: Source
) -> None:
    capture(source, "id int primary key, v text, gone int")
    job.restart(KilledStore)
    job.run()
    assert job.columns("t") == ["id", "v", "gone"]
    source.execute("alter table t drop gone")
    source.execute("alter table t rename v to w")
    job.restart()
    job.run(times=6)
    assert (job.columns("t")[0], "w" in job.columns("t")) == ("id", True)
    job.run(change(lsn(source), 0, {"id": 1, "w": "a"}))
    assert [(row["id"], row["w"]) for row in job.rows("t")] == [(1, "a")]
