"""The message about an unreachable source never contains its password."""

from __future__ import annotations

import psycopg
import pytest

from app.errors import HeadwaterError
from app.source.database import address_of, connect, unreachable


def test_an_address_is_shown_without_its_password() -> None:
    address = address_of("postgresql://ann:s3cret@db.example:6543/shop?sslmode=require")
    assert str(address) == "ann@db.example:6543/shop"


@pytest.mark.parametrize(
    "dsn",
    ["not a dsn s3cret", "postgresql://ann:s3cr@et:x@db/shop", "postgresql://a:s3cret%zz@h/d"],
)
def test_a_malformed_address_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(HeadwaterError) as refused:
        address_of(dsn)
    assert "postgresql://user:password@host:5432/database" in refused.value.hint
    assert "cret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('FATAL:  password authentication failed for user "ann"', "the user and the password"),
        ('FATAL:  database "shop" does not exist', "the database and the user"),
        ("Connection refused", "the server is running"),
        ("no pg_hba.conf entry for host", "pg_hba.conf"),
        ("connection timeout expired", "firewall"),
        ("FATAL:  sorry, too many clients already", "max_connections"),
        ("server does not support SSL, but SSL was required", "sslmode"),
    ],
)
def test_each_way_to_be_unreachable_has_its_hint(said: str, hint: str) -> None:
    address = address_of("postgresql://ann:s3cret@db.example/shop")
    error = unreachable(address, psycopg.OperationalError(said), "s3cret")
    assert error.message == "cannot reach the source at ann@db.example:5432/shop"
    assert hint in error.hint


def test_a_password_that_the_driver_repeats_is_masked() -> None:
    address = address_of("postgresql://ann:s3cret@db.example/shop")
    error = unreachable(address, psycopg.OperationalError("bad option s3cret"), "s3cret")
    assert "s3cret" not in str(error)


def test_a_closed_port_is_told_within_the_time_limit() -> None:
    with pytest.raises(HeadwaterError) as refused:
        connect("postgresql://ann:s3cret@127.0.0.1:1/shop", application="test")
    assert refused.value.hint == "check that the server is running and that this is its port"
    assert "s3cret" not in str(refused.value)
