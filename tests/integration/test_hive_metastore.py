"""The main job with Trino's catalog in a Hive metastore, in a home that began with files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a stack with Hive, five minutes

SERVICES = ("metastore", "metastore-db")
REGISTERED_S = 180
VIEWS = (
    "SELECT count(*) > 0 FROM reports.top_customers",
    "SELECT count(*) > 0 FROM reports.revenue_by_hour",
    "SELECT count(*) > 0 FROM ops.freshness",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that has run with the file metastore, and now runs with Hive."""
    with fresh_stack() as fresh:
        fresh.up("--only", "tables", "silver")
        until(
            lambda: fresh.query("SELECT 1 FROM silver.movies LIMIT 1"),
            within_s=REGISTERED_S,
            what="movies in Trino",
        )
        fresh.run("down", timeout_s=300)
        profile = tmp_path_factory.mktemp("profile") / "hive.toml"
        profile.write_text('metastore = "hive"\n')
        fresh.up("--profile", str(profile), "--only", "tables", "silver", "capture")
        yield fresh


def in_metastore(stack: Stack) -> dict[str, str]:
    """`schema.name` → its type, from the metastore's own database."""
    address = stack.settings.ports.address("metastore_db")
    secret = stack.settings.secret("metastore_db_password")
    with psycopg.connect(f"postgresql://hive:{secret}@{address}/metastore") as database:
        rows = database.execute(
            'SELECT d."NAME", t."TBL_NAME", t."TBL_TYPE" FROM "TBLS" t JOIN "DBS" d USING ("DB_ID")'
        ).fetchall()
    return {f"{schema}.{name}": kind for schema, name, kind in rows}


def data_files(folder: Path) -> list[Path]:
    """The data files of Delta tables below a folder, without logs."""
    return [one for one in folder.rglob("*") if one.is_file() and "_delta_log" not in one.parts]


def await_views(stack: Stack) -> None:
    for statement in VIEWS:
        stack.await_answer(statement, [(True,)], within_s=REGISTERED_S)


def test_tables_and_views_of_a_home_with_files_are_registered_in_hive(stack: Stack) -> None:
    await_views(stack)
    found = in_metastore(stack)
    assert found["silver.movies"] == "EXTERNAL_TABLE"
    assert found["reports.top_customers"] == "VIRTUAL_VIEW"
    assert {row["verdict"] for row in stack.verify()} == {"equal"}


def test_the_metastore_listens_on_loopback_only_and_its_secret_is_in_no_log(stack: Stack) -> None:
    secret = stack.settings.secret("metastore_db_password")
    for service in SERVICES:
        for log in (stack.home / "run" / service).glob("*.log"):
            assert secret not in log.read_text()
    number = stack.settings.ports.number("metastore")
    with open("/proc/net/tcp6") as six, open("/proc/net/tcp") as four:
        rows = [line.split() for line in [*six, *four]]
    listening = {
        row[1].rpartition(":")[0]
        for row in rows
        if row[1].endswith(f":{number:04X}") and row[3] == "0A"
    }
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"} and listening


@pytest.mark.parametrize("service", ["metastore", "metastore-db", "trino"])
def test_after_a_kill_new_tables_are_registered_and_silver_is_equal(
    stack: Stack, service: str
) -> None:
    table = f"after_{service.replace('-', '_')}"
    stack.kill(service)
    with stack.source() as source:
        source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v text)".encode())
        source.execute(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')".encode())
        source.execute("UPDATE movies SET title = title || ' *' WHERE movie_id = 1")
    stack.await_answer(
        f"SELECT id, v FROM silver.{table} ORDER BY id",
        [(1, "one"), (2, "two")],
        within_s=REGISTERED_S,
    )
    await_views(stack)
    verdicts = {row["table"]: row["verdict"] for row in stack.verify()}
    assert verdicts[table] == "equal" and {*verdicts.values()} == {"equal"}


def test_a_table_of_ones_own_is_made_and_its_files_go_with_it(stack: Stack) -> None:
    stack.query("CREATE SCHEMA lake.mine")
    stack.query("CREATE TABLE lake.mine.notes (id int, note varchar)")
    stack.query("INSERT INTO lake.mine.notes VALUES (1, 'kept')")
    assert stack.query("SELECT * FROM lake.mine.notes") == [(1, "kept")]
    folder = stack.home / "data" / "s3" / "lake" / "warehouse" / "mine.db"
    assert data_files(folder)
    stack.query("DROP TABLE lake.mine.notes")
    stack.query("DROP SCHEMA lake.mine")
    assert not data_files(folder)


@pytest.mark.slow
def test_a_schema_that_was_half_made_is_made_again(stack: Stack) -> None:
    address = stack.settings.ports.address("metastore_db")
    secret = stack.settings.secret("metastore_db_password")
    with psycopg.connect(f"postgresql://hive:{secret}@{address}/metastore") as database:
        database.execute('DELETE FROM "VERSION"')
        database.execute('DROP TABLE "TBL_PRIVS"')
    stack.kill("metastore")
    until(
        lambda: in_metastore(stack),
        lambda found: {"silver.movies", "reports.top_customers"} <= {*found},
        within_s=400,  # the registrar lists Trino's tables every five minutes
        what="tables and views registered again",
    )
    await_views(stack)
