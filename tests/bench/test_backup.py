"""Measures how long a backup takes, and how long it takes to restore a lost home from it and from the source.

One table of HEADWATER_BENCH_ROWS rows, a tenth of which are changed after the snapshot; the source is another server
on the same machine. All rows are compared before the backup and after the restore.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psycopg
import pytest

from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.circumstances import proof
from tests.support.measure import report
from tests.support.postgres_server import postgres_server
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "1000000"))
WITHIN_S = 3_000.0
SERVICES = ("--only", "capture", "silver")
TABLE = "kept"
SEED = 1  # of nothing random: the rows follow from their numbers

pytestmark = pytest.mark.timeout(7_200)


def test_a_lost_home_of_a_million_rows(tmp_path: Path) -> None:
    place, seconds = tmp_path / "backup", {}
    with postgres_server(15) as dsn:
        fill(dsn)
        with fresh_stack() as stack:
            stack.up("--source", dsn, "--apply", *SERVICES)
            proof(stack, [TABLE], SEED)
            change(dsn)
            before = proof(stack, [TABLE], SEED)
            began = time.monotonic()
            stack.run("verify", "--bronze", timeout_s=WITHIN_S)
            seconds["verify_bronze"] = time.monotonic() - began
            made = stack.answer("backup", str(place), timeout_s=WITHIN_S)
            again = stack.answer("backup", str(place), timeout_s=WITHIN_S)
            stack.run("down", timeout_s=WITHIN_S)
            shutil.rmtree(stack.home)
        with fresh_stack() as stack:
            restored = stack.answer("restore", str(place), timeout_s=WITHIN_S)
            began = time.monotonic()
            stack.up(*SERVICES)
            seconds["up"] = time.monotonic() - began
            until(
                lambda: read_again(stack),
                within_s=WITHIN_S,
                what="all tables read again",
                every_s=0.5,
            )
            seconds["read_again"] = time.monotonic() - began
            after = proof(stack, [TABLE], SEED)
    assert after["workload"] == before["workload"]
    seconds |= {"backup": made["seconds"], "backup_of_nothing_new": again["seconds"]}
    seconds |= {"restore": restored["seconds"]}
    minutes = (seconds["restore"] + seconds["read_again"]) / 60
    report(
        "backup",
        {
            "rows": ROWS,
            "events": ROWS + ROWS // 10,
            "objects": made["objects"],
            "megabytes": made["megabytes"],
            "seconds": {name: round(value, 1) for name, value in sorted(seconds.items())},
            "minutes_until_equal_per_million_rows": round(minutes / ROWS * 1e6, 2),
            **after,
        },
    )


def fill(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as source:
        source.execute(
            f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, n int, note text, at timestamptz)".encode()
        )
        values = "i, i % 1000, 'note ' || md5(i::text), timestamptz '2026-01-01 00:00Z' + i * interval '1 s'"
        rows = f"SELECT {values} FROM generate_series(1, {ROWS}) i"
        source.execute(f"INSERT INTO {TABLE} {rows}".encode())


def change(dsn: str) -> None:
    """Update every tenth row, a transaction for each tenth of these."""
    with psycopg.connect(dsn, autocommit=True) as source:
        for part in range(10):
            among = f"id % 100 = {10 * part}"
            source.execute(f"UPDATE {TABLE} SET n = n + 1 WHERE {among}".encode())


def read_again(stack: Stack) -> bool:
    """Whether the incident of the restore is closed: every table was read again from the source."""
    log = IncidentLog(Lakehouse(stack.settings).lake)
    log.refresh()
    found = log.incidents(kind="gap")
    return bool(found) and not found[-1].open
