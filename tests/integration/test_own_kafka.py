"""A user's Kafka with TLS, SCRAM and rights: `profile check` prints the missing grants, and with them the stack works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import make_certificates, needs_openssl
from tests.support.own_kafka import PASSWORD, USER, OwnKafka, own_kafka
from tests.support.stack import Stack, fresh_stack

pytestmark = needs_openssl
WRONG = "not the right one"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's certificates and data; `root.crt` is its authority."""
    made = tmp_path_factory.mktemp("broker")
    make_certificates(made)
    return made


@pytest.fixture(scope="module")
def kafka(folder: Path) -> Iterator[OwnKafka]:
    with own_kafka(folder) as running:
        yield running


@pytest.fixture(scope="module")
def lakehouse(kafka: OwnKafka) -> Iterator[Stack]:
    """A stack without brokers; the user's broker outlives it."""
    with fresh_stack() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def profile(kafka: OwnKafka, folder: Path) -> Path:
    return _written(folder, kafka, folder / "root.crt")


def _written(folder: Path, kafka: OwnKafka, root: Path, **other: str) -> Path:
    given = {
        "kafka_address": kafka.address,
        "kafka_security": "SASL_SSL",
        "kafka_user": USER,
        "kafka_password": PASSWORD,
        "kafka_ca": str(root),
        **other,
    }
    path = folder / "own.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    return path


def checked(stack: Stack, path: Path, *, expect: int) -> list[dict[str, Any]]:
    """The part of `profile check` about Kafka, which must not contain a password."""
    ended = stack.run("profile", "check", str(path), "--format", "json", expect=expect)
    assert PASSWORD not in ended.stdout + ended.stderr
    assert WRONG not in ended.stdout + ended.stderr
    return [row for row in json.loads(ended.stdout) if row["part"] == "kafka"]


def missing(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["status"] == "missing"]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"kafka_password": WRONG}, "check kafka_user, kafka_password"),
        ({"kafka_mechanism": "PLAIN"}, "kafka_mechanism"),
        ({"kafka_ca": "/etc/hostname"}, "kafka_ca"),
        ({"kafka_security": "SSL"}, "kafka_security"),
    ],
)
def test_a_log_in_that_is_wrong_is_told_with_the_key_that_holds_it(
    lakehouse: Stack, kafka: OwnKafka, folder: Path, tmp_path: Path, change: dict[str, str], hint: str
) -> None:  # fmt: skip
    path = _written(tmp_path, kafka, folder / "root.crt", **change)
    [found] = missing(checked(lakehouse, path, expect=1))
    assert hint in found["todo"], found


def test_what_the_user_lacks_is_granted_by_the_commands_that_the_check_prints(
    lakehouse: Stack, kafka: OwnKafka, profile: Path
) -> None:
    lacking = missing(checked(lakehouse, profile, expect=1))
    assert {row["check"] for row in lacking} == {
        "topics hw.*", "topics __debezium-heartbeat.hw*", "topics headwater-connect-*", "group headwater-connect",
        "group connect-bronze", "transactions headwater-connect-*",
        "transactions connect-cluster-headwater-connect*",
    }  # fmt: skip
    noted = [row for row in checked(lakehouse, profile, expect=1) if row["status"] == "note"]
    assert {"brokers", "hanging transactions"} == {row["check"] for row in noted}
    for row in lacking + [row for row in noted if row["check"] == "hanging transactions"]:
        kafka.grant(row["todo"])
    found = checked(lakehouse, profile, expect=0)
    assert not missing(found)
    assert "is on 1 broker" in str(found)


def test_an_edited_row_reaches_trino_over_a_kafka_of_ones_own(
    lakehouse: Stack, kafka: OwnKafka, profile: Path
) -> None:
    lakehouse.up("--profile", str(profile))
    assert "kafka" not in lakehouse.status()
    with lakehouse.source() as source:
        source.execute("CREATE TABLE sealed (id int PRIMARY KEY, place text)")
        source.execute("INSERT INTO sealed VALUES (1, 'Oslo'), (2, 'Rome'), (3, 'Lima')")
    lakehouse.await_tables("sealed")
    with lakehouse.source() as source, source.transaction():
        source.execute("UPDATE sealed SET place = 'Bergen' WHERE id = 1")
        source.execute("DELETE FROM sealed WHERE id = 2")
    rows = [(1, "Bergen"), (3, "Lima")]
    lakehouse.await_answer("SELECT id, place FROM silver.sealed ORDER BY id", rows)
    assert [row["verdict"] for row in lakehouse.verify("sealed")] == ["equal"]


def test_the_password_is_in_no_log_and_no_connectors_configuration(lakehouse: Stack) -> None:
    logs = [path for path in lakehouse.home.glob("run/**/*.log") if path.is_file()]
    assert logs
    told = [str(path) for path in logs if PASSWORD in path.read_text(errors="replace")]
    assert told == []
