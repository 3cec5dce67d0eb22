"""Creating and seeding the movie store in a real Postgres."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from app.errors import HeadwaterError
from app.store.edit import edit_movie
from app.store.tables.create import create_store
from app.store.tables.grow import Growth
from app.store.tables.schema import TABLE_NAMES, TABLES, movies
from app.store.tables.seed import Sizes, seed_store
from app.store.tables.store_connection import engine_for
from tests.support.postgres import fresh_engine, rows_of
from tests.support.stack import ROOT, Stack

SMALL = Sizes.scaled(0.1)
KEYS = {
    "customers": ["customer_id"],
    "genres": ["genre_id"],
    "invoices": ["invoice_number"],
    "movie_genres": ["movie_id", "genre_id"],
    "movies": ["movie_id"],
    "order_lines": ["order_id", "line_no"],
    "orders": ["order_id"],
    "payments": ["payment_id"],
    "ratings": ["customer_id", "movie_id"],
    "tags": ["tag_id"],
}


def count(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_every_table_has_its_key(engine: Engine) -> None:
    assert create_store(engine) == sorted(TABLE_NAMES)
    catalog = inspect(engine)
    keys = {t: catalog.get_pk_constraint(t)["constrained_columns"] for t in TABLE_NAMES}
    assert keys == KEYS


def test_creating_again_changes_nothing(engine: Engine) -> None:
    create_store(engine)
    assert create_store(engine) == []


def test_a_missing_table_is_created_beside_the_others(engine: Engine) -> None:
    create_store(engine)
    with engine.begin() as connection:
        connection.execute(text("drop table tags"))
    assert create_store(engine) == ["tags"]


def test_the_same_seed_makes_the_same_rows(source_server: Stack, engine: Engine) -> None:
    end = datetime(2026, 3, 4, 5, 6, tzinfo=timezone.utc)
    copied = seed_store(engine, seed=5, sizes=SMALL, ends_at=end)
    with fresh_engine(source_server.settings.source_dsn) as other:
        assert seed_store(other, seed=5, sizes=SMALL, ends_at=end) == copied
        for table in TABLES:
            rows = rows_of(engine, table)
            assert len(rows) == copied[table.name] > 0
            assert rows == rows_of(other, table), table.name


def test_the_history_ends_when_the_store_is_filled(engine: Engine) -> None:
    seed_store(engine)
    later = """
        select (select count(*) from orders where placed_at > now())
            + (select count(*) from payments where paid_at > now())
            + (select count(*) from ratings where rated_at > now())
            + (select count(*) from movies where released_on > now())
    """
    assert count(engine, later) == 0
    assert count(engine, "select count(*) from orders where placed_at > now() - interval '3h'") > 0


def test_no_hour_of_the_newest_day_towers_over_the_others(engine: Engine) -> None:
    seed_store(engine)
    hours = """
        select count(*) as n from payments where paid_at > now() - interval '1 day'
        group by floor(extract(epoch from now() - paid_at) / 3600)
    """
    assert count(engine, f"select max(n) from ({hours}) as hours") <= 4 * count(
        engine, f"select percentile_disc(0.5) within group (order by n) from ({hours}) as hours"
    )


def test_a_filled_store_is_left_as_it_is(engine: Engine) -> None:
    seed_store(engine, seed=5, sizes=SMALL)
    before = rows_of(engine, movies)
    assert seed_store(engine, seed=6, sizes=SMALL) == {}
    assert rows_of(engine, movies) == before


def test_a_seed_that_fails_leaves_nothing_and_can_be_repeated(engine: Engine) -> None:
    create_store(engine)
    with engine.begin() as connection:
        connection.execute(text("alter table payments add constraint never check (amount < 0)"))
    with pytest.raises(Exception, match="never"):
        seed_store(engine, sizes=SMALL)
    assert count(engine, "select count(*) from movies") == 0
    with engine.begin() as connection:
        connection.execute(text("alter table payments drop constraint never"))
    assert seed_store(engine, sizes=SMALL)["movies"] == SMALL.movies


def test_new_rows_go_on_after_the_seeded_keys(engine: Engine) -> None:
    seed_store(engine, sizes=SMALL)
    new = "insert into movies (sku, title, price) values ('x', 'X', 1) returning movie_id"
    with engine.begin() as connection:
        assert connection.execute(text(new)).scalar_one() == SMALL.movies + 1


def test_seeded_orders_add_up(engine: Engine) -> None:
    seed_store(engine, sizes=SMALL)
    wrong_totals = """
        select count(*) from orders o where total <>
            (select sum(quantity * unit_price) from order_lines l where l.order_id = o.order_id)
    """
    wrong_payments = """
        select count(*) from invoices i join orders o using (order_id)
        left join payments p using (invoice_number)
        where i.net <> o.total or p.amount <> i.gross or (p.amount is null) <> (status = 'pending')
    """
    assert count(engine, wrong_totals) == 0
    assert count(engine, wrong_payments) == 0
    assert count(engine, "select count(distinct status) from orders") == 5


@pytest.mark.parametrize("table", ["movies", "ratings"])
def test_long_texts_are_stored_out_of_line(engine: Engine, table: str) -> None:
    seed_store(engine, sizes=SMALL)
    toasted = f"select pg_relation_size(reltoastrelid) from pg_class where relname = '{table}'"
    assert count(engine, toasted) > 0


def test_an_edit_tells_its_transaction_and_a_position_behind_its_commit(engine: Engine) -> None:
    seed_store(engine, sizes=SMALL)
    edit = edit_movie(engine, movie_id=7)
    assert (edit.table, edit.key, edit.column) == ("movies", {"movie_id": 7}, "tagline")
    with engine.connect() as connection:
        row = connection.execute(
            text("select tagline, xmin::text::bigint as xid from movies where movie_id = 7")
        ).one()
        behind = connection.execute(
            text("select pg_current_wal_lsn() >= cast(:lsn as pg_lsn)"), {"lsn": edit.wal_lsn}
        ).scalar_one()
    assert (row.tagline, row.xid) == (edit.new, edit.xid)
    assert behind
    assert edit.began_at < edit.committed_at
    assert edit_movie(engine, movie_id=7).old == edit.new


def test_an_edit_without_a_movie_says_so(engine: Engine) -> None:
    with pytest.raises(HeadwaterError, match="there is no movie to edit"):
        edit_movie(engine)
    create_store(engine)
    with pytest.raises(HeadwaterError, match="there is no movie 3"):
        edit_movie(engine, movie_id=3)


def run(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.store", *arguments],
        cwd=ROOT,
        env={**os.environ, "HEADWATER_SOURCE_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_commands_print_one_json_value_each(dsn: str) -> None:
    assert json.loads(run(dsn, "create").stdout)["created"] == sorted(TABLE_NAMES)
    seeded = run(dsn, "seed", "--scale", "0.1")
    assert json.loads(seeded.stdout)["copied"]["movies"] == 100
    again = run(dsn, "seed")
    assert (json.loads(again.stdout), again.returncode) == ({"copied": {}}, 0)
    assert "filled before" in again.stderr
    worked = json.loads(run(dsn, "workload", "--rate", "0", "--seconds", "0.2").stdout)
    assert worked["changes"] > 0
    assert json.loads(run(dsn, "edit", "--movie", "3").stdout)["key"] == {"movie_id": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("workload", "--table", "film"), "unknown table `film`"),
        (("workload", "--mix", "sell"), "write OPERATION=WEIGHT"),
        (("workload", "--seconds", "1"), "the store's tables do not exist"),
        (("load-movielens", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_a_mistake_ends_in_a_hint_and_not_in_a_trace(
    dsn: str, arguments: tuple[str, ...], message: str
) -> None:
    ended = run(dsn, *arguments)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "hint:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_refused_password_is_not_shown(dsn: str) -> None:
    ended = run(dsn.replace(":" + dsn.split(":")[2].split("@")[0], ":hunter2"), "edit")
    assert ended.returncode == 1
    assert "cannot reach the source" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_an_engine_works_in_utc_and_keeps_the_options_of_the_dsn(source_server: Stack) -> None:
    engine = engine_for(source_server.settings.source_dsn + "?options=-c%20work_mem%3D3MB")
    with engine.connect() as connection:
        assert connection.execute(text("show timezone")).scalar_one() == "UTC"
        assert connection.execute(text("show work_mem")).scalar_one() == "3MB"
    engine.dispose()


def test_a_grown_store_has_the_ratings_asked_for_and_two_years_of_orders_that_add_up(
    engine: Engine, tmp_path: Path
) -> None:
    seed_store(engine, sizes=SMALL)
    growth = Growth(engine, 3_000, seed=4, ends_at=datetime.now(timezone.utc))
    before = count(engine, "select count(*) from ratings")
    copied = growth.run()
    assert copied["ratings"] == 3_000 == count(engine, "select count(*) from ratings") - before
    assert copied["orders"] > 3 * copied["customers"] > 60
    wrong = """
        select count(*) from invoices i join orders o using (order_id)
        left join payments p using (invoice_number)
        where i.net <> o.total or p.amount <> i.gross or (p.amount is null) <> (status = 'pending')
            or p.paid_at < o.placed_at
    """
    assert count(engine, wrong) == 0
    later = "select count(*) from orders where placed_at > now() - interval '1 day'"
    assert count(engine, f"{later} - interval '500 days'") > count(engine, later) > 0
    growth.write_truth(tmp_path / "truth.json")
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert 0.3 < truth["stars"]["least_rmse"] < 0.7
    assert len(truth["habits"]) == copied["customers"] and len(truth["bills"]) == copied["orders"]
    unpaid = """
        select count(*) from invoices i left join payments p using (invoice_number)
        where p.payment_id is null and issued_on < now() - interval '30 days'
    """
    share = sum(chance for _, chance in truth["bills"]) / len(truth["bills"])
    assert count(engine, unpaid) == pytest.approx(share * len(truth["bills"]), rel=0.4)


def test_a_store_grows_twice(engine: Engine) -> None:
    seed_store(engine, sizes=SMALL)
    for _ in range(2):
        Growth(engine, 1_000, seed=4, ends_at=None).run()
    assert count(engine, "select count(distinct email) from customers") == count(
        engine, "select count(*) from customers"
    )


def test_a_number_of_ratings_out_of_range_is_refused(engine: Engine) -> None:
    with pytest.raises(HeadwaterError, match="out of range"):
        Growth(engine, 10, seed=1, ends_at=None)
