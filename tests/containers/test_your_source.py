"""Containers capture a user's Postgres on this machine instead of the demo store."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from tests.containers.project import OFFICIAL, PATIENCE_S, Containers, is_healthy
from tests.support.waiting import until

IMAGE = "postgres:15.18-bookworm" if OFFICIAL else "headwater-test/postgres"
# Not by the official image's entry point, which the image made here lacks.
SERVE = """
set -eu
cd /tmp
bin=/usr/lib/postgresql/15/bin
printf %s "$OWNER_PASSWORD" > password
"$bin/initdb" -D cluster --username=owner --pwfile=password --auth=scram-sha-256 \\
  --encoding=UTF8
echo 'host all all 0.0.0.0/0 scram-sha-256' >> cluster/pg_hba.conf
exec "$bin/postgres" -D cluster -c listen_addresses="$ADDRESS" -c port="$PORT" \\
  -c wal_level=logical -c unix_socket_directories=/tmp
"""

pytestmark = pytest.mark.timeout(3_600)


@contextmanager
def postgres(containers: Containers) -> Iterator[tuple[str, str]]:
    """A Postgres that listens on an address that Docker's networks can reach, like a user's.

    Yields: the DSN from this machine, and the one from a container.
    """
    form = "{{(index .IPAM.Config 0).Gateway}}"
    address = containers.docker("network", "inspect", "bridge", "--format", form).strip()
    with closing(socket.socket()) as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    password = secrets.token_hex(16)
    name = f"{containers.project}-your-source"
    given = {"OWNER_PASSWORD": password, "ADDRESS": address, "PORT": str(port)}
    variables = [f"--env={key}={value}" for key, value in given.items()]
    containers.docker(
        "run", "--detach", "--name", name, "--network=host", "--user=postgres", *variables,
        "--entrypoint=bash", IMAGE, "-c", SERVE,
    )  # fmt: skip
    try:
        here = f"postgresql://owner:{password}@{address}:{port}"
        until(
            lambda: answer(f"{here}/postgres"),
            within_s=PATIENCE_S,
            what="an answer of the Postgres of one's own",
            every_s=0.5,
        )
        with psycopg.connect(f"{here}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        there = f"postgresql://owner:{password}@host.docker.internal:{port}"
        yield f"{here}/shop", f"{there}/shop"
    finally:
        containers.docker("rm", "--force", "--volumes", name)


def answer(dsn: str) -> bool:
    """Whether the server accepts a connection; raises its error if not."""
    with psycopg.connect(dsn, connect_timeout=5):
        return True


def test_your_own_database_is_captured_and_the_demo_store_is_not_started(
    project: Containers,
) -> None:
    project.down()  # if other files have started it, because both have the same ports
    yours = project.beside()
    with postgres(yours) as (here, there):
        try:
            with psycopg.connect(here, autocommit=True) as source:
                source.execute(
                    "CREATE TABLE parts (id int PRIMARY KEY, name text, price numeric(10, 2))"
                )
                source.execute("CREATE TABLE moves (part int, moved_at timestamptz, amount int)")
                source.execute("ALTER TABLE moves REPLICA IDENTITY FULL")
                source.execute(
                    "INSERT INTO parts SELECT i, 'part ' || i, i * 1.25 FROM generate_series(1, 500) i"
                )
                source.execute("INSERT INTO moves SELECT 7, now(), i FROM generate_series(1, 20) i")
                yours.up("--source", there, "--apply")
                assert f"HEADWATER_SOURCE_DSN={there}" in (yours.home / "docker.env").read_text()
                source.execute("UPDATE parts SET name = 'repaired' WHERE id = 7")
                source.execute("DELETE FROM moves WHERE amount > 10")
                until(
                    lambda: yours.query("SELECT name FROM silver.parts WHERE id = 7"),
                    lambda rows: rows == [("repaired",)],
                    within_s=PATIENCE_S,
                    what="the edit of one's own database in Trino",
                )
            verdicts = {row["table"]: row["verdict"] for row in yours.verify(timeout_s=PATIENCE_S)}
            assert verdicts == {"parts": "equal", "moves": "equal"}
            assert_the_demo_store_idles(yours)
        finally:
            yours.remove()


def assert_the_demo_store_idles(yours: Containers) -> None:
    """The embedded source's container sleeps, nothing seeds it, and none of its tables is in the lake."""
    assert is_healthy(yours.state("postgres"))
    assert "sleep infinity" in yours.docker("top", yours.container("postgres"))
    assert "left out" in yours.run("logs", "store").stdout
    tables = {row[0] for row in yours.query("SHOW TABLES FROM silver")}
    assert "movies" not in tables and {"parts", "moves"} <= tables
