"""A stack whose parts reach each other under TLS (`profiles/secure.toml`)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import certifi
import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.support.stack import ROOT, Stack, fresh_stack

SOON_S = 300.0  # after a kill of Kafka the connector waits for its old transaction, and the machine may be slow
FIRST = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    before = dict(os.environ)  # the home's settings make this process trust its authority
    try:
        with fresh_stack() as fresh:
            profile = str(ROOT / "profiles" / "secure.toml")
            fresh.up("--profile", profile, "--only", "tables", "silver", "capture")
            yield fresh
    finally:
        os.environ.clear()
        os.environ.update(before)


def port_of(stack: Stack, name: str) -> tuple[str, int]:
    return "127.0.0.1", stack.settings.ports.number(name)


def test_an_edited_row_is_in_trinos_answer_and_silver_equals_the_source(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("UPDATE movies SET title = 'Under TLS' WHERE movie_id = 1")
    title = "SELECT title FROM silver.movies WHERE movie_id = 1"
    stack.await_answer(title, [("Under TLS",)], within_s=SOON_S)
    assert {row["verdict"] for row in stack.verify()} == {"equal"}
    stack.run("verify", "--bronze", timeout_s=300)
    *_, edited, now = stack.answer("trace", "movies", "1", "--seconds", "60")
    assert edited["bronze"] and edited["data_file"]
    assert now["row"]["title"] == "Under TLS"


@pytest.mark.parametrize("service", ["kafka", "s3", "connect", "trino"])
def test_a_server_shows_a_certificate_of_the_stacks_authority_and_answers_nothing_without_tls(
    stack: Stack, service: str
) -> None:
    own = ssl.create_default_context(cafile=str(stack.home / "tls" / "ca.pem"))
    with (
        socket.create_connection(port_of(stack, service), 10) as plain,
        own.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        assert (encrypted.version() or "") >= "TLSv1.2"
    with (
        socket.create_connection(port_of(stack, service), 10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        other = ssl.create_default_context(cafile=certifi.where())
        other.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(port_of(stack, service), 10) as plain:
        plain.settimeout(10)
        plain.sendall(FIRST)
        try:
            answer = plain.recv(4096)
        except OSError:
            answer = b""
    assert b" 200 " not in answer and b"403" not in answer and b"401" not in answer


def test_postgres_lets_nobody_in_without_tls(stack: Stack) -> None:
    dsn = stack.settings.source_dsn
    assert "sslmode=verify-full" in dsn
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(dsn.replace("sslmode=verify-full", "sslmode=disable"))


def test_kafka_lets_nobody_in_without_the_password(stack: Stack) -> None:
    options = {**stack.settings.kafka.options, "sasl_plain_password": "a guess"}
    with pytest.raises(KafkaError):
        KafkaAdminClient(**options, bootstrap_timeout_ms=5_000, request_timeout_ms=5_000)


def test_keys_are_closed_and_no_secret_is_in_a_log(stack: Stack) -> None:
    keys = [*stack.home.glob("tls/*"), *stack.home.glob("run/*/tls/*")]
    assert {path.name for path in keys} >= {"ca.key", "ca.pem", "both.pem", "keystore.p12"}
    private = [path for path in keys if path.suffix in (".key", ".p12") or path.name == "both.pem"]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
    secrets = [
        stack.settings.secret(name)
        for name in ("kafka_password", "kafka_broker_password", "keystore_password")
    ]
    for log in stack.home.glob("run/*/*.log"):
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
        assert "PRIVATE KEY" not in text, log


def test_a_service_that_is_killed_comes_back_with_the_key_that_it_had(stack: Stack) -> None:
    kept = {path: path.read_bytes() for path in stack.home.glob("run/*/tls/certificate.pem")}
    for service in ("kafka", "connect"):
        stack.kill(service)
    with stack.source() as source:
        source.execute("UPDATE movies SET title = 'After a kill' WHERE movie_id = 1")
    title = "SELECT title FROM silver.movies WHERE movie_id = 1"
    stack.await_answer(title, [("After a kill",)], within_s=SOON_S)
    assert {path: path.read_bytes() for path in kept} == kept
    assert {row["verdict"] for row in stack.verify()} == {"equal"}
