"""The main job with Google Cloud Storage (its emulator) as the lake's store, with its writers killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tpcb
from tests.support.gcs import FakeGoogle, fake_google, google_profile
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a stack on Google's protocol, minutes

BRONZE, LAKE = "acme-bronze", "acme-lake"
BRANCHES, ACCOUNTS = 2, 1_000
TRANSACTIONS_BETWEEN = 30
WAIT_S = 240.0


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    with fake_google(BRONZE, LAKE) as running:
        yield running


@pytest.fixture(scope="module")
def lakehouse(google: FakeGoogle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack; its emulator outlives it."""
    with fresh_stack() as fresh:
        profile = google_profile(tmp_path_factory.mktemp("profile"), google, BRONZE, LAKE)
        fresh.up("--profile", str(profile))
        yield fresh


def test_an_edited_row_is_in_bronze_silver_and_trino_and_nothing_on_this_machine(
    lakehouse: Stack, google: FakeGoogle
) -> None:
    with lakehouse.source() as source:
        source.execute("CREATE TABLE elsewhere (id int PRIMARY KEY, place text)")
        source.execute("INSERT INTO elsewhere VALUES (1, 'Oslo'), (2, 'Rome'), (3, 'Lima')")
    lakehouse.await_tables("elsewhere")
    with lakehouse.source() as source, source.transaction():
        source.execute("UPDATE elsewhere SET place = 'Bergen' WHERE id = 1")
        source.execute("DELETE FROM elsewhere WHERE id = 2")
    rows = [(1, "Bergen"), (3, "Lima")]
    lakehouse.await_answer("SELECT id, place FROM silver.elsewhere ORDER BY id", rows)
    until(
        lambda: google.names(BRONZE, "hw.public.elsewhere/"), within_s=30, what="events in bronze"
    )
    assert google.names(LAKE, "silver/elsewhere/_delta_log/")
    assert not list(Path(lakehouse.home, "data").glob("s3/*/*"))


def test_silver_equals_the_source_after_gateway_sink_and_silver_were_killed_under_load(
    lakehouse: Stack, seed: int
) -> None:
    dsn = lakehouse.settings.source_dsn
    tpcb.create(dsn, branches=BRANCHES, accounts=ACCOUNTS)
    with lakehouse.source() as source:
        source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
    counted = "SELECT count(*) FROM pgbench_accounts"
    lakehouse.await_answer(counted, [(ACCOUNTS,)], within_s=WAIT_S)
    load = tpcb.running(
        dsn,
        clients=2,
        branches=BRANCHES,
        accounts=ACCOUNTS,
        seed=seed,
        reconnect_s=60,
        pause_s=0.02,
    )
    with load as counts:
        for service in ("s3", "connect", "silver", "s3"):
            wanted = sum(counts) + TRANSACTIONS_BETWEEN
            until(
                lambda: sum(counts),
                lambda count, wanted=wanted: count >= wanted,  # type: ignore[misc]
                within_s=WAIT_S,
                what="transactions before the kill",
            )
            lakehouse.kill(service, within_s=WAIT_S)
    print(f"{sum(counts)} transactions")
    verdicts = lakehouse.verify(*tpcb.TABLES)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(tpcb.TABLES)
    with lakehouse.source() as source:
        expected = source.execute("SELECT sum(abalance) FROM pgbench_accounts").fetchall()
    lakehouse.await_answer("SELECT sum(abalance) FROM pgbench_accounts", expected, within_s=WAIT_S)


@pytest.mark.slow
def test_bronze_has_every_event_once_and_a_table_is_rebuilt_from_it(lakehouse: Stack) -> None:
    lakehouse.run("verify", "--bronze", timeout_s=300)
    lakehouse.run("rebuild", "elsewhere", timeout_s=300)
    lakehouse.verify("elsewhere")


@pytest.mark.slow
def test_spark_commits_to_googles_log_as_delta_rs_does(lakehouse: Stack) -> None:
    """Merge with Spark's engine after delta-rs has written the same table."""
    profile = Path(lakehouse.home, "spark.toml")
    profile.write_text('merge_engine = "spark"\n')
    lakehouse.run("down", timeout_s=300)
    lakehouse.up("--profile", str(profile))
    with lakehouse.source() as source:
        source.execute("INSERT INTO elsewhere VALUES (4, 'Cairo')")
        source.execute("UPDATE elsewhere SET place = 'Tromsø' WHERE id = 1")
    rows = [(1, "Tromsø"), (3, "Lima"), (4, "Cairo")]
    lakehouse.await_answer("SELECT id, place FROM silver.elsewhere ORDER BY id", rows)
    lakehouse.verify("elsewhere")
