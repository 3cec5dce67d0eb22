"""A year of the stack's own tables: with maintenance they stay small, in rows, files, log entries and bytes.

A step stands for sixteen days. After it, everything written is as old as that, by its files' times; a retention of
minutes or hours is over then, so it is set to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import wait
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_streaming.batch.upkeep.maintenance import Maintenance
from spark_streaming.batch.upkeep.table_need import CHECKPOINT_COMMITS
from spark_streaming.batch.upkeep.table_upkeep import OpsTable
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.events.position import HighWater
from spark_streaming.ops import breaches, schema_changes
from spark_streaming.ops.breaches import Breach, Breaches
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.ops.schema_changes import APPLIED, RecordedChange, SchemaChanges
from spark_streaming.quarantine import quarantine
from spark_streaming.quarantine.quarantine import REPLAYED, Quarantine
from spark_streaming.quarantine.quarantined_rows import place_of
from spark_streaming.storage import small_table
from spark_streaming.storage.small_table import COMPACT_COMMITS, VACUUM_COMMITS, SmallTable
from spark_streaming.tables.joined_files import JOIN_FILES_MIN
from spark_streaming.tables.silver_table import TableOptions
from tests.support.disk_lake import DiskLake

pytestmark = pytest.mark.unhurried
STEP = timedelta(days=16)
STEPS = 23
LOG_BYTES_MAX = 500_000
Sizes = list[dict[str, dict[str, int]]]
PROPERTIES = TableOptions(0).properties()
TABLES = ("orders", "customers", "payments")
ROUNDS = pa.schema(
    [("round", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("what", pa.string())]
)


class Calendar(datetime):
    """A clock that the test advances; `Calendar` takes the place of `datetime` in the modules."""

    present = datetime(2026, 1, 1, tzinfo=timezone.utc)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        Calendar.present += timedelta(microseconds=1)
        return Calendar.present


class Year:
    """The tables, their writers, and the job's maintenance."""

    def __init__(self, folder: Path) -> None:
        self.lake = DiskLake(folder)
        self.number = 0
        self.ledger = Ledger(self.lake, "q", PROPERTIES)
        self.breaches = Breaches(self.lake, "q", PROPERTIES)
        self.changes = SchemaChanges(self.lake, PROPERTIES)
        self.quarantine = Quarantine(self.lake, "q", PROPERTIES)
        self.incidents = IncidentLog(self.lake, lambda: Calendar.now())
        self.verification = SmallTable(self.lake, "ops/verification", ROUNDS)
        self.meaning = SmallTable(self.lake, "ops/meaning", ROUNDS)
        ops: dict[str, OpsTable] = {
            "quarantine": self.quarantine,
            "quarantine_events": self.quarantine.events,
            "expectations": self.breaches,
            "schema_changes": self.changes,
        }
        none: Any = type("Topics", (), {"tables": staticmethod(lambda: [])})()
        self.maintenance = Maintenance(
            self.lake, none, self.ledger, TableOptions(0), ops, clock=self._seconds
        )

    def _seconds(self) -> float:
        return Calendar.present.timestamp()

    def step(self) -> None:
        """Write what sixteen days bring, maintain, and let the days pass."""
        for _ in range(CHECKPOINT_COMMITS):
            self._batch()
        for _ in range(COMPACT_COMMITS // 10):
            self.number += 1
            row = {"round": self.number, "at": Calendar.now(), "what": "equal"}
            rows = pa.Table.from_pylist([row], schema=ROUNDS)
            self.verification.append(rows, time_column="at", retention=timedelta(days=30))
            self.meaning.replace(rows)
        for number in range(4):
            self._incident(number)
        self.changes.put([self._change("table_truncated"), self._change("column_added")])
        self.maintenance.after_batch([])
        wait([self.maintenance._thread.submit(lambda: None)], timeout=60)
        self._pass()

    def _batch(self) -> None:
        self.number += 1
        now, place = Calendar.now(), {"hw.public.orders": {0: self.number}}
        rows = [LedgerRow("q", self.number, name, 1, merged_at=now) for name in (*TABLES, "")]
        rows[0] = LedgerRow(
            "q", self.number, "orders", 1, offsets=place, high_water=HighWater(), merged_at=now
        )
        self.ledger.append(rows, self.number)
        if self.number % 9 == 0:
            self.breaches.put([Breach("orders", "min", "warn", 1, 9)], self.number)
            raw = RawEvent(
                "hw.public.orders", 0, self.number, 0, b'{"id": 1}', b'{"after": {"id": 1}}', []
            )
            reject = Reject(raw, "min", "too small")
            self.quarantine.put({"orders": [reject]}, self.number)
            self.quarantine.close([place_of(raw)], REPLAYED)

    def _incident(self, number: int) -> None:
        made = self.incidents.open_incident(
            "service", f"kafka {number}", cause="ended", recurs=True
        )
        self.incidents.flush(30)
        self.incidents.close_incident(made, "started again")
        self.incidents.flush(30)

    def _change(self, kind: str) -> RecordedChange:
        self.number += 1
        return RecordedChange(
            "orders", kind, self.number, self.number, Lsn(self.number), "", APPLIED, "a"
        )

    def _pass(self) -> None:
        Calendar.present += STEP
        for path in self.lake.folder.rglob("*"):
            if path.is_file():
                at = path.stat().st_mtime - STEP.total_seconds()
                os.utime(path, (at, at))


def size_of(folder: Path) -> dict[str, int]:
    """What a table takes: its rows, files, log entries, and bytes of each."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    entries = [path for path in files if path.parent.name == "_delta_log"]
    data = [path for path in files if path.suffix == ".parquet" and path not in entries]
    return {
        "rows": DeltaTable(str(folder)).count(),
        "files": len(data),
        "entries": len(entries),
        "log_bytes": sum(path.stat().st_size for path in entries),
        "bytes": sum(path.stat().st_size for path in data),
    }


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sizes]:
    """What each table took after half a year and after a year."""
    modules: tuple[ModuleType, ...] = (breaches, schema_changes, quarantine, small_table)
    with pytest.MonkeyPatch.context() as patched:
        for module in modules:
            patched.setattr(module, "datetime", Calendar)
        patched.setattr("spark_streaming.batch.upkeep.table_upkeep.datetime", Calendar)
        patched.setattr(small_table, "READ_HOURS", 0)
        made = Year(tmp_path_factory.mktemp("year"))
        found = []
        for number in range(STEPS):
            made.step()
            if number in (STEPS // 2 - 1, STEPS - 1):
                folders = sorted({p.parent for p in made.lake.folder.rglob("_delta_log")})
                found.append({f"{p.parent.name}/{p.name}": size_of(p) for p in folders})
        yield found
        made.maintenance.stop()


# Each table's greatest numbers of rows, files and log entries, by the limits in its own module. A step's commits come on
# top, because maintenance runs at a step's end only: a year of real time has it every few minutes.
BOUNDS = {
    "ops/ledger": (4 * CHECKPOINT_COMMITS + 8, 2 * CHECKPOINT_COMMITS, 2 * CHECKPOINT_COMMITS),
    "ops/quarantine": (12, 20, 20),
    "raw/quarantine": (12, 20, 20),
    "ops/expectations": (12, 20, 20),
    "ops/schema_changes": (STEPS + 2, JOIN_FILES_MIN + 2, 12),
    "ops/incidents": (8 * STEPS, 70, 80),
    "ops/verification": (120, COMPACT_COMMITS + 20, COMPACT_COMMITS + 30),
    "ops/meaning": (1, VACUUM_COMMITS + 20, VACUUM_COMMITS + 30),
}


def test_every_table_of_ops_is_within_its_bounds_after_a_year(year: Sizes) -> None:
    assert year[1].keys() == BOUNDS.keys()
    found = {
        name: (sizes["rows"], sizes["files"], sizes["entries"]) for name, sizes in year[1].items()
    }
    beyond = {
        name: (numbers, BOUNDS[name])
        for name, numbers in found.items()
        if any(number > most for number, most in zip(numbers, BOUNDS[name], strict=True))
    }
    assert beyond == {}


def test_the_second_half_of_a_year_adds_nothing_but_rows_that_stay_for_good(year: Sizes) -> None:
    grown = {
        name: (year[0][name], sizes)
        for name, sizes in year[1].items()
        if sizes["log_bytes"] > 2 * max(year[0][name]["log_bytes"], LOG_BYTES_MAX // 4)
        or sizes["bytes"] > 3 * max(year[0][name]["bytes"], 50_000)
    }
    assert grown == {}


def test_no_log_takes_more_than_some_hundred_kilobytes(year: Sizes) -> None:
    logs = {name: sizes["log_bytes"] for name, sizes in year[1].items()}
    assert {name: size for name, size in logs.items() if size > LOG_BYTES_MAX} == {}
