"""Throughput: the highest rate at which silver's lag stays flat, a burst, and one large transaction.

The changes are mixed (a fifth inserts, a tenth deletes, the rest updates). Each figure is written only after all
loaded tables equalled the source's, row by row.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine

from app.store.workload.load_tables import BenchWorkload
from tests.support.circumstances import proof
from tests.support.measure import Resources, percentiles, report, watched
from tests.support.silver_end import await_silver, bronze_bytes, lags
from tests.support.stack import Stack, fresh_stack

CHANGES = int(os.environ.get("HEADWATER_BENCH_CHANGES", "1000000"))
WINDOW_S = float(os.environ.get("HEADWATER_BENCH_WINDOW_S", "20"))
FINAL_S = float(os.environ.get("HEADWATER_BENCH_FINAL_S", "300"))
FIRST_RATE = float(os.environ.get("HEADWATER_BENCH_RATE", "2000"))
# Without a search: only this rate, and lower ones if its lag grows.
HELD_RATE = float(os.environ.get("HEADWATER_BENCH_HOLD", "0"))
RATE_MAX = 128_000
BISECTIONS = 2
# Where the long window does not hold what short ones did, a lower rate is tried.
LOWER, FINALS_MAX = 0.85, 3
TRANSACTIONS_PER_S = 20
TABLES, BURST_TABLES, ROWS, BURST_ROWS = 8, 4, 2_000, 20_000
SEED = 1
STABLE = "id, v, note"  # what does not hang on the clock
DRAIN_S = 1_200.0
WARM_UP_S = 30.0
# The lag is flat if its last third is not above its first by more than this.
FLAT_S, FLAT_SHARE = 0.5, 0.2
MADE_MIN = 0.97  # of the rate; otherwise the generator was the limit
pytestmark = pytest.mark.timeout(3_600)


def test_the_highest_rate_at_which_lag_stays_flat(stack: Stack) -> None:
    tried: list[dict[str, Any]] = []

    with loading(stack, TABLES, ROWS) as load:
        hold(stack, load, HELD_RATE or FIRST_RATE, WARM_UP_S)

        def is_flat(rate: float, lasts_s: float) -> bool:
            found, _ = hold(stack, load, rate, lasts_s)
            tried.append(found)
            return bool(found["flat"])

        low, high = HELD_RATE, FIRST_RATE
        if not HELD_RATE:
            while high < RATE_MAX and is_flat(high, WINDOW_S):
                low, high = high, high * 2
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                low, high = (middle, high) if is_flat(middle, WINDOW_S) else (low, middle)
        rate = low or high / 2
        for _ in range(FINALS_MAX):
            final, resources = hold(stack, load, rate, FINAL_S)
            if final["flat"]:
                break
            tried.append(final)
            rate *= LOWER
        proven = proof(stack, names_of(load), SEED, STABLE)
    report(
        "throughput_sustained",
        {
            "changes_per_s": final["made_per_s"] if final["flat"] else None,
            "tables": TABLES,
            "final": final,
            "tried": tried,
            **per_cpu_s(resources, final["made"]),
            **resources.as_dict(),
            **proven,
        },
    )


def test_the_drain_of_a_burst_of_mixed_changes(stack: Stack) -> None:
    with loading(stack, BURST_TABLES, BURST_ROWS) as load:
        topics = [f"{stack.settings.topic_prefix}.public.{table.name}" for table in load.tables]
        before = sum(bronze_bytes(stack, topic) for topic in topics)
        began = time.monotonic()
        with watched(stack) as resources:
            load.burst(CHANGES)
            written = time.monotonic() - began
            await_silver(stack, within_s=DRAIN_S)
        drained = time.monotonic() - began
        proven = proof(stack, names_of(load), SEED, STABLE)
        after = sum(bronze_bytes(stack, topic) for topic in topics)
    report(
        "throughput_burst",
        {
            "changes": CHANGES,
            "tables": BURST_TABLES,
            "written_s": round(written, 1),
            "drained_s": round(drained, 1),
            "changes_per_s": round(CHANGES / drained),
            "bronze_bytes_per_event": round((after - before) / CHANGES, 1),
            **per_cpu_s(resources, CHANGES),
            **resources.as_dict(),
            **proven,
        },
    )


def test_one_transaction_of_many_updates() -> None:
    # The rows are there before the stack is, because a first snapshot brings them in the shortest time.
    with fresh_stack() as stack, loading(stack, 1, CHANGES, before_up=True) as load:
        [table] = names_of(load)
        with stack.source() as source, watched(stack) as resources:
            began = time.monotonic()
            rows = source.execute(f"UPDATE {table} SET v = v + 1".encode()).rowcount
            written = time.monotonic() - began
            await_silver(stack, within_s=DRAIN_S)
            took = time.monotonic() - began
        proven = proof(stack, names_of(load), SEED, STABLE)
    report(
        "throughput_transaction",
        {
            "changes": rows,
            "written_s": round(written, 1),
            "seconds": round(took, 1),
            "changes_per_s": round(rows / took),
            "changes_per_s_from_commit": round(rows / (took - written)),
            **per_cpu_s(resources, rows),
            **resources.as_dict(),
            **proven,
        },
    )


@contextmanager
def loading(
    stack: Stack, tables: int, rows: int, *, before_up: bool = False
) -> Iterator[BenchWorkload]:
    """Tables of so many rows, which silver has; made before the stack starts, or while it runs."""
    if before_up:
        stack.up("--only", "postgres")
    address = stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(address)
    load = BenchWorkload(engine, tables=tables, rate=0, rows=rows, seed=SEED)
    try:
        load.create()
        if before_up:
            stack.up()
        stack.await_tables(*names_of(load))
        await_silver(stack, within_s=DRAIN_S)
        stack.verify(*names_of(load), timeout_s=900)
        yield load
    finally:
        engine.dispose()


def names_of(load: BenchWorkload) -> list[str]:
    """The names of its tables."""
    return [table.name for table in load.tables]


def hold(
    stack: Stack, load: BenchWorkload, rate: float, lasts_s: float
) -> tuple[dict[str, Any], Resources]:
    """Make changes at a rate, and see whether the lag stays flat; afterwards silver has them all."""
    at_once = max(1, round(rate / TRANSACTIONS_PER_S))
    made = 0
    with watched(stack, every_s=5.0) as resources, lags(stack) as lag_s:
        generator = time.thread_time()
        began = time.monotonic()
        while (now := time.monotonic() - began) < lasts_s:
            if made <= now * rate:
                load.burst(at_once, at_once)
                made += at_once
            else:
                time.sleep(min(made / rate - now, 0.05))
        took = time.monotonic() - began
        generator = time.thread_time() - generator
    drain_s = await_silver(stack, within_s=DRAIN_S)
    third = max(1, len(lag_s) // 3)
    first, last = (statistics.median(part) for part in (lag_s[:third], lag_s[-third:]))
    made_per_s = made / took
    grows = last > first + max(FLAT_S, FLAT_SHARE * first)
    found = {
        "rate": round(rate),
        "made": made,
        "made_per_s": round(made_per_s),
        "lasted_s": round(took, 1),
        "lag_s": percentiles(lag_s),
        "lag_first_third_s": round(first, 2),
        "lag_last_third_s": round(last, 2),
        "drain_s": round(drain_s, 1),
        "generator_cores": round(generator / took, 3),
        "flat": not grows and made_per_s >= MADE_MIN * rate,
    }
    print(found, flush=True)
    return found, resources


def per_cpu_s(resources: Resources, events: int) -> dict[str, Any]:
    """Events a CPU-second of the whole stack, and of each of its processes."""
    whole = sum(resources.cpu_s.values())
    each = {n: round(events / cpu) for n, cpu in sorted(resources.cpu_s.items()) if cpu > 0.1}
    return {"events_per_cpu_s": round(events / max(whole, 0.1)), "events_per_cpu_s_of": each}
