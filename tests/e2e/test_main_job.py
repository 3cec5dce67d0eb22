"""The main job on the demo store: what is committed in Postgres is what Trino answers."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
# Rows of a new table come as a snapshot, later writes of the tests as events.
NEW_TABLES = (
    "CREATE TABLE travel (id int PRIMARY KEY, place text NOT NULL)",
    "INSERT INTO travel VALUES (1, 'Oslo'), (2, 'Rome'), (3, 'Lima')",
    "CREATE TABLE moves (id int PRIMARY KEY, n int, story text)",
    # Random text cannot be compressed to fit into the row, so it is really stored outside.
    "INSERT INTO moves SELECT i, 0, (SELECT string_agg(md5(random()::text || g || i), '') "
    "FROM generate_series(1, 300) g) FROM generate_series(1, 3) i",
    "CREATE TABLE emptied (id int PRIMARY KEY)",
    "INSERT INTO emptied VALUES (1), (2)",
    "CREATE TABLE widened (id int PRIMARY KEY)",
    "INSERT INTO widened VALUES (1)",
    "CREATE TABLE keyless (word text, n int)",
    "ALTER TABLE keyless REPLICA IDENTITY FULL",
    "INSERT INTO keyless VALUES ('a', 1), ('a', 1), ('a', 1), ('b', 2)",
    "CREATE TYPE mood AS ENUM ('calm', 'wild')",
    "CREATE TABLE everyday (id bigint PRIMARY KEY, a smallint, b int, c numeric(38,9), "
    "d numeric, e real, f double precision, g bool, h varchar(20), i uuid, j bytea, "
    "k date, l time, m timestamp, n timestamptz, o json, p jsonb, q mood, r text[], "
    "s int[], t numeric(10,2)[], u char(5), v uuid[], w timestamptz[])",
    "INSERT INTO everyday VALUES (1, -32768, 2147483647, 12345678901234567890.123456789, "
    "1e-30, 1.5, 0.1, true, 'Ærø \"x\"', '2b4c6a3e-8f7d-4c2b-9a1e-0d3f5a7c9b1e', "
    "'\\x00ff10', '2024-02-29', '23:59:59.999999', '1969-12-31 23:59:59.999999', "
    "'2026-03-29 02:30:00.5+01', '{\"a\": [1, 2]}', '{\"b\": null}', 'wild', "
    "'{a,NULL,\"b,c\"}', '{1,NULL,3}', '{1.50,2.25}', 'ab', "
    "'{2b4c6a3e-8f7d-4c2b-9a1e-0d3f5a7c9b1e}', '{2026-01-01 00:00:00+00}'), "
    "(-9223372036854775808, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
    "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "CREATE TABLE planted (id int PRIMARY KEY, v text)",
    "INSERT INTO planted VALUES (1, 'right'), (2, 'right')",
)


@pytest.fixture(scope="module")
def new_tables(stack: Stack) -> None:
    """The tests' tables with their first rows, which silver receives meanwhile.

    They are created together, because each separate one would need a restart of the connector.
    """
    with stack.source() as source, source.transaction():
        for statement in NEW_TABLES:
            source.execute(statement.encode())


def test_every_table_of_the_store_is_in_trino_with_the_sources_rows(stack: Stack) -> None:
    verdicts = {row["table"]: row for row in stack.verify()}
    assert {"customers", "movies", "genres", "movie_genres", "ratings"} <= set(verdicts)
    assert {"tags", "orders", "order_lines", "invoices", "payments"} <= set(verdicts)
    # Other tests drop their tables, which silver keeps.
    assert {row["verdict"] for row in verdicts.values()} <= {"equal", "dropped"}
    assert verdicts["movies"]["verdict"] == "equal"
    assert int(verdicts["movies"]["rows"]) > 100


# Service → its last line at the start; later lines may come from other tests.
STARTED = {
    "kafka": "Kafka Server started",
    "connect": "Finished starting connectors and tasks",
    "silver": "INFO spark_streaming",
    "trino": "SERVER STARTED",
}


@pytest.mark.parametrize("service", list(STARTED))
def test_a_start_that_goes_well_warns_of_nothing(stack: Stack, service: str) -> None:
    log = (stack.home / "run" / service / "stderr.log").read_text()
    start, reached, _ = log.partition(STARTED[service])
    assert reached
    assert [line for line in start.splitlines() if re.search(r"\b(WARN|ERROR)\b", line)] == []


def test_new_topics_make_the_producers_of_connect_warn_of_nothing(stack: Stack) -> None:
    assert "NOT_LEADER_OR_FOLLOWER" not in (stack.home / "run/connect/stderr.log").read_text()


@pytest.mark.usefixtures("new_tables")
def test_an_update_an_insert_and_a_delete_arrive_in_one_transaction(stack: Stack) -> None:
    wait_for_rows(stack, "travel", "id, place", [(1, "Oslo"), (2, "Rome"), (3, "Lima")])
    with stack.source() as source, source.transaction():
        source.execute("UPDATE travel SET place = 'Bergen' WHERE id = 1")
        source.execute("DELETE FROM travel WHERE id = 2")
        source.execute("INSERT INTO travel VALUES (4, 'Cairo')")
    wait_for_rows(stack, "travel", "id, place", [(1, "Bergen"), (3, "Lima"), (4, "Cairo")])


@pytest.mark.usefixtures("new_tables")
def test_a_changed_key_moves_the_row_with_its_large_text(stack: Stack) -> None:
    with stack.source() as source:
        wait_for_rows(stack, "moves", "id, n", [(1, 0), (2, 0), (3, 0)])
        source.execute("UPDATE moves SET n = n + 1 WHERE id = 1")
        source.execute("UPDATE moves SET id = 20 WHERE id = 2")
        source.execute("DELETE FROM moves WHERE id = 3")
    wait_for_rows(stack, "moves", "id, n", [(1, 1), (20, 0)])
    stack.verify("moves")


@pytest.mark.usefixtures("new_tables")
def test_a_truncated_table_is_empty_and_fills_again(stack: Stack) -> None:
    with stack.source() as source:
        wait_for_rows(stack, "emptied", "id", [(1,), (2,)])
        source.execute("TRUNCATE emptied")
        source.execute("INSERT INTO emptied VALUES (2), (3)")
    wait_for_rows(stack, "emptied", "id", [(2,), (3,)])
    stack.verify("emptied")


@pytest.mark.usefixtures("new_tables")
def test_a_new_column_appears_with_its_values(stack: Stack) -> None:
    with stack.source() as source:
        wait_for_rows(stack, "widened", "id", [(1,)])
        source.execute("ALTER TABLE widened ADD COLUMN price numeric(8,2), ADD seen int DEFAULT 7")
        source.execute("INSERT INTO widened VALUES (2, 12.50, 8)")
    wait_for_rows(stack, "widened", "id, price, seen", [(1, None, 7), (2, Decimal("12.50"), 8)])
    stack.verify("widened")


def test_watch_shows_a_change_with_the_time_that_each_hop_took(stack: Stack) -> None:
    with stack.source() as source, stack.start("watch", "movies", "--format", "json") as watch:
        assert watch.stdout is not None
        first_line = ThreadPoolExecutor(1).submit(watch.stdout.readline)

        def changed_and_shown() -> bool:  # it may not read the topics yet
            source.execute("UPDATE movies SET popularity = popularity + 1 WHERE movie_id = 1")
            return first_line.done()

        try:
            until(changed_and_shown, within_s=SOON_S, what="a line of watch", every_s=0.5)
            row = json.loads(first_line.result())
        finally:
            watch.send_signal(signal.SIGINT)
        _, notes = watch.communicate(timeout=SOON_S)
        assert watch.returncode == 0, notes
    assert (row["table"], row["op"], json.loads(row["key"])) == (
        "movies",
        "update",
        {"movie_id": 1},
    )
    hops = [row[f"{hop}_ms"] for hop in ("kafka", "silver", "trino")]
    assert hops == sorted(hops)
    assert hops[0] > 0 < row["bronze_ms"]


@pytest.mark.usefixtures("new_tables")
def test_equal_rows_of_a_table_without_a_key_are_counted(stack: Stack) -> None:
    with stack.source() as source:
        wait_for_rows(stack, "keyless", "word, n", [("a", 1)] * 3 + [("b", 2)])
        source.execute("DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless)")
        source.execute("UPDATE keyless SET n = 3 WHERE word = 'b'")
    wait_for_rows(stack, "keyless", "word, n", [("a", 1)] * 2 + [("b", 3)])
    stack.verify("keyless")


@pytest.mark.usefixtures("new_tables")
def test_the_everyday_types_come_back_exactly(stack: Stack) -> None:
    until(
        lambda: stack.query("SELECT count(*) FROM everyday"),
        lambda rows: rows[0][0] == 2,
        within_s=SOON_S,
        what="both rows in silver",
    )
    stack.verify("everyday")
    [row] = stack.query(
        "SELECT a, b, c, d, g, h, i, j, k, cast(l AS varchar), cardinality(r), s[3] "
        "FROM everyday WHERE id = 1"
    )
    assert row[:3] == (-32768, 2147483647, Decimal("12345678901234567890.123456789"))
    assert (str(row[3]), row[4], row[5]) == ("0.000000000000000000000000000001", True, 'Ærø "x"')
    assert str(row[6]) == "2b4c6a3e-8f7d-4c2b-9a1e-0d3f5a7c9b1e"
    assert (bytes(row[7]), str(row[8])) == (b"\x00\xff\x10", "2024-02-29")
    assert (row[9][:15], row[10], row[11]) == ("23:59:59.999999", 3, 3)


@pytest.mark.usefixtures("new_tables")
def test_a_planted_wrong_row_is_found_and_named(stack: Stack) -> None:
    with stack.source() as source:
        wait_for_rows(stack, "planted", "id, v", [(1, "right"), (2, "right")])
        stack.verify("planted")
        # Not seen by the connector: the log does not have it.
        source.execute("ALTER PUBLICATION headwater DROP TABLE planted")
        source.execute("UPDATE planted SET v = 'other' WHERE id = 2")
        source.execute("ALTER PUBLICATION headwater ADD TABLE planted")
    ended = stack.run("verify", "planted", "--format", "json", expect=1)
    [verdict] = json.loads(ended.stdout)
    assert verdict["verdict"] == "differs"
    assert "id=2" in ended.stderr
    assert "'other'" in ended.stderr and "'right'" in ended.stderr


def test_reports_answer_over_silver(stack: Stack) -> None:
    reports = {name for (name,) in stack.query("SHOW TABLES FROM reports")}
    assert {"revenue_by_hour", "top_customers", "rating_distribution"} <= reports
    for report in sorted(reports):
        stack.query(f"SELECT * FROM reports.{report} LIMIT 5")
    [(in_silver,)] = stack.query("SELECT count(*) FROM ratings")
    with stack.source() as source:
        in_source = source.execute("SELECT count(*) FROM ratings").fetchone()
    assert in_source == (in_silver,)


def test_sql_prints_tables_csv_and_json(stack: Stack) -> None:
    statement = "SELECT 1 AS one, 'a,b' AS word"
    assert "a,b" in stack.run("sql", statement).stdout
    as_csv = stack.run("sql", statement, "--format", "csv").stdout
    assert list(csv.DictReader(io.StringIO(as_csv))) == [{"one": "1", "word": "a,b"}]
    as_json = stack.run("sql", statement, "--format", "json").stdout
    assert json.loads(as_json) == [{"one": 1, "word": "a,b"}]


def test_a_wrong_statement_is_told_without_a_stack_trace(stack: Stack) -> None:
    ended = stack.run("sql", "SELECT * FROM nowhere", expect=1)
    assert "nowhere" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_status_and_urls_tell_every_service(stack: Stack) -> None:
    # A machine may lack the programs of optional services (Prometheus, Grafana), and `up` does not wait
    # for services that only watch others.
    states = {"ready", "completed", "unavailable"}
    status = until(
        stack.status,
        lambda seen: {r["state"] for r in seen.values() if r["kind"] == "service"} <= states,
        within_s=SOON_S,
        what="every service is as it should be",
        every_s=0.5,
    )
    assert {"postgres", "kafka", "s3", "connect", "silver", "trino"} <= set(status)
    urls = stack.urls()
    assert {"postgres", "kafka", "s3", "trino"} <= set(urls)


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = {name: row["pid"] for name, row in stack.status().items()}
    stack.up()
    assert {name: row["pid"] for name, row in stack.status().items()} == before


def test_freshness_names_every_table(stack: Stack) -> None:
    rows = stack.query("SELECT table_name FROM ops.freshness")
    assert {"movies", "orders"} <= {name for (name,) in rows}


def test_freshness_of_a_quiet_table_goes_on_with_the_sources_heartbeats(stack: Stack) -> None:
    figures = (
        "SELECT complete_lsn, source_time FROM ops.freshness "
        "WHERE table_name = 'genres' AND state = 'running'"
    )
    [before] = until(
        lambda: stack.query(figures),
        lambda rows: bool(rows) and None not in rows[0],
        within_s=SOON_S,
        what="figures of `genres`",
    )
    until(
        lambda: stack.query(figures),
        lambda rows: rows[0][0] > before[0] and rows[0][1] > before[1],
        within_s=SOON_S,
        what="`genres` complete to a later LSN and time",
    )


def test_a_proxy_of_the_user_does_not_come_between_the_command_and_the_stack(stack: Stack) -> None:
    nowhere = "http://127.0.0.1:9"
    behind = Stack(stack.home, stack.settings.profile.port_offset)
    behind.environment |= {"HTTP_PROXY": nowhere, "http_proxy": nowhere, "ALL_PROXY": nowhere}
    for name in ("NO_PROXY", "no_proxy"):
        behind.environment.pop(name, None)
    answer = behind.answer("sql", "SELECT count(*) > 100 AS many FROM movies")
    assert answer == [{"many": True}]
    behind.verify("genres")


def wait_for_rows(
    stack: Stack, table: str, columns: str, expected: Sequence[tuple[object, ...]]
) -> None:
    """Wait until Trino answers `expected`, in the order of the columns."""
    stack.await_answer(f"SELECT {columns} FROM {table} ORDER BY 1", list(expected), within_s=SOON_S)
