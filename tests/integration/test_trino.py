"""Trino, its registrar and `headwater sql` over real Delta tables in the object store."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psutil
import pyarrow as pa
import pytest
import trino.exceptions
from deltalake import DeltaTable, write_deltalake

from spark_streaming.batch.upkeep.table_upkeep import drop_old
from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.storage.lake import Lake
from spark_streaming.tables import kept_versions
from spark_streaming.tables.silver_table import TableOptions
from tests.support.long_query import await_running, long_query, states_of
from tests.support.stack import Stack, fresh_stack
from tests.support.store_lake import SCHEMAS, arrow, expected_reports, store_rows
from tests.support.waiting import until

REGISTERED_S = 90  # generous: machines are noisy, and Trino may be starting


class Server:
    """A stack of the object store, Trino and the registrar, and tables written into its lake."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        settings = stack.settings
        self.lake = Lake(settings.store)

    def write(self, path: str, table: pa.Table, mode: Any = "overwrite", **options: Any) -> None:
        write_deltalake(
            self.lake.url(path),
            table,
            mode=mode,
            storage_options=self.lake.storage_options(),
            **options,
        )

    def remove(self, path: str) -> None:
        self.lake.filesystem().delete_dir(path)

    def table(self, path: str) -> DeltaTable:
        return self.lake.table(path)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.stack.query(statement)

    def relations(self, schema: str) -> set[str]:
        return {name for (name,) in self.query(f"SHOW TABLES FROM {schema}")}

    def until_there(self, schema: str, *names: str) -> None:
        until(
            lambda: self.relations(schema),
            lambda found: set(names) <= found,
            within_s=REGISTERED_S,
            what=f"{names} in {schema}",
        )

    def until_gone(self, schema: str, name: str) -> None:
        until(
            lambda: self.relations(schema),
            lambda found: name not in found,
            within_s=REGISTERED_S,
            what=f"{schema}.{name} gone",
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with fresh_stack() as stack:
        stack.up("--only", "tables")
        yield Server(stack)


def test_raw_events_of_an_earlier_releases_quarantine_are_not_in_trino(server: Server) -> None:
    server.write("ops/quarantine", pa.table({"table_name": ["guests"], "raw_value": [b"ada"]}))
    server.write("raw/quarantine", pa.table({"table_name": ["guests"], "raw_value": [b"ada"]}))
    server.write("ops/beside", _ids(1))
    server.until_there("ops", "beside")
    assert "quarantine" not in server.relations("ops")
    with pytest.raises(trino.exceptions.TrinoUserError, match="Access Denied"):
        server.query(
            "CALL lake.system.register_table(schema_name => 'default', table_name => 'raw', "
            f"table_location => '{server.lake.url('raw/quarantine')}')"
        )
    # The upgrade removes the column.
    server.write("ops/quarantine", pa.table({"table_name": ["guests"]}), schema_mode="overwrite")
    server.until_there("ops", "quarantine")
    assert server.query("SELECT * FROM ops.quarantine") == [("guests",)]
    server.remove("ops/quarantine")
    server.remove("ops/beside")
    server.until_gone("ops", "quarantine")


def _ids(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids)})


def test_the_registrar_makes_the_promised_schemas_before_any_table_is_there(
    server: Server,
) -> None:
    schemas = {name for (name,) in server.query("SHOW SCHEMAS FROM lake")}
    assert {"silver", "reports", "ops", "history"} <= schemas


def test_every_report_gives_the_answer_computed_without_sql(server: Server, seed: int) -> None:
    rows = store_rows(seed)
    for name, table in arrow(rows).items():
        server.write(f"silver/{name}", table)
    expected = expected_reports(rows)
    server.until_there("reports", *expected)
    answers = {
        report: [
            tuple(_as_utc(value) for value in row)
            for row in server.query(f"SELECT * FROM reports.{report} ORDER BY 1")
        ]
        for report in expected
    }
    assert answers == expected


