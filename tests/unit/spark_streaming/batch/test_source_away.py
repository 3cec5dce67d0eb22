"""While the source is unreachable, silver continues with everything that does not need it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.schema_changes import APPLIED, NOTED, RecordedChange, SchemaChanges
from spark_streaming.reading.offsets import BatchSpan
from tests.support.disk_lake import DiskLake
from tests.unit.debezium_events import TOPIC
from tests.unit.spark_streaming.batch.test_bag_changes import World

OTHER = "hw.public.actors"


def test_tables_that_need_the_catalog_wait_for_it_and_the_batches_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_streaming.ops.stopped.BACKOFF_S_MIN", 0.0)
    world = World(DiskLake(tmp_path))
    world.catalog.away = True  # and no contract of either is stored
    made = world.insert(id=1, note="a")
    events = {topic: [made._replace(topic=topic)] for topic in (TOPIC, OTHER)}
    for batch in range(3):
        world.restart()
        world.stopped._read = lambda span, bytes_max=None: {t: events[t] for t in span.end}
        first = events if batch == 0 else {}
        rows = world.runner.run(batch, first, _span(), started=time.monotonic())
        assert {row.state for row in rows if row.table_name} == {"stopped"}
    world.catalog.away = False
    world.runner.run(3, {}, _span(), started=time.monotonic())
    assert world.ids() == {1: 1}


def _span() -> BatchSpan:
    return BatchSpan({TOPIC: {0: 1}, OTHER: {0: 1}}, {TOPIC: {0: 2}, OTHER: {0: 2}})


def test_each_truncate_is_kept_for_a_time_and_other_changes_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SchemaChanges(DiskLake(tmp_path), {})

    def change(kind: str, lsn: int, outcome: str = APPLIED) -> RecordedChange:
        return RecordedChange("films", kind, 1, 1, Lsn(lsn), "evolve", outcome, "")

    class Past(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(timezone.utc) - timedelta(days=8)

    with monkeypatch.context() as patched:
        patched.setattr("spark_streaming.ops.schema_changes.datetime", Past)
        changes.put([change("table_truncated", 10), change("replica_identity", 11, NOTED)])
    changes.put([change("table_truncated", 20)])
    changes.prune()
    rows = changes.ensure().to_pyarrow_table().to_pylist()
    assert sorted(row["lsn"] for row in rows) == [11, 20]
    changes.put([change("table_truncated", 20)])
    assert len(changes.ensure().to_pyarrow_table()) == 2, "it is known still"
