"""A table without a key changes during an interrupted batch: no copy is merged twice."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.catalog_watch import CatalogCheck, CatalogWatch
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.support.disk_lake import DiskLake
from tests.unit.debezium_events import TOPIC, event

ID = Column("id", "integer", "int32", base_type="int4", attnum=1)
NOTE = Column("note", "text", "text", base_type="text", attnum=2)
BEFORE = Contract("public", "films", (ID, NOTE), (), "full", oid=7)
AFTER = replace(BEFORE, columns=(ID,))


class Killed(BaseException):
    """Simulates the death of the process."""


class Catalog(ContractStore):
    """The source's catalog and its reader; both may be unavailable."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake, "")
        self.now, self.away, self.lsn = BEFORE, False, 100

    def in_source(self, schema: str, table: str) -> Contract | None:
        if self.away:
            raise CatalogUnreachableError("the source is away")
        if (schema, table) == (BEFORE.schema, BEFORE.table):
            return self.now
        return replace(self.now, schema=schema, table=table, oid=8)

    def check(self, tables: Any) -> CatalogCheck:
        if self.away:
            raise CatalogUnreachableError("the source is away")
        return CatalogCheck(
            Lsn(self.lsn), Lsn(self.lsn), dict.fromkeys(tables, self.now.fingerprint())
        )

    def colliding_columns(self) -> dict[tuple[str, str], str]:
        return {}


class World:
    """One query on the table; each call of `run` repeats the batch."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.catalog, self.offset = lake, Catalog(lake), 0
        self.restart()

    def restart(self) -> None:
        options = TableOptions()
        ledger = Ledger(self.lake, "q", options.properties())
        restored = ledger.restore()
        evolver = Evolver(self.catalog, cast(CatalogWatch, self.catalog))
        self.topics = Topics(self.lake, self.catalog, "hw", options, restored.high_water, evolver)
        gate = Gate(
            ContractFolder(), Quarantine(self.lake, "q", options.properties()), None, self.topics
        )
        steps = TableSteps("q", self.topics, gate, ArrowEngine())
        self.stopped = Resumption(steps, ledger, restored, lambda span, bytes_max=None: {})
        rounds = Rounds(steps, ThreadPoolExecutor(2))
        self.runner = BatchRunner(rounds, self.stopped, ledger, restored)

    def insert(self, **row: Any) -> RawEvent:
        self.offset += 1
        self.catalog.lsn = lsn = 100 + 10 * self.offset
        return event("c", lsn=lsn, commit=lsn - 1, offset=self.offset, after=row)

    def run(self, batch_id: int, *events: RawEvent) -> list[LedgerRow]:
        span = BatchSpan({TOPIC: {0: events[0].offset}}, {TOPIC: {0: events[-1].offset + 1}})
        return self.runner.run(batch_id, {TOPIC: list(events)}, span, started=time.monotonic())

    def ids(self) -> Counter[int]:
        return Counter(self.lake.table("silver/films").to_pyarrow_table()["id"].to_pylist())


def _killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize("away", [False, True], ids=["the_source_is_there", "the_source_is_away"])
@pytest.mark.parametrize(
    "where", [(Topics, "apply_pending"), (SilverTable, "adopt"), (Ledger, "append")]
)
def test_events_before_the_change_are_merged_once_whatever_the_next_process_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str], away: bool
) -> None:
    world = World(DiskLake(tmp_path))
    world.run(0, world.insert(id=1, note="a"))
    older = [world.insert(id=2, note="b"), world.insert(id=3, note="c")]
    world.catalog.now = AFTER
    events = [*older, world.insert(id=4)]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(where[0], where[1], _killed)
        world.run(1, *events)
    world.restart()
    world.catalog.away = away
    [row, _] = world.run(1, *events)
    assert world.ids() == Counter([1, 2, 3, 4])
    assert row.delta_version == world.lake.table("silver/films").version()


def test_a_batch_that_ends_with_the_change_tells_the_version_that_holds_it(tmp_path: Path) -> None:
    world = World(DiskLake(tmp_path))
    world.run(0, world.insert(id=1, note="a"))
    older = world.insert(id=2, note="b")
    world.catalog.now = AFTER
    newer = world.insert(id=3)
    lsn = world.catalog.lsn
    gone = event("d", lsn=lsn, commit=lsn - 1, order=2, offset=newer.offset + 1, before={"id": 3})
    [row, _] = world.run(1, older, newer, gone)
    assert world.ids() == Counter([1, 2])
    assert row.delta_version is not None, "what was merged before the change is in it"
    assert row.rows_inserted == 1
