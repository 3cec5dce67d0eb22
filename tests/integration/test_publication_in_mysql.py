"""Publishing into a real MariaDB or MySQL: whole or not at all, though each statement there commits by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.environment.settings import checked
from app.errors import HeadwaterError
from app.profile_check.serving_check import check_serving
from app.serving import serving_mysql
from app.serving.publication import Answer, Progress, Publication, write
from app.serving.serving_address import publications
from app.serving.serving_mysql import ServingMysql
from tests.support.mariadb_server import PROGRAM, mariadb_server

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no MariaDB and no MySQL on this machine (`mariadbd` with `my_print_defaults`, or `mysqld`)",
)
LISTS = [("customer_id", "bigint"), ("rank", "integer"), ("title", "varchar(20)")]
KEY = ("customer_id", "rank")
UNKNOWN = Progress(None, None)
OLD = [(1, 1, "old")]
_NOWHERE = Path("/nonexistent")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with mariadb_server() as dsn:
        yield dsn


@pytest.fixture
def serving(server: str) -> Iterator[str]:
    with session(server) as connection:
        connection.execute(text("DROP DATABASE IF EXISTS yours"))
        connection.execute(text("CREATE DATABASE yours"))
    yield server


@contextmanager
def session(dsn: str, isolation: Any = "AUTOCOMMIT") -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        dsn.replace("mysql:", "mysql+pymysql:"), isolation_level=isolation
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def publish(
    dsn: str,
    rows: Any,
    *key: str,
    columns: list[tuple[str, str]] = LISTS,
    name: str = "lists",
    version: int = 7,
) -> int:
    wanted = Publication("ml.lists", name, key, "recommend", "run-1")
    return write(wanted, Answer(version, columns, iter(rows)), UNKNOWN, dsn)


def published(dsn: str, name: str = "lists") -> list[tuple[Any, ...]]:
    with session(dsn) as connection:
        return [
            tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2"))
        ]


def tables(dsn: str) -> set[str]:
    with session(dsn) as connection:
        return {name for (name,) in connection.execute(text("SHOW TABLES"))}


def recorded(dsn: str) -> list[tuple[Any, ...]]:
    with session(dsn) as connection:
        found = connection.execute(
            text("SELECT name, delta_version, `rows` FROM publications ORDER BY name")
        )
        return [tuple(row) for row in found]


def test_values_of_every_type_arrive_as_they_are_and_moments_in_utc(serving: str) -> None:
    columns = [
        ("a", "bigint"), ("b", "double"), ("c", "decimal(12,2)"), ("d", "varchar"), ("e", "date"),
        ("f", "timestamp(3) with time zone"), ("g", "boolean"), ("h", "real"), ("i", "varbinary"),
        ("j", "uuid"), ("k", "json"), ("l", "timestamp(6)"),
    ]  # fmt: skip
    at = datetime(2060, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)
    naive = at.replace(tzinfo=None)
    number = UUID(int=7)
    row = (
        1 << 40, 0.1, Decimal("1.10"), "tab\t\\N\n'ü😀%s", date(2026, 1, 2), at, True, 16_777_217.5,
        b"\0\1\xff", number, '{"a": 1}', naive,
    )  # fmt: skip
    publish(serving, [row, (None,) * len(row)], columns=columns)
    assert published(serving) == [
        (None,) * len(row),
        (*row[:5], naive, 1, *row[7:9], str(number), *row[10:]),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "ml.lists is empty; `lists` stays as it was published"),
        ([(1, 1, "a"), (1, 1, "b")], "`customer_id, rank` is no key of ml.lists"),
        ([(1, None, "a")], "`customer_id, rank` is no key of ml.lists"),
        ([(1, 1, float("nan"))], "`lists` could not be published; it stays as it was"),
        ([(1 << 70, 1, "a")], "`lists` could not be published; it stays as it was"),
    ],
)
def test_what_cannot_be_published_leaves_the_old_rows(
    serving: str, rows: list[Any], message: str
) -> None:
    publish(serving, OLD, *KEY)
    with pytest.raises(HeadwaterError) as caught:
        publish(serving, rows, *KEY, version=8)
    assert caught.value.message == message
    assert published(serving) == OLD
    assert recorded(serving) == [("lists", 7, 1)]
    assert tables(serving) == {"lists", "publications"}


def test_texts_of_a_key_are_equal_only_where_every_character_is(serving: str) -> None:
    rows = [("a", 0), ("A", 1), ("a ", 2), ("ä", 3)]
    publish(serving, rows, "word", columns=[("word", "varchar"), ("n", "bigint")])
    assert sorted(published(serving)) == sorted(rows)
    numbers = [(0, 1, "x"), (-1, 2, "y")]  # no number is made up in place of 0
    publish(serving, numbers, "customer_id", name="numbers")
    assert published(serving, "numbers") == sorted(numbers)


def test_readers_see_the_old_rows_until_all_new_ones_are_there(serving: str) -> None:
    publish(serving, OLD, *KEY)
    publish(serving, OLD, *KEY, name="others")
    ended, seen = threading.Event(), set()

    def look() -> None:
        with session(serving) as connection:
            while not ended.is_set():
                found = connection.execute(text("SELECT count(*), min(title) FROM lists")).one()
                seen.add(tuple(found))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for version in range(8, 12):
            publish(serving, ((1, rank, "new") for rank in range(100)), *KEY, version=version)
    finally:
        ended.set()
        looking.join()
    assert seen == {(1, "old"), (100, "new")}
    assert recorded(serving) == [("lists", 11, 100), ("others", 7, 1)]
    settings = checked(_NOWHERE, {"serving_dsn": serving}, origin="the test")
    [first, _] = publications(settings)
    assert first[:4] == ("lists", "ml.lists", 100, 11)
    assert first[6].tzinfo is not None


def test_a_transaction_that_began_before_never_finds_an_empty_list(serving: str) -> None:
    publish(serving, OLD)
    with session(serving, "REPEATABLE READ") as connection:
        connection.execute(text("START TRANSACTION WITH CONSISTENT SNAPSHOT"))
        publish(serving, [(1, 1, "new"), (1, 2, "new")])
        try:
            found = connection.execute(text("SELECT count(*) FROM lists")).scalar_one()
        except DBAPIError as error:  # "Table definition has changed, please retry transaction"
            assert error.orig is not None and error.orig.args[0] == 1412
        else:
            assert found == 2


class Killed(BaseException):
    """Ends a publication where a kill would: nothing is tidied up."""


@pytest.mark.parametrize("before", ["RENAME", "DROP TABLE IF EXISTS _old_"])
def test_list_and_row_agree_wherever_it_is_killed_and_the_next_publication_tidies_up(
    serving: str, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    publish(serving, OLD, *KEY)

    class Mortal(ServingMysql):
        @contextmanager
        def connected(self) -> Iterator[Connection]:
            with super().connected() as connection:
                renamed = False

                def kill(_: Any, cursor: Any, statement: str, *rest: Any) -> None:
                    nonlocal renamed
                    reached = statement.startswith(before) and (renamed or before == "RENAME")
                    renamed = renamed or statement.startswith("RENAME")
                    if reached:
                        number = connection.connection.driver_connection.thread_id()  # type: ignore[union-attr]
                        with session(serving) as other:
                            other.exec_driver_sql(f"KILL {number}")

                sqlalchemy.event.listen(connection, "before_cursor_execute", kill)
                yield connection

    monkeypatch.setattr("app.serving.publication.serving_database", Mortal)
    with pytest.raises(HeadwaterError) if before == "RENAME" else _nothing():
        publish(serving, [(1, 1, "new"), (1, 2, "new")], *KEY, version=8)
    monkeypatch.undo()
    whole = {(7, 1): OLD, (8, 2): [(1, 1, "new"), (1, 2, "new")]}
    [(_, version, rows)] = recorded(serving)
    assert published(serving) == whole[version, rows]
    assert version == (7 if before == "RENAME" else 8)
    assert tables(serving) > {"lists", "publications"}
    publish(serving, OLD, *KEY, name="others")
    assert tables(serving) == {"lists", "others", "publications"}


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_a_publication_at_work_keeps_what_stands_beside_its_list(serving: str) -> None:
    def rows() -> Iterator[tuple[int, int, str]]:
        yield 1, 1, "new"
        publish(serving, OLD, name="others")
        yield 1, 2, "new"

    publish(serving, rows(), *KEY)
    assert published(serving) == [(1, 1, "new"), (1, 2, "new")]
    assert recorded(serving) == [("lists", 7, 2), ("others", 7, 1)]


def test_a_reader_who_does_not_end_is_awaited_for_so_long_and_keeps_the_old_list(
    serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(serving, OLD, *KEY)
    monkeypatch.setattr(serving_mysql, "_SESSION", serving_mysql._SESSION.replace("= 30", "= 1"))
    with session(serving, "REPEATABLE READ") as connection:
        connection.execute(text("SELECT * FROM lists"))
        with pytest.raises(HeadwaterError, match="could not be published") as caught:
            publish(serving, [(1, 1, "new")], *KEY)
        assert "Lock wait timeout" in caught.value.detail
    assert published(serving) == OLD
    assert tables(serving) == {"lists", "publications"}


def test_the_profile_check_names_the_grant_that_is_missing(serving: str) -> None:
    with session(serving) as connection:
        connection.execute(text("CREATE OR REPLACE USER 'weak'@'%' IDENTIFIED BY 'w'"))
        connection.execute(text("GRANT SELECT ON yours.* TO 'weak'@'%'"))
    weak = f"mysql://weak:w@{serving.rpartition('@')[2]}"
    rows = {one.check: one for one in check_serving(_settings(weak))}
    assert rows["rights"].status == "missing"
    grant = rows["rights"].todo
    assert grant == "GRANT SELECT, INSERT, CREATE, ALTER, DROP ON yours.* TO 'weak'@'%';"
    with session(serving) as connection:
        connection.exec_driver_sql(grant.replace("%", "%%"))
    assert {one.status for one in check_serving(_settings(weak))} == {"ok", "note"}
    publish(weak, OLD, *KEY)
    publish(weak, OLD, *KEY)
    assert tables(serving) == {"lists", "publications"}


def _settings(dsn: str) -> Any:
    return checked(_NOWHERE, {"serving_dsn": dsn}, origin="the test")
