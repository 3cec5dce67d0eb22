"""Size: the measured resources of each part at three loads, compared with the prediction of `headwater size`.

The prediction uses the coefficients of an earlier run (`app/deploy/sizing/coefficients.toml`).
`HEADWATER_BENCH_OUT` gets the measurements, and coefficients fitted to all loads of this run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine

from app.deploy.sizing.coefficients import Coefficients, read_coefficients
from app.deploy.sizing.demand import (
    Workload,
    at,
    batch_of,
    cores_of,
    kafka_bytes,
    store_use,
    together,
)
from app.store.workload.load_tables import BenchWorkload
from tests.support.counted_requests import READS, WRITES, CountedRequests, counted
from tests.support.measure import report, watched
from tests.support.stack import Stack, fresh_stack

ROWS = 2_000  # of each table
CORES = 2.0
FITTED_ONLY = ((50.0, 1), (50.0, 8), (500.0, 8))  # changes a second, tables
CHECKED = ((20.0, 4), (200.0, 8), (400.0, 2))
WITHIN = 0.25
ARRIVED_MIN = 0.85  # of a load; if fewer arrived, other work had the processors
SETTLE_S = 15.0
WINDOW_S = 45.0
WARM_UP_S = 90.0
STORE = "store"
Number = TypeVar("Number", int, float)
NAMED = ("postgres", "kafka", "connect", "silver", "trino", STORE)


@dataclass(frozen=True)
class Observed:
    """A load as silver merged it, and its resources a second; `cores` by part, `others` for the rest."""

    rate: float
    tables: int
    cores: dict[str, float]
    memory_mib: dict[str, int]
    batches: float
    merges: float
    batch_s: float
    kafka_bytes: float
    bronze_bytes: float
    writes: float
    reads: float


@dataclass
class Bench:
    """The stack, the stack whose store it uses, and the counter of its requests to that store."""

    stack: Stack
    owner: Stack
    relay: CountedRequests

    def kafka_bytes(self) -> int:
        """The segments of all topics of the source."""
        logs = (self.stack.home / "data" / "kafka").glob("hw.*/*.log")
        return sum(path.stat().st_size for path in logs)

    def bronze_bytes(self) -> int:
        """The objects of bronze, as files of the embedded store."""
        bucket = self.owner.home / "data" / "s3" / "bronze"
        return sum(path.stat().st_size for path in bucket.rglob("*") if path.is_file())

    def ledger(self, since: datetime) -> tuple[int, int, float, int]:
        """Batches, merges, a batch's average time in seconds, and the load's changes, since then."""
        [row] = self.stack.query(
            "SELECT count(DISTINCT batch_id), count_if(table_name <> '' AND rows_in > 0), "
            "avg(duration_ms) FILTER (WHERE table_name = ''), "
            "sum(rows_in) FILTER (WHERE table_name LIKE '%bench%') FROM ops.ledger "
            f"WHERE merged_at > TIMESTAMP '{since:%Y-%m-%d %H:%M:%S.%f} UTC'"
        )
        return int(row[0]), int(row[1]), float(row[2] or 0) / 1000, int(row[3] or 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with fresh_stack() as owner:
        owner.up("--only", "s3")
        port = int(owner.settings.store.endpoint.rpartition(":")[2])
        with counted("127.0.0.1", port) as relay, fresh_stack() as stack:
            stack.up("--profile", str(profile(owner, relay, tmp_path_factory.mktemp("profile"))))
            yield Bench(stack, owner, relay)


def profile(owner: Stack, relay: CountedRequests, folder: Path) -> Path:
    """The owner's store, through the counting proxy."""
    given = {
        "s3_endpoint": f"http://127.0.0.1:{relay.port}",
        "s3_access_key": owner.settings.secret("s3_access_key"),
        "s3_secret_key": owner.settings.secret("s3_secret_key"),
    }
    path = folder / "profile.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    return path


@pytest.mark.timeout(2_400)
def test_what_a_load_takes_is_predicted_within_a_quarter(bench: Bench) -> None:
    names = [f"bench_{number}" for number in range(1, 9)]
    create_tables(bench.stack, names)
    drive(bench.stack, 200.0, 8, WARM_UP_S)  # JVMs compile their code; the result is discarded
    rest = observe(bench, 0.0, 0)
    fitted = [observe(bench, rate, tables) for rate, tables in FITTED_ONLY]
    checked = [observe(bench, rate, tables) for rate, tables in CHECKED]
    bench.stack.verify(*names)
    found = read_coefficients()
    held = [compared(one, found) for one in checked]
    report(
        "size",
        {
            "rest": asdict(rest),
            "loads": [asdict(one) for one in (*fitted, *checked)],
            "fitted": fit([rest, *fitted, *checked]),
            "predicted, measured": held,
        },
    )
    for (rate, _), one in zip(CHECKED, checked, strict=True):
        assert one.rate >= ARRIVED_MIN * rate, (
            f"of {rate:.0f} changes/s {one.rate:.0f} came through: the machine was not free"
        )
    for one, pairs in zip(checked, held, strict=True):
        for what, (predicted, measured) in pairs.items():
            assert abs(predicted - measured) <= WITHIN * measured, (
                f"{what} at {one.rate:.0f} changes/s over {one.tables} tables: "
                f"{predicted:.3g} predicted, {measured:.3g} measured"
            )


