"""After a kill of any service at any time, nothing is lost and silver equals the source."""

from __future__ import annotations

import random
import time

import pytest

from tests.support import tpcb
from tests.support.stack import Stack
from tests.support.waiting import until

BRANCHES, ACCOUNTS = 4, 4_000
RECOVERY_S = 180.0
# For the default run: without pauses the clients take the CPU that killed services need to start,
# and the merge of their events takes minutes.
SMOKE_PAUSE_S = 0.01


@pytest.fixture(scope="module")
def loaded(stack: Stack) -> Stack:
    """The shared stack with pgbench's four tables, all of them in silver."""
    dsn = stack.settings.source_dsn
    tpcb.create(dsn, branches=BRANCHES, accounts=ACCOUNTS)
    with stack.source() as source:
        source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
    stack.await_answer("SELECT count(*) FROM pgbench_accounts", [(ACCOUNTS,)], within_s=RECOVERY_S)
    return stack


@pytest.mark.smoke
def test_silver_equals_the_source_after_spark_connect_and_kafka_were_killed_under_load(
    loaded: Stack, seed: int
) -> None:
    kill_under_load(loaded, ["silver", "connect", "kafka"], seed, pause_s=SMOKE_PAUSE_S)


@pytest.mark.parametrize("service", ["silver", "connect", "kafka", "s3", "postgres", "trino"])
def test_silver_equals_the_source_after_a_service_was_killed_twice(
    loaded: Stack, seed: int, service: str
) -> None:
    kill_under_load(loaded, [service, service], seed)


def test_all_processes_end_with_a_killed_supervisor_and_up_goes_on_where_they_were(
    loaded: Stack, seed: int
) -> None:
    loaded.kill_supervisor()
    loaded.up()
    verify_bench_tables(loaded)


def kill_under_load(stack: Stack, services: list[str], seed: int, *, pause_s: float = 0) -> None:
    """Kill `services` one after another while clients write; then all rows must be equal."""
    rng = random.Random(seed)
    dsn = stack.settings.source_dsn
    load = tpcb.running(
        dsn,
        clients=2,
        branches=BRANCHES,
        accounts=ACCOUNTS,
        seed=seed,
        reconnect_s=60,
        pause_s=pause_s,
    )
    with load as counts:
        for service in services:
            before = sum(counts)
            wanted = before + rng.randint(20, 200)
            until(
                lambda wanted=wanted: sum(counts),  # type: ignore[misc]
                lambda count, wanted=wanted: count >= wanted,  # type: ignore[misc]
                within_s=RECOVERY_S,
                what="transactions before the kill",
            )
            kill(stack, service)
    print(f"{sum(counts)} transactions")
    verify_bench_tables(stack)


def kill(stack: Stack, service: str) -> None:
    """SIGKILL the service's process and wait until the supervisor has it ready again."""
    started = time.monotonic()
    stack.kill(service, within_s=RECOVERY_S)
    print(f"{service} was ready again {time.monotonic() - started:.1f} s after SIGKILL")


def verify_bench_tables(stack: Stack) -> None:
    verdicts = stack.verify(*tpcb.TABLES)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(tpcb.TABLES)
    with stack.source() as source:
        expected = source.execute("SELECT sum(abalance) FROM pgbench_accounts").fetchall()
    stack.await_answer("SELECT sum(abalance) FROM pgbench_accounts", expected, within_s=RECOVERY_S)
