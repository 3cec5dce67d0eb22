"""Growth: what a change costs in larger tables, with more tables, by the kind of key, and over time.

- `rows`: the same changes of tables of 1, 10 and 100 times as many rows: inserts of new keys (`sequential`), updates of
  the newest rows (`recent`), updates of random rows with UUID keys (`random`). Bytes written to the lake for each byte changed.
- `ratio`: recent changes of a table as fast as they go, and of one of ten times its rows.
- `tables`: 8 and 50 tables at the same rate of changes; HEADWATER_BENCH_TABLES=8,50,200 names others.
- `time`, only by name: a steady load for HEADWATER_BENCH_MINUTES; memory, files and the log's share each tenth of it.

HEADWATER_BENCH_CASES chooses, HEADWATER_BENCH_ROWS is the size of the tables of `rows` at 100x and of the larger one of
`ratio`, HEADWATER_BENCH_CHANGES the changes of each. Figures count only if the tables equal the source's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.bench_load import loaded
from tests.support.circumstances import proof
from tests.support.measure import percentiles, report, watched
from tests.support.silver_end import await_silver, lags
from tests.support.stack import Stack

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "500000"))
CHANGES = int(os.environ.get("HEADWATER_BENCH_CHANGES", "20000"))
RATIO_CHANGES = int(os.environ.get("HEADWATER_BENCH_RATIO_CHANGES", "100000"))
MINUTES = float(os.environ.get("HEADWATER_BENCH_MINUTES", "60"))
NUMBERS = [int(n) for n in os.environ.get("HEADWATER_BENCH_TABLES", "8,50").split(",")]
CASES = os.environ.get("HEADWATER_BENCH_CASES", "rows,ratio,tables").split(",")
KEYS = ("sequential", "recent", "random")
SIZES = {"1x": ROWS // 100, "10x": ROWS // 10, "100x": ROWS}
RECENT = 100_000
AT_ONCE, PACED_PER_S = 1_000, 2_000
MANY_PER_S, MANY_S = 50, 30.0
SEED = 1
STABLE = "id, v, note"  # what does not hang on the clock
WITHIN_S = 3_000.0
pytestmark = pytest.mark.timeout(7_200)


def only(case: str) -> pytest.MarkDecorator:
    """Leave a test out unless HEADWATER_BENCH_CASES names its case."""
    return pytest.mark.skipif(case not in CASES, reason=f"HEADWATER_BENCH_CASES lacks {case}")


@only("rows")
def test_the_cost_of_changes_in_larger_tables(stack: Stack) -> None:
    found: dict[str, Any] = {}
    tables = []
    for keys in KEYS:
        for size, rows in SIZES.items():
            table = f"grow_{keys}_{size}"
            tables.append(table)
            made(stack, table, keys, rows)
            found[f"{keys} {size}"] = changed(stack, table, keys, rows, CHANGES, PACED_PER_S)
    report(
        "growth_rows",
        {"rows": SIZES, "changes": CHANGES, "cases": found, **proof(stack, tables, SEED, STABLE)},
    )


@only("ratio")
def test_recent_changes_of_a_table_and_of_one_of_ten_times_its_rows(stack: Stack) -> None:
    found: dict[str, Any] = {}
    sizes = {"small": ROWS // 10, "large": ROWS}
    for name, rows in sizes.items():
        made(stack, f"ratio_{name}", "recent", rows)
    # By turns, so that neither has the younger stack; the first turn warms up and does not count.
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
    for turn in range(3):
        for name, rows in sizes.items():
            one = changed(stack, f"ratio_{name}", "recent", rows, RATIO_CHANGES, 0, seed=turn)
            if turn:
                turns[name].append(one)
    for name, runs in turns.items():
        keys = ("seconds", "silver_cpu_s", "written_bytes")
        found[name] = {key: round(sum(run[key] for run in runs) / len(runs), 2) for key in keys}
    ratios = {
        key: round(found["large"][key] / max(found["small"][key], 0.01), 3)
        for key in found["small"]
    }
    tables = [f"ratio_{name}" for name in sizes]
    report(
        "growth_ratio",
        {"rows": sizes, "changes": RATIO_CHANGES, **found, "large_by_small": ratios, **proof(stack, tables, SEED, STABLE)},
    )  # fmt: skip


@only("tables")
@pytest.mark.parametrize("number", NUMBERS)
def test_the_same_rate_over_more_tables(stack: Stack, number: int) -> None:
    tables = [f"many_{n}" for n in range(1, number + 1)]
    with stack.source() as source:
        for table in tables:
            source.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY, v int)".encode()
            )
            source.execute(
                f"INSERT INTO {table} SELECT i, 0 FROM generate_series(1, 100) i ON CONFLICT DO NOTHING".encode()
            )
        stack.await_tables(*tables, within_s=900)
        with lags(stack) as lag_s, watched(stack, every_s=5.0) as resources:
            began, turn = time.monotonic(), 0
            while time.monotonic() - began < MANY_S:
                table, row = tables[turn % number], 1 + turn % 100
                source.execute(f"UPDATE {table} SET v = {turn} WHERE id = {row}".encode())
                turn += 1
                time.sleep(max(0.0, began + turn / MANY_PER_S - time.monotonic()))
            took = time.monotonic() - began
    await_silver(stack, within_s=WITHIN_S)
    report(
        f"growth_tables_{number}",
        {
            "tables": number,
            "changes_per_s": round(turn / took, 1),
            "lag_s": percentiles(lag_s),
            "cores": {n: round(s / took, 3) for n, s in sorted(resources.cpu_s.items())},
            **resources.as_dict(),
            **proof(stack, tables, SEED),
        },
    )


@only("time")
def test_a_steady_load_over_time(stack: Stack) -> None:
    samples = []
    with loaded(stack, 50, tables=8) as load:
        for tenth in range(11):
            folders = [silver_folder(stack, table) for table in load.tables]
            with watched(stack, every_s=5.0) as resources:
                time.sleep(MINUTES * 6 if tenth else 6)
            samples.append(
                {
                    "minute": round(tenth * MINUTES / 10, 1),
                    "memory_mib": resources.total_mib,
                    "peak_mib": resources.peak_mib,
                    "files": sum(len(files_since(f, 0)[0]) for f in folders),
                    "data_bytes": sum(sum(files_since(f, 0)[0]) for f in folders),
                    "log_bytes": sum(sum(files_since(f, 0)[1]) for f in folders),
                }
            )
    await_silver(stack, within_s=WITHIN_S)
    about = {"minutes": MINUTES, "load_made": load.report, "samples": samples}
    report("growth_time", about | proof(stack, load.tables, SEED, STABLE))


def made(stack: Stack, table: str, keys: str, rows: int) -> None:
    """A table of so many rows, which silver has."""
    kind, key = ("uuid", "md5(i::text)::uuid") if keys == "random" else ("bigint", "i")
    with stack.source() as source, source.transaction():
        source.execute(
            f"CREATE TABLE {table} (id {kind} PRIMARY KEY, v int, note text, updated_at timestamptz)".encode()
        )
        source.execute(
            f"INSERT INTO {table} SELECT {key}, 0, md5(i::text), timestamptz '2026-01-01 00:00Z' "
            f"FROM generate_series(1, {rows}) i".encode()
        )
    stack.await_tables(table, within_s=WITHIN_S)
    stack.await_answer(f"SELECT count(*) FROM silver.{table}", [(rows,)], within_s=WITHIN_S)


def statement_of(table: str, keys: str, rows: int, rng: Random) -> Callable[[int, int], str]:
    """(Turn, how many rows) → the SQL of one transaction."""

    def statement(turn: int, count: int) -> str:
        if keys == "sequential":
            first = rows + turn * AT_ONCE + 1
            return (
                f"INSERT INTO {table} SELECT i, {turn}, md5(i::text), now() "
                f"FROM generate_series({first}, {first + count - 1}) i"
            )
        newest = (
            range(max(1, rows - RECENT + 1), rows + 1) if keys == "recent" else range(1, rows + 1)
        )
        ids = rng.sample(newest, min(count, len(newest)))
        chosen = ", ".join(f"(md5('{i}')::uuid)" if keys == "random" else f"({i})" for i in ids)
        return f"UPDATE {table} SET v = v + 1, updated_at = now() FROM (VALUES {chosen}) c (key) WHERE id = c.key"

    return statement


def changed(
    stack: Stack, table: str, keys: str, rows: int, changes: int, per_s: float, seed: int = SEED
) -> dict[str, Any]:
    """Change rows, AT_ONCE a transaction, at a rate or as fast as it goes; what that wrote and took."""
    statement = statement_of(table, keys, rows, Random(f"growth:{seed}"))
    folder = silver_folder(stack, table)
    before = time.time()
    with stack.source() as source, watched(stack, every_s=5.0) as resources:
        began, done, turn = time.monotonic(), 0, 0
        while done < changes:
            done += source.execute(statement(turn, AT_ONCE).encode()).rowcount
            turn += 1
            if per_s:
                time.sleep(max(0.0, began + done / per_s - time.monotonic()))
        written = time.monotonic() - began
        await_silver(stack, within_s=WITHIN_S)
        took = time.monotonic() - began
        row = source.execute(
            f"SELECT avg(pg_column_size(t)) FROM (SELECT * FROM {table} LIMIT 1000) t".encode()
        )
        [(width,)] = row.fetchall()
    data, log = files_since(folder, before)
    whole, logs = files_since(folder, 0)
    return {
        "changes": done,
        "written_s": round(written, 1),
        "seconds": round(took, 2),
        "silver_cpu_s": round(resources.cpu_s.get("silver", 0.0), 2),
        "cpu_total_s": round(sum(resources.cpu_s.values()), 1),
        "written_bytes": sum(data) + sum(log),
        "written_for_each_byte_changed": round((sum(data) + sum(log)) / (float(width) * done), 2),
        "files_written": len(data),
        "log_share": round(sum(log) / max(sum(data) + sum(log), 1), 3),
        "files": len(whole),
        "bytes": sum(whole),
        "log_bytes": sum(logs),
        "memory_mib": resources.total_mib,
        "silver_mib": resources.peak_mib.get("silver"),
    }


def silver_folder(stack: Stack, table: str) -> Path:
    """A silver table's folder on the disk of the embedded store."""
    settings = stack.settings
    return settings.home / "data" / "s3" / settings.store.lake_bucket / "silver" / table


def files_since(folder: Path, since: float) -> tuple[list[int], list[int]]:
    """The sizes of data files and of log files that are newer, in Unix seconds."""
    data: list[int] = []
    log: list[int] = []
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # cleaned up meanwhile
        if path.is_file() and status.st_mtime > since:
            (log if "_delta_log" in path.parts else data).append(status.st_size)
    return data, log
