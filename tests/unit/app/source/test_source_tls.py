"""A DSN's encryption in the connector's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.settings import load
from app.source.database import options_of
from app.source.tls import PASSWORD_VARIABLE, connector_tls, tls_problem

BASE = "postgresql://cap:s3cret@db.example/shop"
PKCS8, PKCS1 = "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\n"


def test_without_options_the_mode_is_libpqs_own_default() -> None:
    assert connector_tls(BASE) == {"database.sslmode": "prefer"}


def test_files_and_mode_reach_the_driver() -> None:
    dsn = f"{BASE}?sslmode=verify-full&sslrootcert=/c/root.crt&sslcert=/c/me.crt&sslkey=/c/me.key"
    assert connector_tls(dsn) == {
        "database.sslmode": "verify-full",
        "database.sslrootcert": "/c/root.crt",
        "database.sslcert": "/c/me.crt",
        "database.sslkey": "/c/me.key",
    }


def test_require_with_a_root_certificate_checks_it_as_libpq_does() -> None:
    found = connector_tls(f"{BASE}?sslmode=require&sslrootcert=/c/root.crt")
    assert found["database.sslmode"] == "verify-ca"
    assert connector_tls(f"{BASE}?sslmode=require")["database.sslmode"] == "require"


def test_the_systems_certificates_are_the_jres() -> None:
    assert connector_tls(f"{BASE}?sslrootcert=system") == {
        "database.sslmode": "verify-full",
        "database.sslfactory": "org.postgresql.ssl.DefaultJavaSSLFactory",
    }
    assert tls_problem(f"{BASE}?sslrootcert=system") == ""


def test_the_keys_password_travels_by_the_workers_environment(tmp_path: Path) -> None:
    dsn = f"{BASE}?sslkey=/c/me.p12&sslpassword=hush%21"
    found = connector_tls(dsn)
    assert found["database.sslpassword"] == f"${{env:{PASSWORD_VARIABLE}}}"
    assert "hush" not in str(found)
    environment = load(tmp_path, source_dsn=dsn, capture_dsn=dsn).environment()
    assert environment[PASSWORD_VARIABLE] == "hush!"


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert", "sslkey"])
def test_a_file_that_other_folders_cannot_find_is_told(option: str, tmp_path: Path) -> None:
    assert "give the whole path" in tls_problem(f"{BASE}?{option}=certs/file")
    absent = tmp_path / "absent"
    assert tls_problem(f"{BASE}?{option}={absent}") == f"{option}={absent}: no such file"


@pytest.mark.parametrize(
    "content, said",
    [
        (PKCS8, ""),
        ("\x30\x82der", ""),
        (PKCS1, "holds a RSA PRIVATE KEY"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "holds a ENCRYPTED PRIVATE KEY"),
    ],
)
def test_a_key_that_the_driver_cannot_read_is_told_with_the_command_that_converts_it(
    tmp_path: Path, content: str, said: str
) -> None:
    key = tmp_path / "me.key"
    key.write_text(content, encoding="latin-1")
    found = tls_problem(f"{BASE}?sslkey={key}")
    assert said in found
    assert bool(said) == (f"openssl pkcs8 -topk8 -nocrypt -in {key}" in found)


def test_a_key_store_is_left_to_the_driver(tmp_path: Path) -> None:
    store = tmp_path / "me.p12"
    store.write_bytes(b"-----whatever")
    assert tls_problem(f"{BASE}?sslkey={store}") == ""


def test_a_user_in_the_query_of_the_dsn_does_not_replace_the_capture_role(tmp_path: Path) -> None:
    dsn = "postgresql://db.example/shop?user=owner&sslmode=require&password=hers"
    found = options_of(load(tmp_path, source_dsn=dsn).capture_dsn)
    assert (found["user"], found["sslmode"], found["dbname"]) == (
        "headwater_capture",
        "require",
        "shop",
    )
    assert found["password"] != "hers"
