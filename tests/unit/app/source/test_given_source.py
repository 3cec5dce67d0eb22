"""The address of a source, as users write it and as services get it."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from app.environment.libpq_variables import NAMES, counting, password_places, remove_variables
from app.errors import HeadwaterError
from app.source.database import address_of, options_of, unreachable
from app.source.given_source import complete, holds_password
from app.source.jdbc_options import connector_options
from tests.support.command import headwater

# Port 1 is closed: libpq completes the address before it connects.
PLAIN = "postgresql://ann:s3cret@127.0.0.1:1/shop"
SECRET = "p@ss:w/rd %"
QUOTED = "p%40ss%3Aw%2Frd%20%25"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Write a password file and a service file. Returns: the variables that name them."""
    passwords = tmp_path / "pgpass"
    passwords.write_text("127.0.0.1:1:shop:ann:p@ss\\:w/rd %\n")
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(
        "[shop]\nhost=127.0.0.1\nport=1\ndbname=shop\nuser=ann\nsslmode=require\n"
        "[whole]\nhost=127.0.0.1\nport=1\ndbname=shop\nuser=bob\npassword=s3rvice\n"
        "connect_timeout=3\nkeepalives_idle=9\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    return {"PGPASSFILE": str(passwords), "PGSERVICEFILE": str(services)}


@pytest.mark.parametrize(
    ("given", "more", "dsn"),
    [
        (PLAIN, {}, PLAIN),
        ("host=127.0.0.1 port=1 user=ann dbname=shop password=s3cret", {}, PLAIN),
        ("postgresql://ann@127.0.0.1:1/shop", {}, f"postgresql://ann:{QUOTED}@127.0.0.1:1/shop"),
        ("service=shop", {}, f"postgresql://ann:{QUOTED}@127.0.0.1:1/shop?sslmode=require"),
        (
            "postgresql://?service=shop", {"PGPASSWORD": "other"},
            "postgresql://ann:other@127.0.0.1:1/shop?sslmode=require",
        ),
        (
            "service=whole", {},
            "postgresql://bob:s3rvice@127.0.0.1:1/shop?connect_timeout=3",
        ),
        (
            "postgresql://", {"PGSERVICE": "whole", "PGUSER": "ann", "PGSSLMODE": "disable"},
            "postgresql://bob:s3rvice@127.0.0.1:1/shop?sslmode=disable&connect_timeout=3",
        ),
        (
            "postgresql:///shop",
            {"PGHOST": "::1", "PGPORT": "1", "PGUSER": "eve", "PGOPTIONS": "-c work_mem=8MB"},
            "postgresql://eve@[::1]:1/shop?options=-c%20work_mem%3D8MB",
        ),
        (f"{PLAIN}?channel_binding=require&target_session_attrs=read-write", {},
         f"{PLAIN}?channel_binding=require&target_session_attrs=read-write"),
        (f"{PLAIN}?sslrootcert=system&sslmode=verify-full", {},
         f"{PLAIN}?sslmode=verify-full&sslrootcert=system"),
        ("hostaddr=127.0.0.1 port=1 user=ann dbname=shop password=s3cret", {}, PLAIN),
    ],
)  # fmt: skip
def test_an_address_is_completed_by_libpqs_own_rules(
    given: str, more: dict[str, str], dsn: str, files: dict[str, str]
) -> None:
    found = complete(given, files | more).dsn
    assert found == dsn
    assert complete(found, {}).dsn == dsn  # it no longer needs a file or a variable


@pytest.mark.parametrize(
    ("given", "more", "named"),
    [
        (f"{PLAIN}?sslcrl=/c/revoked", {}, "`sslcrl`"),
        (f"{PLAIN}?requirepeer=postgres", {}, "`requirepeer`"),
        (f"{PLAIN}?gssencmode=require", {}, "`gssencmode`"),
        (f"{PLAIN}?ssl_min_protocol_version=TLSv1.3", {}, "`ssl_min_protocol_version`"),
        (f"{PLAIN}?replication=database", {}, "`replication`"),
        (PLAIN, {"PGKRBSRVNAME": "other"}, "`krbsrvname`"),
        (f"{PLAIN}?target_session_attrs=standby", {}, "target_session_attrs=standby"),
        (f"{PLAIN}?connect_timeout=soon", {}, "connect_timeout=soon"),
        (f"{PLAIN}?sslmode=perhaps", {}, "perhaps"),
        ("postgresql://ann:s3cret@db.example/shop?hostaddr=127.0.0.1&port=1", {}, "`hostaddr`"),
        ("postgresql://ann:s3cret@127.0.0.1:1,127.0.0.2:1/shop", {}, "several hosts"),
        ("postgresql://ann:s3cret@/shop", {}, "names no host"),
        ("service=nowhere", {}, "the service `nowhere`"),
        (PLAIN, {"PGSERVICE": "nowhere"}, "the service `nowhere`"),
    ],
)
def test_what_not_every_session_could_keep_to_is_refused_by_name(
    given: str, more: dict[str, str], named: str, files: dict[str, str]
) -> None:
    with pytest.raises(HeadwaterError) as refused:
        complete(given, files | more)
    assert named in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_service_that_is_not_there_is_said_with_the_files_that_were_read(
    files: dict[str, str],
) -> None:
    with pytest.raises(HeadwaterError) as refused:
        complete("service=nowhere", files)
    assert files["PGSERVICEFILE"] in refused.value.detail
    with pytest.raises(HeadwaterError) as refused:
        complete("service=nowhere", {"PGSERVICEFILE": "/not/there"})
    assert "/not/there (not there)" in refused.value.detail


def test_what_headwater_sets_itself_is_named_once(files: dict[str, str]) -> None:
    assert "keepalives_idle" in " ".join(complete("service=whole", files).notes)
    assert complete(PLAIN, files).notes == ()


def test_certificates_of_the_users_home_are_named_for_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    (folder / "root.crt").write_text("")
    found = options_of(complete(f"{PLAIN}?sslmode=verify-full&sslcert=me.crt", {}).dsn)
    assert (found["sslrootcert"], found["sslcert"]) == (
        f"{folder}/root.crt", f"{tmp_path}/me.crt",
    )  # fmt: skip


def test_the_drivers_words_for_each_option_that_is_carried() -> None:
    options = (
        "connect_timeout=7&channel_binding=require&require_auth=scram-sha-256&sslnegotiation=direct"
        "&options=-c%20a%3Db&target_session_attrs=read-write"
    )
    assert connector_options(f"{PLAIN}?{options}") == {
        "database.connectTimeout": "7",
        "database.channelBinding": "require",
        "database.requireAuth": "scram-sha-256",
        "database.sslNegotiation": "direct",
        "database.options": "-c a=b",
        "database.targetServerType": "primary",
    }
    assert connector_options(PLAIN) == {}


def test_every_variable_of_libpq_is_known() -> None:
    known = {one.envvar.decode() for one in psycopg.pq.Conninfo.get_defaults() if one.envvar}
    assert known <= NAMES


def test_variables_of_the_shell_reach_no_other_session() -> None:
    environment = {"PGSERVICE": "nowhere", "PGSSLMODE": "verify-full", "PATH": "/bin"}
    remove_variables(environment)
    assert environment == {"PATH": "/bin"}
    with counting({"PGPORT": "7"}):
        assert os.environ["PGPORT"] == "7"
    assert "PGPORT" not in os.environ


@pytest.mark.parametrize(
    ("mode", "text"), [(0o600, "no line"), (0o644, "chmod 600"), (None, "not there")]
)
def test_without_a_password_each_place_is_named_and_how_it_stands(
    mode: int | None, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "pgpass"
    if mode is not None:
        path.write_text("else:*:*:*:s3cret\n")
        path.chmod(mode)
    said = password_places({"PGPASSFILE": str(path)})
    assert str(path) in said and text in said and "PGPASSWORD (not set)" in said
    error = unreachable(
        address_of(PLAIN), psycopg.OperationalError("fe_sendauth: no password supplied")
    )
    assert "PGPASSWORD" in error.hint
    assert "s3cret" not in said + str(error)


def test_a_password_in_an_address_is_seen() -> None:
    assert holds_password(PLAIN) and holds_password(f"{PLAIN}?sslpassword=x")
    assert not holds_password("postgresql://ann@h/db") and not holds_password("service=whole")


def test_each_way_to_give_a_source_leads_there_and_only_the_command_line_is_warned_of(
    tmp_path: Path, files: dict[str, str]
) -> None:
    reached = "cannot reach the source at ann@127.0.0.1:1/shop"
    ways = {
        "variable": headwater("preflight", home=tmp_path, HEADWATER_SOURCE_DSN=PLAIN),
        "stdin": headwater("preflight", "--source", "-", home=tmp_path, said=f"{PLAIN}\n"),
        "service": headwater("preflight", "--source", "service=shop", home=tmp_path, **files),
        "command line": headwater("preflight", "--source", PLAIN, home=tmp_path),
    }
    for way, ended in ways.items():
        assert ended.returncode == 1 and reached in ended.stderr, (way, ended.stderr)
        assert "s3cret" not in ended.stdout + ended.stderr
        assert ("on a command line" in ended.stderr) == (way == "command line"), way
        assert ("shop, from HEADWATER_SOURCE_DSN" in ended.stderr) == (way == "variable"), way
    nothing = headwater("preflight", "--source", "-", home=tmp_path, said="")
    assert "nothing came" in nothing.stderr


def test_a_profiles_address_is_completed_too(tmp_path: Path, files: dict[str, str]) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text('source_dsn = "service=shop"\n')
    ended = headwater("preflight", "--profile", str(profile), home=tmp_path, **files)
    assert "cannot reach the source at ann@127.0.0.1:1/shop" in ended.stderr
