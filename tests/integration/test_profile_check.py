"""`profile check` on real services: a valid source and store, and each kind of failure."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from psycopg import sql

from app.environment.signed_in import without_user
from tests.support.postgres_server import free_port
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SECRET = "not the right one"


@pytest.fixture(scope="module")
def owner() -> Iterator[Stack]:
    """The stack whose services a profile names as the user's own."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3", "postgres", "connect", "trino")
        yield fresh


def checked(owner: Stack, folder: Path, *, expect: int, **other: str) -> list[dict[str, Any]]:
    secret = owner.settings.secret
    given = {
        "s3_endpoint": owner.settings.store.endpoint,
        "s3_access_key": secret("s3_access_key"),
        "s3_secret_key": secret("s3_secret_key"),
        **other,
    }
    path = folder / "own.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    other_home = Stack(folder / "home", 0)
    ended = other_home.run("profile", "check", str(path), "--format", "json", expect=expect)
    assert SECRET not in ended.stdout + ended.stderr
    assert secret("s3_secret_key") not in ended.stdout + ended.stderr
    return [dict(row) for row in json.loads(ended.stdout)]


def of(part: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["part"] == part]


@contextmanager
def receiver(folder: Path, *flags: str) -> Iterator[str]:
    """A Prometheus of the user's own, and its URL."""
    (folder / "receiver.yml").write_text("global: {}\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(shutil.which("prometheus")), f"--config.file={folder / 'receiver.yml'}",
        f"--storage.tsdb.path={folder / 'receiver'}", f"--web.listen-address=127.0.0.1:{port}", *flags,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(f"{url}/-/ready"), within_s=30, what="the receiver")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def missing(found: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in found if row["part"] == part and row["status"] == "missing"]


def test_parts_that_are_right_are_found_to_be_so(owner: Stack, tmp_path: Path) -> None:
    found = checked(owner, tmp_path, expect=0)
    assert {row["status"] for row in found if row["part"] == "store"} == {"ok"}
    assert sum("bronze" in row["check"] for row in found) >= 1


def test_a_wrong_key_is_told_with_the_setting_that_holds_it(owner: Stack, tmp_path: Path) -> None:
    found = missing(checked(owner, tmp_path, expect=1, s3_secret_key=SECRET), "store")
    assert found and all("s3_secret_key" in row["todo"] for row in found)


def test_a_bucket_that_is_missing_is_named(owner: Stack, tmp_path: Path) -> None:
    found = missing(checked(owner, tmp_path, expect=1, lake_bucket="elsewhere"), "store")
    assert any("elsewhere" in row["check"] + row["observed"] for row in found)


def test_a_wrong_password_of_the_source_is_told(owner: Stack, tmp_path: Path) -> None:
    good = owner.settings.source_dsn
    user, host = good.partition("://")[2].partition(":")[0], good.rpartition("@")[2]
    dsn = f"postgresql://{user}:{quote(SECRET)}@{host}"
    [found] = missing(checked(owner, tmp_path, expect=1, source_dsn=dsn), "source")
    assert "password" in found["observed"]


def test_what_a_role_lacks_is_told_with_the_sql_that_grants_it(
    owner: Stack, tmp_path: Path
) -> None:
    with psycopg.connect(owner.settings.source_dsn, autocommit=True) as source:
        source.execute("CREATE ROLE bare LOGIN PASSWORD 'bare'")
        source.execute("CREATE TABLE public.theirs (id int PRIMARY KEY)")
    dsn = f"postgresql://bare:bare@{owner.settings.source_dsn.rpartition('@')[2]}"
    found = missing(checked(owner, tmp_path, expect=1, source_dsn=dsn), "source")
    assert any("GRANT" in row["mend"].upper() for row in found)


def test_a_connect_cluster_with_the_connectors_is_found_to_be_right(
    owner: Stack, tmp_path: Path
) -> None:
    role, password = "headwater_capture", owner.settings.secret("capture_password")
    with owner.source() as source:
        source.execute(
            sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(
                sql.Identifier(role), password
            )
        )
    given = {"connect_url": owner.settings.connect_url, "capture_dsn": owner.settings.capture_dsn}
    found = of("connect", checked(owner, tmp_path, expect=0, **given))
    assert [(row["check"], row["status"]) for row in found] == [
        ("plugins", "ok"),
        ("connector source", "ok"),
        ("connector bronze", "ok"),
    ]


def test_a_wrong_password_at_connect_is_told(owner: Stack, tmp_path: Path) -> None:
    address = without_user(owner.settings.connect_url).removeprefix("http://")
    url = f"http://headwater:{quote(SECRET)}@{address}"
    [row] = missing(checked(owner, tmp_path, expect=1, connect_url=url), "connect")
    assert "status 401" in row["observed"] and "connect_url" in row["todo"]


def test_a_trino_that_lets_tables_be_registered_is_found_to_be_right(
    owner: Stack, tmp_path: Path
) -> None:
    url = owner.settings.trino_url.replace("://", "://registrar@")
    found = of("trino", checked(owner, tmp_path, expect=0, trino_url=url))
    assert [(row["check"], row["status"]) for row in found] == [
        ("log-in", "ok"),
        ("catalog lake", "ok"),
    ]


def test_a_trino_user_who_may_not_register_tables_is_told(owner: Stack, tmp_path: Path) -> None:
    url = owner.settings.trino_url.replace("://", "://analyst@")
    [row] = missing(checked(owner, tmp_path, expect=1, trino_url=url), "trino")
    assert row["check"] == "catalog lake"
    assert "Access Denied" in row["observed"] and "register-table-procedure" in row["todo"]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus on this machine")
@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--web.enable-remote-write-receiver"], "ok", "takes samples"),
        ([], "missing", "status 404"),
    ],
)
def test_a_receiver_of_remote_write_is_tried_without_a_sample(
    owner: Stack, tmp_path: Path, flags: list[str], status: str, words: str
) -> None:
    with receiver(tmp_path, *flags) as url:
        expect = 0 if status == "ok" else 1
        given = {"prometheus_remote_write_url": f"{url}/api/v1/write"}
        [row] = of("prometheus", checked(owner, tmp_path, expect=expect, **given))
    assert row["status"] == status and words in row["observed"]
