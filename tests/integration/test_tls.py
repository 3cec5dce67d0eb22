"""A source that accepts only encrypted sessions with a client certificate is captured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.certificates import make_certificates, needs_openssl
from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 180.0
pytestmark = needs_openssl


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[Stack]:
    """The embedded Postgres that accepts only sessions with a certificate of the root."""
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        cluster = stack.home / "data" / "postgres" / "cluster"
        owner = cluster.stat()
        for name in ("server.key", "server.crt", "root.crt"):
            copy = cluster / name
            shutil.copy(certificates / name, copy)
            copy.chmod(0o600)
            os.chown(copy, owner.st_uid, owner.st_gid)
        with stack.source() as source:
            for setting, value in (
                ("ssl_cert_file", "server.crt"),
                ("ssl_key_file", "server.key"),
                ("ssl_ca_file", "root.crt"),
                ("ssl", "on"),
            ):
                source.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
            source.execute("CREATE TABLE sealed (id int PRIMARY KEY)")
            source.execute("INSERT INTO sealed VALUES (1)")
            rules = stack.home / "run" / "postgres" / "pg_hba.conf"
            rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n")
            source.execute("SELECT pg_reload_conf()")
        until(
            lambda: _refused_in_clear(stack.settings.source_dsn),
            within_s=WITHIN_S,
            what="the server to refuse sessions in the clear",
        )
        yield stack


def _refused_in_clear(dsn: str) -> bool:
    try:
        psycopg.connect(f"{dsn}?sslmode=disable").close()
    except psycopg.OperationalError:
        return True
    return False


def sealed_dsn(server: Stack, certificates: Path) -> str:
    return (
        f"{server.settings.source_dsn}?sslmode=verify-full&sslrootcert={certificates}/root.crt"
        f"&sslcert={certificates}/client.crt&sslkey={certificates}/client.key"
    )


def test_a_source_that_wants_certificates_is_captured_over_encrypted_sessions(
    server: Stack, certificates: Path
) -> None:
    dsn = sealed_dsn(server, certificates)
    with fresh_stack() as stack:
        stack.up("--source", dsn, "--apply", "--only", "capture")
        with psycopg.connect(dsn, autocommit=True) as source:
            source.execute("INSERT INTO sealed VALUES (2)")
            until(
                lambda: [e["after"]["id"] for e in events(stack, "public.sealed")],
                lambda rows: rows == [1, 2],
                within_s=WITHIN_S,
                what="snapshot and stream over TLS",
            )
            sessions = source.execute(
                "SELECT DISTINCT s.ssl, s.client_dn FROM pg_stat_replication r "
                "JOIN pg_stat_ssl s USING (pid)"
            ).fetchall()
    assert sessions == [(True, "/CN=client")]


def test_a_server_that_another_root_vouches_for_is_not_trusted(
    server: Stack, certificates: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    dsn = sealed_dsn(server, certificates).replace(
        f"{certificates}/root.crt", f"{tmp_path}/root.crt"
    )
    with fresh_stack() as stack:
        told = stack.run("preflight", "--source", dsn, expect=1)
    assert "certificate verify failed" in told.stderr
    assert server.settings.secret("postgres_password") not in told.stdout + told.stderr
