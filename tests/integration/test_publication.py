"""Publishing into a real Postgres is atomic for concurrent readers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.environment.dsn import with_user
from app.environment.settings import checked
from app.errors import HeadwaterError
from app.profile_check.serving_check import check_serving
from app.serving.publication import Answer, Progress, Publication, write
from tests.support.postgres import fresh_database
from tests.support.postgres_server import postgres_server

LISTS = [("customer_id", "bigint"), ("rank", "integer"), ("title", "varchar(20)")]
UNKNOWN = Progress(None, None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server(15) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reads'")
        yield dsn


@pytest.fixture
def serving(server: str) -> Iterator[str]:
    with fresh_database(server) as dsn:
        yield dsn


def answer(
    rows: Sequence[Sequence[Any]], columns: list[tuple[str, str]] = LISTS, version: int | None = 7
) -> Answer:
    return Answer(version, columns, iter(rows))


def publish(dsn: str, rows: Sequence[Sequence[Any]], *key: str, **more: Any) -> int:
    wanted = Publication("ml.lists", "lists", key, "recommend", "run-1")
    return write(wanted, answer(rows, **more), UNKNOWN, dsn)


@contextmanager
def reader(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(with_user(dsn, "reader", "reads"), autocommit=True) as connection:
        yield connection


def published(dsn: str) -> list[tuple[Any, ...]]:
    with reader(dsn) as connection:
        return connection.execute("SELECT * FROM lists ORDER BY 1, 2").fetchall()


def test_values_of_every_type_arrive_as_they_are(serving: str) -> None:
    columns = [
        ("a", "bigint"), ("b", "double"), ("c", "decimal(12,2)"), ("d", "varchar"), ("e", "date"),
        ("f", "timestamp(3) with time zone"), ("g", "boolean"), ("h", "real"), ("i", "varbinary"),
    ]  # fmt: skip
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)
    row = (1 << 40, 0.1, Decimal("1.10"), "tab\t\\N\nü", date(2026, 1, 2), at, True, 0.5, b"\0\1")
    publish(serving, [row, (None,) * 9], columns=columns)
    assert published(serving) == [row, (None,) * 9]
    publish(serving, [(1, math.nan)], columns=columns[:2])
    assert math.isnan(published(serving)[0][1])


def test_readers_see_the_old_rows_until_all_new_ones_are_there(serving: str) -> None:
    publish(serving, [(1, 1, "old")], "customer_id", "rank")
    seen = []

    def rows() -> Iterator[tuple[int, int, str]]:
        for rank in range(1, 101):
            if rank % 50 == 0:
                seen.append(published(serving))
            yield 1, rank, "new"

    write(
        Publication("ml.lists", "lists", ["customer_id", "rank"]),
        Answer(8, LISTS, rows()),
        Progress(99, datetime(2026, 1, 2, tzinfo=timezone.utc)),
        serving,
    )
    assert seen == [[(1, 1, "old")]] * 2
    assert published(serving) == [(1, rank, "new") for rank in range(1, 101)]
    with reader(serving) as connection:
        [known] = connection.execute(
            "SELECT name, source_table, delta_version, complete_lsn, rows FROM publications"
        ).fetchall()
        key = connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND "
            "attnum = ANY (indkey) WHERE indrelid = 'lists'::regclass AND indisprimary ORDER BY 1"
        ).fetchall()
    assert known == ("lists", "ml.lists", 8, 99, 100)
    assert key == [("customer_id",), ("rank",)]


def test_a_transaction_that_began_before_finds_the_new_list_whole(serving: str) -> None:
    publish(serving, [(1, 1, "old")])
    with reader(serving) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        publish(serving, [(1, 1, "new"), (1, 2, "new")])
        found = connection.execute("SELECT rank, title FROM lists ORDER BY rank").fetchall()
    assert found == [(1, "new"), (2, "new")]


def broken(rows: Sequence[Any]) -> Iterator[Any]:
    yield from rows
    raise OSError("Trino is gone")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "ml.lists is empty; `lists` stays as it was published"),
        ([(1, 1, "a"), (1, 1, "b")], "`customer_id, rank` is no key of ml.lists"),
        ([(1, None, "a")], "`customer_id, rank` is no key of ml.lists"),
        ([(1, 1, "\0")], "`lists` could not be published; it stays as it was"),
        ([(1 << 70, 1, "a")], "`lists` could not be published; it stays as it was"),
    ],
)
def test_what_cannot_be_published_leaves_the_old_rows(
    serving: str, rows: list[Any], message: str
) -> None:
    publish(serving, [(1, 1, "old")], "customer_id", "rank")
    with pytest.raises(HeadwaterError) as caught:
        publish(serving, rows, "customer_id", "rank")
    assert caught.value.message == message
    assert published(serving) == [(1, 1, "old")]


def test_a_source_that_goes_away_in_the_middle_leaves_the_old_rows_and_nothing_else(
    serving: str,
) -> None:
    publish(serving, [(1, 1, "old")])
    with pytest.raises(OSError, match="Trino is gone"):
        write(
            Publication("ml.lists", "lists", []),
            Answer(8, LISTS, broken([(1, 1, "new")] * 10)),
            UNKNOWN,
            serving,
        )
    assert published(serving) == [(1, 1, "old")]
    with psycopg.connect(serving) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {name for (name,) in tables} == {"lists", "publications"}


def test_the_same_rows_in_another_order_have_the_same_digest(serving: str) -> None:
    def digest() -> str:
        with reader(serving) as connection:
            [(found,)] = connection.execute("SELECT digest FROM publications").fetchall()
        return str(found)

    rows = [(1, 1, "a"), (2, 1, "b"), (2, 2, "c")]
    publish(serving, rows)
    first = digest()
    publish(serving, rows[::-1])
    assert digest() == first
    publish(serving, rows[:2])
    assert digest() != first


def test_the_reader_only_reads(serving: str) -> None:
    publish(serving, [(1, 1, "old")])
    with reader(serving) as connection:
        for statement in (
            "DELETE FROM lists", "UPDATE publications SET rows = 0", "DROP TABLE lists",
            "CREATE TABLE own (a int)",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@pytest.mark.parametrize("kind", ["array(bigint)", "map(varchar, bigint)", "row(a bigint)"])
def test_a_column_that_postgres_has_no_type_for_is_refused_with_its_name(
    serving: str, kind: str
) -> None:
    with pytest.raises(HeadwaterError, match="column `tags` cannot be published"):
        publish(serving, [([1],)], columns=[("tags", kind)])


def test_the_profile_check_names_the_grants_that_are_missing_and_leaves_nothing(
    server: str, tmp_path: Path
) -> None:
    def found() -> dict[str, Any]:
        own = checked(tmp_path, {"serving_dsn": weak}, origin="the test")
        return {one.check: one for one in check_serving(own)}

    with fresh_database(server) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
        connection.execute("REVOKE ALL ON SCHEMA public FROM public")
        weak = with_user(dsn, "weak", "wrong")
        assert (found()["log-in"].status, len(found())) == ("missing", 1)
        weak = with_user(dsn, "weak", "weak")
        grant = "GRANT USAGE, CREATE ON SCHEMA public TO weak;"
        assert (found()["rights"].status, found()["rights"].todo) == ("missing", grant)
        connection.execute(grant.encode())
        grant = "GRANT USAGE ON SCHEMA public TO reader;"
        assert (found()["readers"].status, found()["readers"].todo) == ("note", grant)
        connection.execute(grant.encode())
        assert {one.status for one in found().values()} == {"ok"}
        assert (
            connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()
            == []
        )
        publish(weak, [(1, 1, "new")], "customer_id")
        assert published(weak) == [(1, 1, "new")]
        connection.execute("DROP OWNED BY weak")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP ROLE weak")


def test_where_the_role_reader_is_missing_lists_are_published_all_the_same(server: str) -> None:
    with fresh_database(server) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER ROLE reader RENAME TO absent")
        try:
            publish(dsn, [(1, 1, "new")], "customer_id")
            assert connection.execute("SELECT count(*) FROM lists").fetchone() == (1,)
        finally:
            connection.execute("ALTER ROLE absent RENAME TO reader")
            connection.execute("ALTER ROLE reader PASSWORD 'reads'")
