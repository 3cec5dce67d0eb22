"""The workload and the bench tables in a real Postgres."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, select, text

from app.errors import HeadwaterError
from app.store.tables.create import create_store
from app.store.tables.schema import TABLES, movies, orders
from app.store.tables.seed import Sizes, seed_store
from app.store.tables.store_connection import engine_for
from app.store.workload.clerk import Clerk
from app.store.workload.drive import Report, Transaction
from app.store.workload.load_tables import DEFAULT_MIX, ROWS_AT_ONCE, BenchWorkload
from app.store.workload.operations import OPERATIONS, Operation
from app.store.workload.store_workload import Workload, utc_now
from tests.support.postgres import fresh_engine, rows_of
from tests.support.stack import Stack
from tests.support.waiting import until

SMALL = Sizes.scaled(0.1)
STEPS = 250
ENDS_AT = datetime(2026, 6, 1, tzinfo=timezone.utc)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """A small seeded store."""
    seed_store(engine, sizes=SMALL, ends_at=ENDS_AT)
    return engine


@pytest.fixture(scope="module")
def shared(source_server: Stack) -> Iterator[Engine]:
    """A seeded store that several tests change in turn."""
    with fresh_engine(source_server.settings.source_dsn) as fresh:
        seed_store(fresh, sizes=Sizes.scaled(0.3))
        yield fresh


def ticking() -> Callable[[], datetime]:
    """A clock that advances a second at each reading, the same in each run."""
    times = [ENDS_AT]

    def now() -> datetime:
        times.append(times[-1] + timedelta(seconds=1))
        return times[-1]

    return now


def changes_so_far(connection: Connection) -> Counter[str]:
    """Changed rows for each table, as the server counts them within a transaction."""
    counted = """
        select relname, n_tup_ins + n_tup_upd + n_tup_del
        from pg_stat_xact_user_tables where schemaname = 'public'
    """
    return Counter({name: n for name, n in connection.execute(text(counted)) if n})


def test_the_same_seed_makes_the_same_changes(source_server: Stack, engine: Engine) -> None:
    work = Workload(engine, seed=9, now=ticking())
    done = [work.step() for _ in range(STEPS)]
    assert len({transaction.operation for transaction in done}) > 10
    with fresh_engine(source_server.settings.source_dsn) as other:
        seed_store(other, sizes=SMALL, ends_at=ENDS_AT)
        again = Workload(other, seed=9, now=ticking())
        for transaction in done:
            repeated = again.step()
            assert (repeated.operation, repeated.changes) == (
                transaction.operation,
                transaction.changes,
            )
        for table in TABLES:
            assert rows_of(engine, table) == rows_of(other, table), table.name


def test_a_second_run_with_the_same_seed_goes_on_differently(engine: Engine) -> None:
    for _ in range(3):
        report = Workload(engine, seed=9, rate=0).run(changes_max=150)
        assert report.conflicts == 0


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_counts_its_changes_and_keeps_to_its_tables(
    shared: Engine, operation: Operation
) -> None:
    rng = Random(operation.name)
    written: Counter[str] = Counter()
    for _ in range(40):
        with shared.begin() as connection:
            before = changes_so_far(connection)
            changes = operation.run(Clerk(connection, rng, utc_now()))
            by_table = changes_so_far(connection) - before
        assert changes == sum(by_table.values())
        written += by_table
    assert set(written) == operation.tables


def test_orders_still_add_up_after_a_long_workload(shared: Engine) -> None:
    Workload(shared, rate=0, mix={o.name: 1 for o in OPERATIONS}).run(changes_max=1_500)
    wrong = """
        select order_id from orders o
        left join invoices i using (order_id) left join payments p using (invoice_number)
        where total <> (select sum(quantity * unit_price) from order_lines l
                        where l.order_id = o.order_id)
           or i.net <> total or p.amount <> i.gross
           or (status in ('paid', 'shipped', 'delivered') and p.amount is null)
    """
    gaps = """
        select order_id from order_lines group by order_id
        having min(line_no) <> 1 or max(line_no) <> count(*)
    """
    with shared.connect() as connection:
        assert connection.execute(text(wrong)).all() == []
        assert connection.execute(text(gaps)).all() == []


def test_a_key_change_moves_a_rating_with_its_long_review(engine: Engine) -> None:
    [merge] = [o for o in OPERATIONS if o.name == "merge_customers"]
    long_reviews = text(
        "select count(*), sum(length(review)) from ratings where length(review) > 8000"
    )
    keys = "select customer_id, movie_id from ratings where length(review) > 8000"
    with engine.connect() as connection:
        before = set(connection.execute(text(keys)).all())
    assert before
    rng = Random(1)

    def moved() -> bool:
        with engine.begin() as connection:
            merge.run(Clerk(connection, rng, utc_now()))
            return not set(connection.execute(text(keys)).all()) <= before

    until(moved, within_s=60, what="a rating with a long review changes its key")
    with engine.connect() as connection:
        assert connection.execute(long_reviews).one()[0] > 0


def test_the_ratings_generator_changes_ratings_only(engine: Engine) -> None:
    others = [table for table in TABLES if table.name != "ratings"]
    before = {table.name: rows_of(engine, table) for table in others}
    report = Workload(engine, rate=0, tables=["ratings"]).run(changes_max=80)
    assert report.changes >= 80
    assert {table.name: rows_of(engine, table) for table in others} == before


def test_an_empty_store_ends_the_workload_with_a_hint(source_server: Stack) -> None:
    with fresh_engine(source_server.settings.source_dsn) as empty:
        create_store(empty)
        with pytest.raises(HeadwaterError, match="found nothing to change") as failed:
            Workload(empty, tables=["ratings"]).step()
        assert "seed" in failed.value.hint


def run_beside(work: Workload) -> tuple[threading.Thread, threading.Event, list[Report]]:
    stop, reports = threading.Event(), list[Report]()
    thread = threading.Thread(target=lambda: reports.append(work.run(stop=stop)), daemon=True)
    thread.start()
    return thread, stop, reports


def test_a_workload_survives_the_end_of_its_session(engine: Engine) -> None:
    """Its connection is cut five times, and it continues each time."""
    done: list[Transaction] = []
    stop, reports = threading.Event(), list[Report]()
    work = Workload(engine, rate=0)

    def run() -> None:
        reports.append(work.run(stop=stop, watch=lambda made, _: done.append(made)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    cut = text(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    try:
        for _ in range(5):
            seen = len(done)
            until(lambda seen=seen: len(done) > seen + 5, within_s=60, what="the workload goes on")  # type: ignore[misc]
            with engine.connect() as connection:
                connection.execute(cut)
        seen = len(done)
        until(lambda: len(done) > seen + 5, within_s=60, what="the workload goes on")
    finally:
        stop.set()
        thread.join(timeout=60)
    [report] = reports
    assert report.reconnects >= 1
    assert report.transactions == len(done)


def test_a_workload_survives_the_death_of_the_server(source_server: Stack, engine: Engine) -> None:
    thread, stop, reports = run_beside(Workload(engine, rate=200))
    work_done = select(func.max(orders.c.order_id))

    def newest() -> int:
        with engine.connect() as connection:
            return int(connection.execute(work_done).scalar_one())

    try:
        first = newest()
        until(newest, lambda n: n > first, within_s=60, what="orders come in")
        os.kill(int(source_server.status()["postgres"]["pid"]), signal.SIGKILL)
        last = until(newest, within_s=120, what="the server is back")
        until(newest, lambda n: n > last, within_s=60, what="orders come in again")
    finally:
        stop.set()
        thread.join(timeout=90)
    [report] = reports
    assert report.reconnects >= 1


def test_a_row_that_another_session_holds_does_not_stop_the_workload(engine: Engine) -> None:
    impatient = engine_for(engine.url.render_as_string(hide_password=False).replace("+psycopg", ""))

    @event.listens_for(impatient, "connect")
    def give_up_early(connection: Any, _: object) -> None:
        connection.execute("set lock_timeout = '20ms'")
        connection.commit()

    with engine.begin() as holder:
        holder.execute(select(movies.c.movie_id).with_for_update())
        work = Workload(impatient, rate=0, tables=["movies", "customers"])
        report = work.run(changes_max=20)
    impatient.dispose()
    assert report.conflicts > 0
    assert set(report.operations) == {"new_customer", "update_profile"}


def test_bench_tables_are_filled_once_and_changed_row_by_row(engine: Engine) -> None:
    bench = BenchWorkload(engine, tables=3, rate=0, rows=50, seed=4)
    bench.create()
    bench.create()
    expected = {
        table.name: {row[0]: row[1] for row in rows_of(engine, table)} for table in bench.tables
    }
    assert {len(rows) for rows in expected.values()} == {50}
    kinds = Counter[str]()
    for _ in range(300):
        change = bench.step()
        kinds[change.operation] += 1
        if change.v is None:
            del expected[change.table][change.id]
        else:
            assert (change.id in expected[change.table]) == (change.operation == "update")
            expected[change.table][change.id] = change.v
    assert set(kinds) == set(DEFAULT_MIX)
    for table in bench.tables:
        assert {row[0]: row[1] for row in rows_of(engine, table)} == expected[table.name]
    bench.drop()
    with engine.connect() as connection:
        assert connection.execute(text("select to_regclass('bench_1')")).scalar() is None


def test_a_bench_table_that_ran_empty_is_filled_again(engine: Engine) -> None:
    bench = BenchWorkload(engine, tables=1, rate=0, rows=2, mix={"delete": 1})
    bench.create()
    assert [bench.step().operation for _ in range(4)] == ["delete", "delete", "insert", "delete"]


def test_a_burst_makes_exactly_so_many_changes(engine: Engine) -> None:
    bench = BenchWorkload(engine, tables=2, rate=0, rows=3_000)
    bench.create()
    wanted = 2 * ROWS_AT_ONCE + 123
    # The server updates its counts a moment after the commit.
    before = until(
        lambda: statistics(engine),
        lambda seen: sum(seen.values()) == 6_000,
        within_s=30,
        what="the server's statistics show the filling",
    )
    bench.burst(wanted)
    made = until(
        lambda: statistics(engine) - before,
        lambda seen: sum(seen.values()) >= wanted,
        within_s=30,
        what="the server's statistics show the burst",
    )
    assert sum(made.values()) == wanted


def statistics(engine: Engine) -> Counter[str]:
    query = """
        select relname, n_tup_ins + n_tup_upd + n_tup_del
        from pg_stat_user_tables where relname like 'bench%'
    """
    with engine.connect() as connection:
        return Counter({row[0]: row[1] for row in connection.execute(text(query))})
