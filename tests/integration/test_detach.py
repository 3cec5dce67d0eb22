"""`detach` restores a database to its state before Headwater, as far as the DSN's role may."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.source.findings import from_file
from tests.support.catalog import catalog_of
from tests.support.events import events
from tests.support.postgres import fresh_database
from tests.support.postgres_server import postgres_server
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

# A table of each kind whose replica identity `--apply` sets, and one whose owner has set it.
TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, word text);
CREATE TABLE notes (word text);
CREATE TABLE "Said Aloud" (word text);
CREATE TABLE silent (id int PRIMARY KEY);
ALTER TABLE silent REPLICA IDENTITY NOTHING;
CREATE TABLE indexed (id int PRIMARY KEY, code text NOT NULL);
CREATE UNIQUE INDEX codes ON indexed (code);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX codes;
CREATE TABLE full_before (word text);
ALTER TABLE full_before REPLICA IDENTITY FULL;
INSERT INTO orders VALUES (1, 'one');
INSERT INTO notes VALUES ('first');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The superuser's DSN of a separate server, because roles and slots belong to the whole server."""
    with postgres_server(15) as dsn:
        yield dsn


@pytest.fixture
def home() -> Iterator[Stack]:
    with fresh_stack() as stack:
        yield stack


def run(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def as_role(dsn: str, role: str, password: str) -> str:
    return re.sub(r"//[^@]*@", f"//{role}:{password}@", dsn)


def identities(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        return dict(
            connection.execute(
                "SELECT relname::text, relreplident::text FROM pg_class "
                "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            ).fetchall()
        )


def make_slot(stack: Stack, dsn: str) -> None:
    """Like the connector's first start."""
    password = stack.settings.secret("capture_password")
    with psycopg.connect(as_role(dsn, "headwater_capture", password), autocommit=True) as role:
        role.execute("SELECT pg_create_logical_replication_slot('headwater', 'pgoutput')")


@pytest.fixture
def shop(server: str) -> Iterator[str]:
    """The superuser's DSN of a database with tables; the remains of a failed test are dropped with it."""
    with fresh_database(server) as dsn:
        run(dsn, TABLES)
        try:
            yield dsn
        finally:
            run(
                server,
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE NOT active",
            )
            for role in ("headwater_capture", "second_capture"):
                _drop_role(dsn, role)


def _drop_role(dsn: str, role: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchall():
            name = sql.Identifier(role)
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def name_service(folder: Path, dsn: str) -> dict[str, str]:
    """Write a service file and a password file for a database. Returns: the variables that name them."""
    given = conninfo_to_dict(dsn)
    place = ":".join(str(given[key]) for key in ("host", "port", "dbname", "user"))
    passwords, services = folder / "pgpass", folder / "services"
    passwords.write_text(f"{place}:{given['password']}\n")
    passwords.chmod(0o600)
    lines = [f"{key}={given[key]}" for key in ("host", "port", "dbname", "user")]
    # Each is translated for the connector's driver, which would not start otherwise.
    lines += ["connect_timeout=9", "channel_binding=prefer", "require_auth=scram-sha-256"]
    lines += ["target_session_attrs=read-write", "options=-c work_mem=8MB"]
    services.write_text("\n".join(["[shop]", *lines]) + "\n")
    return {"PGPASSFILE": str(passwords), "PGSERVICEFILE": str(services)}


def test_a_database_named_by_a_service_is_captured_and_as_it_was_after_down_and_detach(
    shop: str, home: Stack, tmp_path: Path
) -> None:
    before = catalog_of(shop)
    home.environment |= name_service(tmp_path, shop)
    home.up("--source", "service=shop", "--apply", "--only", "capture")
    assert (home.home / "settings.toml").stat().st_mode & 0o077 == 0
    run(shop, "INSERT INTO orders VALUES (2, 'two'); INSERT INTO notes VALUES ('second')")
    run(shop, "CREATE TABLE later (id int PRIMARY KEY); ALTER TABLE orders ADD COLUMN more int")
    until(
        lambda: [event["after"]["id"] for event in events(home, "public.orders")],
        lambda ids: ids == [1, 2],
        within_s=180,
        what="snapshot and stream through what the service names",
    )
    refused = home.run("detach", "--apply", expect=1)
    assert "a stack still uses this source" in refused.stderr
    with fresh_stack() as elsewhere:  # it gets all information from the server
        refused = elsewhere.run("detach", "--source", shop, "--apply", expect=1)
        assert "read by process" in refused.stderr
        assert "headwater_capture" in refused.stderr
    run(shop, "DROP TABLE later; ALTER TABLE orders DROP COLUMN more")
    said = home.run("down", "--wipe", "--yes", timeout_s=300).stderr
    assert "keeps WAL" in said
    command = re.search(r"\./headwater (detach --source .* --apply)", said)
    assert command is not None
    assert str(conninfo_to_dict(shop)["password"]) not in said
    assert catalog_of(shop) != before
    done = home.run(*shlex.split(command.group(1)))  # PGPASSFILE has the password
    assert done.stdout == ""
    assert catalog_of(shop) == before
    again = home.run("detach", "--source", "service=shop", "--apply")
    assert "nothing to remove" in again.stderr


def test_the_printed_sql_does_the_same_and_printing_changes_nothing(shop: str, home: Stack) -> None:
    before = catalog_of(shop)
    home.run("preflight", "--source", shop, "--apply")
    make_slot(home, shop)
    assert identities(shop) == {
        "orders": "d", "notes": "f", "Said Aloud": "f", "silent": "d", "indexed": "d",
        "full_before": "f",
    }  # fmt: skip
    prepared = catalog_of(shop)
    shown = home.run("detach", "--source", shop)
    assert catalog_of(shop) == prepared
    run(shop, shown.stdout)
    assert catalog_of(shop) == before
    assert home.run("detach", "--source", shop).stdout == ""


def test_an_owner_is_given_the_sql_that_only_a_superuser_may_run(server: str, home: Stack) -> None:
    run(server, "CREATE ROLE shop_owner LOGIN PASSWORD 'owner'")
    try:
        with fresh_database(server) as root:
            name = sql.Identifier(root.rpartition("/")[2])
            run(server, sql.SQL("ALTER DATABASE {} OWNER TO shop_owner").format(name).as_string())
            owner = as_role(root, "shop_owner", "owner")
            run(owner, TABLES)
            before = catalog_of(root)
            password = sql.Literal(home.settings.secret("capture_password"))
            role = from_file("role", role=sql.Identifier("headwater_capture"), password=password)
            for statement in role:
                assert statement.run is not None
                run(root, statement.run.as_string())
            home.run("preflight", "--source", owner, "--apply")
            make_slot(home, owner)
            ended = home.run("detach", "--source", owner, "--apply", expect=1)
            assert "DROP ROLE" in ended.stdout
            assert "pg_drop_replication_slot" in ended.stdout
            assert "ALTER TABLE" not in ended.stdout
            run(root, ended.stdout)
            assert catalog_of(root) == before
    finally:
        run(server, "DROP ROLE shop_owner")


def test_a_record_that_an_earlier_version_did_not_keep_is_said_to_be_missing(
    shop: str, home: Stack
) -> None:
    home.run("preflight", "--source", shop, "--apply")
    run(shop, "DROP TABLE headwater.replica_identities")
    ended = home.run("detach", "--source", shop, "--apply")
    assert "which kept no record" in ended.stderr
    for table in ("public.notes", 'public."Said Aloud"', "public.full_before"):
        assert table in ended.stderr
    assert identities(shop)["notes"] == "f"


def test_what_another_stack_and_another_publication_need_stays(
    shop: str, home: Stack, tmp_path: Path
) -> None:
    home.run("preflight", "--source", shop, "--apply")
    profile = tmp_path / "second.toml"
    profile.write_text(
        'slot_name = "second"\npublication_name = "second"\ncapture_role = "second_capture"\n'
    )
    run(shop, "CREATE PUBLICATION own FOR TABLE notes")
    with fresh_stack() as second:
        given = ("--source", shop, "--profile", str(profile))
        second.run("preflight", *given, "--apply")
        ended = home.run("detach", "--source", shop, "--apply")
        assert "tables of another stack" in ended.stderr
        second.run("preflight", *given)  # nothing of it is missing
        assert identities(shop)["notes"] == "f"  # otherwise an UPDATE would fail
        names = ("--slot", "second", "--publication", "second", "--role", "second_capture")
        ended = second.run("detach", "--source", shop, *names, "--apply")
    assert "own publishes it too; it was DEFAULT" in ended.stderr
    found = identities(shop)
    assert (found["notes"], found["Said Aloud"], found["silent"]) == ("f", "d", "n")
    run(shop, "UPDATE notes SET word = 'changed'; DROP PUBLICATION own")
    home.run("detach", "--source", shop, "--apply")
    assert identities(shop)["notes"] == "d"
    assert ("headwater",) not in {row[:1] for row in catalog_of(shop)["schemas"]}


def test_an_identity_that_its_owner_set_later_is_what_it_goes_back_to(
    shop: str, home: Stack
) -> None:
    home.run("preflight", "--source", shop, "--apply")
    run(shop, "ALTER TABLE indexed REPLICA IDENTITY NOTHING")
    home.run("preflight", "--source", shop, "--apply")
    run(shop, "ALTER TABLE silent REPLICA IDENTITY FULL")
    home.run("detach", "--source", shop, "--apply")
    found = identities(shop)
    assert (found["indexed"], found["silent"]) == ("n", "f")


def test_a_role_with_rights_in_another_database_stays_until_that_is_left(
    shop: str, server: str, home: Stack
) -> None:
    home.run("preflight", "--source", shop, "--apply")
    with fresh_database(server) as other:
        run(other, "CREATE TABLE held (id int); GRANT SELECT ON held TO headwater_capture")
        ended = home.run("detach", "--source", shop, "--apply")
        assert other.rpartition("/")[2] in ended.stderr
        home.run("detach", "--source", other, "--apply")
    assert "headwater_capture" not in {row[0] for row in catalog_of(shop)["roles"]}


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_table_of_yours_in_the_schema_and_a_role_of_yours_stay(shop: str, home: Stack) -> None:
    home.run("preflight", "--source", shop, "--apply")
    run(shop, "CREATE TABLE headwater.mine (id int); INSERT INTO headwater.mine VALUES (7)")
    run(shop, "CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO headwater_capture")
    ended = home.run("detach", "--source", shop, "--apply")
    assert "not Headwater's: mine" in ended.stderr
    assert "it owns table public.owned" in ended.stderr
    assert rows(shop, "SELECT id FROM headwater.mine") == [(7,)]