def test_one_rating_of_five_stars_does_not_lead_the_best_movies(server: Server) -> None:
    movies = [{"movie_id": n, "title": f"Movie {n}", "release_year": 2000} for n in (1, 2, 3)]
    stars = {1: ["5.0"], 2: ["4.5"] * 30, 3: ["2.0"] * 30}
    ratings = [
        {"customer_id": customer, "movie_id": movie, "stars": Decimal(given)}
        for movie, row in stars.items()
        for customer, given in enumerate(row)
    ]
    tables = arrow({**{name: [] for name in SCHEMAS}, "movies": movies, "ratings": ratings})
    for name in ("movies", "ratings"):
        server.write(f"silver/{name}", tables[name])
    server.until_there("reports", "best_rated_movies")
    ranked = until(
        lambda: server.query("SELECT movie_id FROM reports.best_rated_movies ORDER BY rank"),
        lambda rows: len(rows) == 3,
        within_s=REGISTERED_S,
        what="the three movies in the report",
    )
    assert [movie for (movie,) in ranked] == [2, 1, 3]


def test_freshness_is_the_newest_batch_for_tables_that_it_did_not_touch(server: Server) -> None:
    def at(second: int) -> dt.datetime:
        return dt.datetime(2026, 11, 21, 10, 0, second, tzinfo=dt.timezone.utc)

    why = "no key, and its replica identity is not FULL"
    ledger = [
        # (batch, table, merged, Delta version, complete LSN, source time, refusal, state, reason,
        #  stopped at, tries, offsets)
        (1, "movies", at(10), 7, 0x1_0000_0010, at(9), None, None, None, None, None, None),
        (1, "stuck", at(10), 2, 0x1_0000_0010, at(9), None, "running", None, None, 0, "{}"),
        (1, "", at(10), None, 0x1_0000_0010, at(9), None, "running", None, None, 0, None),
        (2, "ratings", at(20), 3, 0x1_0000_00AB, at(19), "mended since", None, None, None, 0, None),
        (2, "keyless", at(20), None, None, None, why, "refused", None, None, 0, None),
        (2, "stuck", at(20), None, 0x1_0000_0010, at(9), None, "stopped", "ill", at(12), 3, "{7}"),
        (2, "", at(20), None, 0x1_0000_00AB, at(19), None, "running", None, None, 0, None),
        (3, "ratings", at(30), 4, None, None, None, "running", None, None, 0, None),
        (4, "empty", at(25), 0, None, None, None, "running", None, None, 0, "{}"),
        (4, "", at(30), None, 0x1_0000_00AB, None, None, "running", None, None, 0, None),
    ]
    time, text = pa.timestamp("us", "UTC"), pa.string()
    types = {
        "batch_id": pa.int64(),
        "table_name": text,
        "merged_at": time,
        "delta_version": pa.int64(),
        "complete_lsn": pa.int64(),
        "source_time": time,
        "refusal": text,
        "state": text,
        "reason": text,
        "stopped_at": time,
        "tries": pa.int64(),
        "offsets": text,
    }
    targets = '{"empty": 5, "movies": 0.5, "ratings": 1e12, "stuck": 60}'
    columns = zip(types.items(), zip(*ledger, strict=True), strict=True)
    table = {name: pa.array(list(values), kind) for (name, kind), values in columns}
    held = [targets if row[1] == "" else None for row in ledger]
    table["freshness_targets"] = pa.array(held, text)
    # Rows of a release with only one silver job.
    table["job"], table["share"] = (pa.nulls(len(ledger), kind) for kind in (pa.int64(), text))
    server.write("ops/ledger", pa.table(table))
    server.until_there("ops", "ledger", "freshness")
    found = server.query(
        "SELECT table_name, complete_lsn, complete_pg_lsn, source_time, last_merged_at, "
        "last_delta_version, refusal FROM ops.freshness ORDER BY table_name"
    )
    newest = (0x1_0000_00AB, "1/AB", at(19))
    assert [tuple(_as_utc(value) for value in row) for row in found] == [
        ("empty", None, None, None, at(25), 0, None),
        ("keyless", None, None, None, at(20), None, why),
        ("movies", *newest, at(10), 7, None),
        ("ratings", *newest, at(30), 4, None),
        ("stuck", 0x1_0000_0010, "1/10", at(9), at(20), 2, None),
    ]
    behind = "SELECT count_if(seconds_behind > 0), count(*) FROM ops.freshness"
    assert server.query(behind) == [(3, 5)]
    states = (
        "SELECT table_name, state, reason, stopped_at, tries, resumes_from "
        "FROM ops.freshness ORDER BY table_name"
    )
    assert [tuple(_as_utc(value) for value in row) for row in server.query(states)] == [
        ("empty", "running", None, None, 0, None),
        ("keyless", "refused", why, None, 0, None),
        ("movies", "running", None, None, 0, None),
        ("ratings", "running", None, None, 0, None),
        ("stuck", "stopped", "ill", at(12), 3, "{7}"),
    ]
    targets_met = (
        "SELECT table_name, freshness_target_seconds, freshness_met "
        "FROM ops.freshness ORDER BY table_name"
    )
    assert server.query(targets_met) == [
        ("empty", 5.0, None),
        ("keyless", None, None),
        ("movies", 0.5, False),
        ("ratings", 1e12, True),
        ("stuck", 60.0, False),
    ]


