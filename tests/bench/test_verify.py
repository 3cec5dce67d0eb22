"""The cost of a comparison: rows a second and peak memory, on tables of growing size.

A real Postgres and a Delta table on disk hold the same generated rows. A separate process
compares them as one part, as `verify` does with a table that cannot be divided, with a key and without.
First they are equal, then one row in ten differs. The memory must not grow with the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from app.compare.compare import compare
from app.compare.silver_rows import SilverRows
from app.compare.snapshot import open_snapshot
from app.verify.verify_work import SOURCE_FETCH_ROWS, source_rows
from spark_streaming.contract.canonical import source_select
from spark_streaming.contract.source_catalog import read_contract
from tests.support.measure import report
from tests.support.postgres import fresh_database
from tests.support.stack import ROOT, fresh_stack

FILE_ROWS = 250_000
COLUMNS = "v int, note text, price numeric(12,2), at timestamptz, ratio float8"
VALUES = "i % 1000, 'note ' || i, i, to_timestamp(i), i::float8 / 7"


@pytest.mark.parametrize("rows", [100_000, 500_000, 2_000_000])
def test_memory_and_speed_of_a_comparison(rows: int, tmp_path: Path) -> None:
    figures: dict[str, Any] = {"rows": rows}
    with fresh_stack() as server:
        server.up("--only", "postgres")
        with fresh_database(server.settings.source_dsn) as dsn:
            make_source(dsn, rows)
            for forged in (0, 10):
                folder = tmp_path / f"silver_{forged}"
                reader = pa.RecordBatchReader.from_batches(SCHEMA, batches(rows, forged))
                write_deltalake(folder, reader, target_file_size=16 << 20)
                for table in ("keyed", "keyless"):
                    figures[f"{table}_{forged}"] = measured(dsn, table, folder)
            assert figures["keyed_0"]["differing"] == 0 == figures["keyless_0"]["missing"]
            assert (
                figures["keyed_10"]["differing"] == figures["keyless_10"]["missing"] == rows // 10
            )
    report(f"verify_{rows}", figures)


def make_source(dsn: str, rows: int) -> None:
    """The tables `keyed` and `keyless` with the same `rows` rows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table, key in (("keyed", "id bigint PRIMARY KEY"), ("keyless", "id bigint")):
            connection.execute(f"CREATE TABLE {table} ({key}, {COLUMNS})".encode())
            connection.execute(
                f"INSERT INTO {table} SELECT i, {VALUES} FROM generate_series(1, {rows}) i".encode()
            )


SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("v", pa.int32()),
        ("note", pa.string()),
        ("price", pa.decimal128(12, 2)),
        ("at", pa.timestamp("us", "UTC")),
        ("ratio", pa.float64()),
    ]
)


def batches(rows: int, forged_every: int) -> Iterator[pa.RecordBatch]:
    """The source's rows in silver's form; each `forged_every`-th has another note."""
    for start in range(1, rows + 1, FILE_ROWS):
        ids = pa.array(range(start, min(rows + 1, start + FILE_ROWS)), pa.int64())
        note = pc.binary_join_element_wise("note", ids.cast(pa.string()), " ")
        if forged_every:
            chosen = [i % forged_every == 0 for i in ids.to_pylist()]
            note = pc.if_else(pa.array(chosen), "forged", note)
        values = [i % 1000 for i in ids.to_pylist()]
        yield pa.RecordBatch.from_arrays(
            [
                ids,
                pa.array(values, pa.int32()),
                note,
                ids.cast(pa.decimal128(21, 2)).cast(pa.decimal128(12, 2)),
                pc.multiply(ids, 1_000_000).cast(pa.timestamp("us", "UTC")),
                pc.divide(ids.cast(pa.float64()), 7.0),
            ],
            schema=SCHEMA,
        )


def measured(dsn: str, table: str, silver: Path) -> dict[str, Any]:
    """Compare in a separate process. Returns: its report, with the kernel's accounting."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.test_verify", dsn, table, str(silver)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    found = json.loads(out)
    return found | {
        "seconds_with_start": round(time.monotonic() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_rss_mib": used.ru_maxrss // 1024,
    }


def child(dsn: str, table: str, silver: Path) -> dict[str, Any]:
    """Compare `table` with the Delta table at `silver` as one part."""
    with open_snapshot(dsn) as snapshot:
        contract = read_contract(snapshot.connection, "public", table)
        assert contract is not None
        rows = SilverRows(DeltaTable(silver), contract)
        columns = [column.name for column in contract.columns]
        query = source_select(contract)
        began = time.monotonic()
        found = compare(
            lambda: source_rows(snapshot.connection, query, SOURCE_FETCH_ROWS),
            rows.texts,
            columns,
            [columns.index(name) for name in contract.key],
            scratch=silver.parent,
            expected_rows=rows.rows,
        )
        seconds = time.monotonic() - began
    return {
        "rows_per_s": round(found.rows / seconds),
        "missing": found.missing,
        "differing": found.differing,
    }


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
