"""A cluster on one machine: parts of it are killed and restarted under load, and nothing is lost.

`./headwater test cluster` runs it: three brokers, two Connect workers, Spark with two workers, Trino with two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from app.query.trino_connection import connect
from tests.faults.test_kills import BRANCHES, kill_under_load, verify_bench_tables
from tests.support import tpcb
from tests.support.ddl_run import assert_bronze_is_whole
from tests.support.stack import ROOT, Stack, fresh_stack, processes_of
from tests.support.waiting import until

PROFILE = ROOT / "profiles" / "cluster-in-miniature.toml"
ACCOUNTS = 30_000  # changed at once, so that batches are too large for silver's own process under this profile
SOON_S = 600.0
PAUSE_S = 0.05  # without it the clients take the CPU that killed services need to start
EXECUTOR = b"CoarseGrainedExecutorBackend"
INSTANCES = (
    "kafka", "kafka-2", "kafka-3", "connect", "connect-2", "spark-master", "spark-worker",
    "spark-worker-2", "trino-worker", "trino-worker-2", "trino", "silver",
)  # fmt: skip

pytestmark = pytest.mark.timeout(1_500)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The miniature with the demo store and pgbench's tables, all of them in silver."""
    with fresh_stack() as fresh:
        fresh.up("--profile", str(PROFILE), "--only", "silver", "tables", "capture")
        tpcb.create(fresh.settings.source_dsn, branches=BRANCHES, accounts=ACCOUNTS)
        with fresh.source() as source:
            source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
        count = "SELECT count(*) FROM pgbench_accounts"
        fresh.await_answer(count, [(ACCOUNTS,)], within_s=SOON_S)
        yield fresh


def test_an_edited_row_is_in_trinos_answer_and_silver_equals_the_source(stack: Stack) -> None:
    assert {name for name, row in stack.status().items() if row["state"] == "ready"} >= {*INSTANCES}
    with stack.source() as source:
        source.execute("UPDATE movies SET title = 'In miniature' WHERE movie_id = 1")
    stack.await_answer(
        "SELECT title FROM movies WHERE movie_id = 1", [("In miniature",)], within_s=60
    )
    assert {row["verdict"] for row in stack.verify()} == {"equal"}


@pytest.mark.parametrize("service", ["kafka-2", "connect", "connect-2", "silver"])
def test_silver_equals_the_source_after_a_broker_a_connect_worker_or_the_driver_was_killed(
    stack: Stack, seed: int, service: str
) -> None:
    kill_under_load(stack, [service], seed, pause_s=PAUSE_S)
    assert_bronze_is_whole(stack)


def kill_spark_worker(stack: Stack) -> None:
    """Its executor ends with it."""
    stack.kill("spark-worker")


def kill_executor(stack: Stack) -> None:
    """Its worker starts the next one."""
    pids = [int(line.partition(":")[0]) for line in processes_of(stack.home)]
    pid = next(pid for pid in pids if EXECUTOR in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_spark_worker, kill_executor])
def test_silver_equals_the_source_after_a_worker_or_an_executor_was_killed_at_work(
    stack: Stack, kill: Callable[[Stack], None]
) -> None:
    with stack.source() as source:
        source.execute("UPDATE pgbench_accounts SET filler = %s", [f"during {kill.__name__}"])
    until(lambda: tasks_running(stack), bool, within_s=SOON_S, what="a task in an executor")
    kill(stack)
    changed = (
        f"SELECT count(*) FROM pgbench_accounts WHERE rtrim(filler) = 'during {kill.__name__}'"
    )
    stack.await_answer(changed, [(ACCOUNTS,)], within_s=SOON_S)
    merged = "SELECT count(*) > 0 FROM ops.ledger WHERE table_name = 'pgbench_accounts' AND engine = 'spark' AND rows_updated > 0"
    assert stack.query(merged) == [(True,)]
    verify_bench_tables(stack)


def tasks_running(stack: Stack) -> int:
    """The number of running tasks on Spark's executors."""
    address = f"http://127.0.0.1:{stack.settings.ports.number('spark_ui')}/api/v1/applications"
    [application] = requests.get(address, timeout=10).json()
    executors = requests.get(f"{address}/{application['id']}/executors", timeout=10).json()
    return sum(one["activeTasks"] for one in executors if one["id"] != "driver")


def test_trino_answers_after_a_worker_was_killed_under_load(stack: Stack, seed: int) -> None:
    kill_under_load(stack, ["trino-worker"], seed, pause_s=PAUSE_S)
    workers = "SELECT count(*) FROM system.runtime.nodes WHERE NOT coordinator AND state = 'active'"
    stack.await_answer(workers, [(2,)], within_s=60)


def test_a_query_larger_than_a_workers_memory_spills_and_finishes(stack: Stack) -> None:
    cursor = connect(stack.settings.trino_url).cursor()
    cursor.execute("SET SESSION query_max_memory_per_node = '40MB'")
    cursor.fetchall()
    cursor.execute(
        "SELECT count(*), sum(n) FROM (SELECT x, y, count(*) AS n "
        "FROM UNNEST(sequence(1, 3000)) AS a(x) CROSS JOIN UNNEST(sequence(1, 1000)) AS b(y) "
        "GROUP BY x, y)"
    )
    assert cursor.fetchall() == [[3_000_000, 3_000_000]]
    assert cursor.stats["spilledBytes"] > 0


def test_nothing_is_lost_or_wrong_after_every_process_was_restarted_in_turn_under_load(
    stack: Stack, seed: int
) -> None:
    load = tpcb.running(
        stack.settings.source_dsn,
        clients=2, branches=BRANCHES, accounts=ACCOUNTS, seed=seed, pause_s=PAUSE_S,
    )  # fmt: skip
    with load as counts:
        for service in INSTANCES:
            stack.kill(service, by=signal.SIGTERM)
    print(f"{sum(counts)} transactions")
    verify_bench_tables(stack)
    assert_bronze_is_whole(stack)