def test_the_next_query_sees_every_commit_through_checkpoints_and_clean_up(
    server: Server,
) -> None:
    server.write("silver/stream", _ids(0))
    server.until_there("silver", "stream")
    for number in range(1, 31):
        server.write("silver/stream", _ids(number), mode="append")
        if number % 10 == 0:
            table = server.table("silver/stream")
            table.optimize.compact()
            table.create_checkpoint()
            table.cleanup_metadata()
            table.vacuum(0, enforce_retention_duration=False, dry_run=False)
        found = server.query("SELECT id FROM silver.stream ORDER BY id")
        assert found == [(n,) for n in range(number + 1)]


def test_a_kept_version_is_asked_for_by_its_number(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each had an hour of its own; the newest one's minutes have passed, too.
    monkeypatch.setattr(kept_versions, "thinned", lambda versions, *_: versions[::-1])
    path, lock, wanted = "silver/aged", threading.Lock(), [(1,), (3,), (5,)]
    for number in range(6):
        server.write(path, _ids(number), configuration=TableOptions(0).properties())
        if (number,) in wanted:
            drop_old(server.lake, path, lock, lambda: server.table(path), TimeTravel())
    listed = "SELECT version FROM ops.versions WHERE table_name = 'aged' ORDER BY 1"
    until(lambda: server.query(listed), wanted.__eq__, within_s=REGISTERED_S, what="versions")
    one = "SELECT id FROM silver.aged FOR VERSION AS OF "
    assert [server.query(f"{one}{number}")[0] for (number,) in wanted] == wanted
    with pytest.raises(trino.exceptions.TrinoUserError, match="snapshot ID does not exist"):
        server.query(f"{one}2")


def test_a_new_column_is_seen_by_the_next_query(server: Server) -> None:
    server.write("silver/growing", _ids(1))
    server.until_there("silver", "growing")
    both = pa.table({"id": [2], "note": ["new"]})
    server.write("silver/growing", both, mode="append", schema_mode="merge")
    found = server.query("SELECT id, note FROM silver.growing ORDER BY id")
    assert found == [(1, None), (2, "new")]


def test_a_table_made_again_is_served_again(server: Server) -> None:
    for number in range(4):
        server.write("silver/again", _ids(number), mode="append")
    server.until_there("silver", "again")
    assert server.query("SELECT count(*) FROM silver.again") == [(4,)]
    server.remove("silver/again")
    server.write("silver/again", pa.table({"word": ["another"]}))
    until(
        lambda: server.query("SELECT * FROM silver.again"),
        lambda found: found == [("another",)],
        within_s=REGISTERED_S,
        what="the rows of the table that took its place",
    )


def test_a_table_that_goes_is_unregistered_and_its_views_with_it(server: Server) -> None:
    rows = arrow(store_rows(seed=7))
    server.write("silver/payments", rows["payments"])
    server.until_there("reports", "revenue_by_hour")
    server.remove("silver/payments")
    server.until_gone("silver", "payments")
    server.until_gone("reports", "revenue_by_hour")
    server.write("silver/payments", rows["payments"])
    server.until_there("reports", "revenue_by_hour")


def test_a_table_that_a_view_does_not_fit_stops_no_other(server: Server) -> None:
    # A user's database may have a table with a name of the demo store and other columns.
    server.write("silver/ratings", _ids(1), schema_mode="overwrite")
    server.write("silver/after_ratings", _ids(1))
    server.until_there("silver", "after_ratings")


def test_names_with_blanks_and_capitals_are_registered_in_lower_case(server: Server) -> None:
    path = server.lake.silver_path("Order Lines")
    server.write(path, _ids(5))
    server.until_there("silver", "order lines")
    assert server.query('SELECT id FROM silver."Order Lines"') == [(5,)]


def test_silver_is_read_only_and_own_schemas_are_not(server: Server) -> None:
    server.write("silver/kept", _ids(1))
    server.until_there("silver", "kept")
    for statement in (
        "INSERT INTO silver.kept VALUES 2",
        "DROP TABLE silver.kept",
        "CREATE TABLE silver.mine AS SELECT 1 AS a",
        "CREATE VIEW reports.mine AS SELECT 1 AS a",
        "CALL lake.system.unregister_table('silver', 'kept')",
        "CALL lake.system.vacuum('silver', 'kept', '7d')",
    ):
        with pytest.raises(trino.exceptions.TrinoUserError, match="PERMISSION_DENIED"):
            server.query(statement)
    told = server.stack.run("sql", "DELETE FROM silver.kept", expect=1).stderr
    assert "hint: silver, ops, history and reports are written by the stack only" in told
    assert server.query("SELECT * FROM silver.kept") == [(1,)]
    server.query("CREATE SCHEMA lake.mine")
    server.query("CREATE TABLE lake.mine.kept AS SELECT id FROM silver.kept")
    server.query("UPDATE lake.mine.kept SET id = 2")
    assert server.query("SELECT id FROM lake.mine.kept") == [(2,)]


def test_sql_prints_every_type_exactly_as_json(server: Server) -> None:
    statement = (
        "SELECT DECIMAL '12345678901234567890.0123456789' AS d, nan() AS f, 0.1e0 AS g, "
        "9223372036854775807 AS big, X'00ff' AS bytes, "
        "TIMESTAMP '0001-01-01 00:00:00.123456 UTC' AS at, TIME '23:59:59.123456' AS hour, "
        "DATE '9999-12-31' AS day, ARRAY[1, NULL] AS list, MAP(ARRAY['k'], ARRAY[1.50]) AS pairs, "
        "CAST(ROW(true, '') AS row(yes boolean, word varchar)) AS part, "
        "JSON '{\"a\": [1.10]}' AS doc, CAST(NULL AS varchar) AS nothing; -- all"
    )
    ended = server.stack.run("sql", statement, "--format", "json")
    assert json.loads(ended.stdout, parse_float=Decimal) == [
        {
            "d": "12345678901234567890.0123456789",
            "f": "NaN",
            "g": Decimal("0.1"),
            "big": 9223372036854775807,
            "bytes": "AP8=",
            "at": "0001-01-01 00:00:00.123456+00:00",
            "hour": "23:59:59.123456",
            "day": "9999-12-31",
            "list": [1, None],
            "pairs": {"k": "1.50"},
            "part": {"yes": True, "word": ""},
            "doc": {"a": [Decimal("1.10")]},
            "nothing": None,
        }
    ]


def test_interrupting_sql_cancels_the_query_in_trino(server: Server) -> None:
    process = server.stack.start("sql", long_query("to_be_interrupted"))
    try:
        await_running(server.stack, "to_be_interrupted")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert states_of(server.stack, "to_be_interrupted") == [("FAILED", "USER_CANCELED")]


def test_a_query_that_needs_more_memory_than_it_may_have_spills_and_finishes(
    server: Server,
) -> None:
    from app.query.trino_connection import connect

    connection = connect(server.stack.settings.trino_url)
    cursor = connection.cursor()
    cursor.execute("SET SESSION query_max_memory_per_node = '40MB'")
    cursor.fetchall()
    cursor.execute(
        "SELECT count(*), sum(n) FROM (SELECT x, y, count(*) AS n "
        "FROM UNNEST(sequence(1, 2000)) AS a(x) CROSS JOIN UNNEST(sequence(1, 1000)) AS b(y) "
        "GROUP BY x, y)"
    )
    # Two threads have a million groups each, more than the limit even if one ends before the other.
    assert cursor.fetchall() == [[2_000_000, 2_000_000]]
    assert cursor.stats["spilledBytes"] > 0


def test_a_killed_trino_comes_back_with_its_tables_and_the_registrar_goes_on(
    server: Server,
) -> None:
    server.write("silver/before", _ids(1))
    server.until_there("silver", "before")
    pid = int(server.stack.status()["trino"]["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), within_s=30, what="Trino is gone")
    server.write("silver/after", _ids(2))
    until(
        lambda: server.query("SELECT a.id, b.id FROM silver.before AS a, silver.after AS b"),
        lambda found: found == [(1, 2)],
        within_s=300,
        what="both tables after the restart",
    )


def _as_utc(value: Any) -> Any:
    return value.astimezone(dt.timezone.utc) if isinstance(value, dt.datetime) else value