def compared(one: Observed, found: Coefficients) -> dict[str, tuple[float, float]]:
    """The prediction for a load, and the measurement."""
    load = workload(one.rate, one.tables)
    use = store_use(load, found)
    cores = sum(cores_of(name, load, found) for name in found.parts)
    bronze = use.bronze_bytes / (load.retention_days * 86_400)
    kafka = kafka_bytes(load, found.bytes, 1) / (load.retention_days * 86_400)
    return {
        "cores": (cores, sum(one.cores.values())),
        "bytes of Kafka a second": (kafka, one.kafka_bytes),
        "bytes of bronze a second": (bronze, one.bronze_bytes),
        "writes to the store a second": (use.writes_per_second, one.writes),
        "reads of the store a second": (use.reads_per_second, one.reads),
        "batches a second": (1 / batch_of(load, found).every_s, one.batches),
    }


def workload(rate: float, tables: int) -> Workload:
    """A load of the benchmark's tables, on this machine."""
    return at(Workload(1.0, tables, 41, 1.0, ROWS * tables, ROWS * tables, CORES), rate)


def create_tables(stack: Stack, names: list[str]) -> None:
    with source_engine(stack) as engine:
        load = BenchWorkload(engine, tables=len(names), rate=0, rows=ROWS)
        load.create()
    stack.await_tables(*names)


def observe(bench: Bench, rate: float, tables: int) -> Observed:
    """Drive a load, wait until it is steady, and measure for WINDOW_S."""
    stop = threading.Event()
    runner = threading.Thread(
        target=drive, args=(bench.stack, rate, tables, None, stop), daemon=True
    )
    if rate:
        runner.start()
    try:
        time.sleep(SETTLE_S)
        began, since = time.monotonic(), datetime.now(timezone.utc)
        asked, kafka, bronze = bench.relay.now(), bench.kafka_bytes(), bench.bronze_bytes()
        with watched(bench.stack) as ours, watched(bench.owner, only={"s3"}) as theirs:
            time.sleep(WINDOW_S)
        lasted = time.monotonic() - began
        more = bench.relay.now() - asked
        kafka_more, bronze_more = bench.kafka_bytes() - kafka, bench.bronze_bytes() - bronze
        batches, merges, batch_s, changes = bench.ledger(since)
    finally:
        stop.set()
        if rate:
            runner.join(timeout=60)
    cpu_s = by_part(ours.cpu_s, theirs.cpu_s)
    return Observed(
        round(changes / lasted, 2),
        tables,
        {name: round(seconds / lasted, 4) for name, seconds in cpu_s.items()},
        by_part(ours.peak_mib, theirs.peak_mib),
        round(batches / lasted, 3),
        round(merges / lasted, 3),
        round(batch_s, 4),
        round(kafka_more / lasted, 1),
        round(bronze_more / lasted, 1),
        round(sum(more[method] for method in WRITES) / lasted, 2),
        round(sum(more[method] for method in READS) / lasted, 2),
    )


def by_part(ours: Mapping[str, Number], theirs: Mapping[str, Number]) -> dict[str, Number]:
    """Turn values by service into values by part: the store's, and `others` for the rest."""
    every = {**ours, STORE: theirs["s3"]}
    named = {name: every.pop(name) for name in NAMED}
    return {**named, "others": sum(every.values())}


def drive(
    stack: Stack,
    rate: float,
    tables: int,
    seconds: float | None,
    stop: threading.Event | None = None,
) -> None:
    """Make changes at this rate over this many of the first tables."""
    with source_engine(stack) as engine:
        BenchWorkload(engine, tables=tables, rate=rate, rows=ROWS).run(seconds, stop)


@contextmanager
def source_engine(stack: Stack) -> Iterator[Engine]:
    """An engine for the source, disposed of at the end."""
    dsn = stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(dsn)
    try:
        yield engine
    finally:
        engine.dispose()


def fit(loads: list[Observed]) -> dict[str, dict[str, float]]:
    """Values for coefficients.toml: least squares over the loads, none below zero."""
    found: dict[str, dict[str, float]] = {}
    for part in loads[0].cores:
        columns = {"idle_cores": [1.0] * len(loads), "cpu_s_a_change": [one.rate for one in loads]}
        if part == "silver":
            columns["fixed_cpu_s"] = [one.batches for one in loads]
            columns["table_cpu_s"] = [one.merges for one in loads]
        found[part] = non_negative(columns, [one.cores[part] for one in loads])
    busy = loads[1:]
    found["batch"] = non_negative(
        {
            "fixed_s": [1.0] * len(busy),
            "table_s": [one.merges / one.batches for one in busy],
            "change_s": [one.rate / one.batches for one in busy],
        },
        [1 / one.batches for one in busy],
    )
    for kind, seconds in (("kafka_bytes", 0.15), ("bronze_bytes", 1.0)):
        groups = [together(workload(one.rate, one.tables), seconds) for one in busy]
        found[kind] = non_negative(
            {"per_change": [one.rate for one in busy], "per_group": groups},
            [getattr(one, kind) for one in busy],
        )
    for kind in ("writes", "reads"):
        flushed = [one.rate and float(one.tables) for one in loads]
        measured = [getattr(one, kind) for one in loads]
        found[kind] = non_negative(
            {
                "at rest": [1.0] * len(loads),
                "per_batch": [one.batches for one in loads],
                "per_table": [one.merges for one in loads],
            },
            [
                value - (flush if kind == "writes" else 0)
                for value, flush in zip(measured, flushed, strict=True)
            ],
        )
    return found


def non_negative(columns: dict[str, list[float]], measured: list[float]) -> dict[str, float]:
    """Least squares; a column whose factor would be negative is left out, the worst first."""
    names = list(columns)
    while names:
        matrix = np.array([columns[name] for name in names]).T
        factors = np.linalg.lstsq(matrix, np.array(measured), rcond=None)[0]
        if min(factors) >= 0:
            return {
                name: float(f"{factor:.4g}") for name, factor in zip(names, factors, strict=True)
            }
        names.pop(int(np.argmin(factors)))
    return {}
