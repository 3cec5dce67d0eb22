"""Preflight runs nothing in a schema `headwater` that another role has prepared."""

from __future__ import annotations

import psycopg

from tests.support.postgres import fresh_database
from tests.support.stack import Stack

# Objects that a role with CREATE on the database can prepare for the superuser who later runs `--apply`.
TRAP = """
CREATE SCHEMA headwater AUTHORIZATION mallory;
SET ROLE mallory;
CREATE TABLE headwater.signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text);
CREATE FUNCTION headwater.trap() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN NEW; END $$;
CREATE TRIGGER trap BEFORE INSERT ON headwater.signal
  FOR EACH ROW EXECUTE FUNCTION headwater.trap();
RESET ROLE;
"""


def test_a_schema_prepared_by_another_role_is_refused_and_left_alone(source_server: Stack) -> None:
    with fresh_database(source_server.settings.source_dsn) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE ROLE mallory")
            try:
                connection.execute(TRAP)
                rows = source_server.checks("--source", dsn, "--apply", expect=1)
                assert rows["schema headwater"]["status"] == "missing"
                assert "mallory" in rows["schema headwater"]["observed"]
                assert connection.execute(
                    "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"
                ).fetchone() == (False,)
                assert connection.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)
                assert connection.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (
                    0,
                )
            finally:
                connection.execute("DROP OWNED BY mallory CASCADE")
                connection.execute("DROP ROLE mallory")
