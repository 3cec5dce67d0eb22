"""A user's own object store and Trino are checked before anything starts; buckets are created if allowed.

Another stack provides both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from app.environment.settings import Settings, load
from app.lake.object_store import examine
from tests.support.bronze import store as files_of
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until


@pytest.fixture(scope="module")
def owner() -> Iterator[Stack]:
    """The stack that runs the store, whose buckets are `bronze` and `lake`, and Trino."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3", "trino")
        yield fresh


def profile(owner: Stack, folder: Path, **other: str) -> Path:
    """A profile with the owner's store; `other` settings add to or replace the right ones."""
    secret = owner.settings.secret
    given = {
        "s3_endpoint": owner.settings.store.endpoint,
        "s3_access_key": secret("s3_access_key"),
        "s3_secret_key": secret("s3_secret_key"),
        **other,
    }
    path = folder / "profile.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    return path


def user(owner: Stack, folder: Path, **other: str) -> Settings:
    """A stack's settings that name the owner's store."""
    return load(folder / "home", profile(owner, folder, **other))


def names_in(owner: Stack, bucket: str) -> list[str]:
    selector = pafs.FileSelector(bucket, recursive=True, allow_not_found=True)
    return [info.path for info in files_of(owner.settings).get_file_info(selector)]


def test_a_store_that_serves_is_found_to_do_so_and_is_left_as_it_was(
    owner: Stack, tmp_path: Path
) -> None:
    found = examine(user(owner, tmp_path), apply=False)
    assert [one.status for one in found] == ["ok"] * 10
    assert [one.check for one in found[::5]] == ["bucket bronze", "bucket lake"]
    assert "PreconditionFailed" in found[1].observed
    assert names_in(owner, "lake") == []


def test_a_missing_bucket_is_told_with_its_command_and_made_with_apply(
    owner: Stack, tmp_path: Path
) -> None:
    settings = user(owner, tmp_path, lake_bucket="mine")
    [missing] = [one for one in examine(settings, apply=False) if one.status != "ok"]
    assert (missing.check, missing.status) == ("bucket mine", "missing")
    assert missing.remedy.startswith("aws s3api create-bucket --bucket mine --endpoint-url http://")
    made = examine(settings, apply=True)
    assert {one.status for one in made} == {"ok"}
    assert "was made" in [one.observed for one in made if one.check == "bucket mine"]
    assert {one.status for one in examine(settings, apply=False)} == {"ok"}


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        ({"s3_access_key": "nobody"}, "check s3_access_key in the profile"),
        ({"s3_secret_key": "wrong"}, "check s3_secret_key in the profile, and s3_region"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "is the store running, and is this its port?"),
    ],
)
def test_what_is_wrong_in_the_profile_is_named(
    owner: Stack, tmp_path: Path, other: dict[str, str], hint: str
) -> None:
    first = examine(user(owner, tmp_path, **other), apply=False)[0]
    assert (first.status, first.remedy) == ("missing", hint)
    assert owner.settings.secret("s3_secret_key") not in str(first)


def test_without_keys_nobody_is_asked(owner: Stack, tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(f's3_endpoint = "{owner.settings.store.endpoint}"\n')
    [found] = examine(load(tmp_path / "home", path), apply=False)
    assert (found.status, found.remedy) == ("missing", "put both keys into the profile")


def test_up_refuses_within_seconds_and_preflight_shows_the_store_without_a_source(
    owner: Stack, tmp_path: Path
) -> None:
    given = ("--profile", str(profile(owner, tmp_path, bronze_bucket="absent")))
    with fresh_stack() as fresh:
        refused = fresh.run("up", *given, timeout_s=60, expect=1)
        assert "is not ready to be used" in refused.stderr
        assert "bucket absent: is not there" in refused.stderr
        assert "create-bucket --bucket absent" in refused.stderr
        assert not (fresh.home / "run").exists()
        # The command ends with an error because the embedded source does not run, but first prints its findings.
        told = fresh.run("preflight", *given, "--format", "json", expect=1)
        rows = {row["check"]: row["status"] for row in json.loads(told.stdout)}
        assert (rows["bucket absent"], rows["bucket lake"]) == ("missing", "ok")
        assert "this stack is not running" in told.stderr


@pytest.mark.slow  # two stacks, minutes
def test_the_whole_chain_runs_on_both_and_leaves_the_buckets_when_wiped(
    owner: Stack, tmp_path: Path
) -> None:
    # The owner's rules allow this account to register tables.
    trino = owner.settings.trino_url
    trino_url = trino.replace("://", "://registrar@")
    buckets = {"bronze_bucket": "their-bronze", "lake_bucket": "their-lake"}
    assert {one.status for one in examine(user(owner, tmp_path, **buckets), apply=True)} == {"ok"}
    with fresh_stack() as fresh:
        fresh.up("--profile", str(profile(owner, tmp_path, **buckets, trino_url=trino_url)))
        assert {"s3", "trino"}.isdisjoint(fresh.status())
        assert json.loads(fresh.run("urls", "--format", "json").stdout)["trino"] == trino
        with fresh.source() as source:
            source.execute("CREATE TABLE elsewhere (id int PRIMARY KEY, place text)")
            source.execute("INSERT INTO elsewhere VALUES (1, 'Oslo'), (2, 'Rome'), (3, 'Lima')")
        fresh.await_tables("elsewhere")
        with fresh.source() as source, source.transaction():
            source.execute("UPDATE elsewhere SET place = 'Bergen' WHERE id = 1")
            source.execute("DELETE FROM elsewhere WHERE id = 2")
        statement = "SELECT id, place FROM silver.elsewhere ORDER BY id"
        until(
            lambda: fresh.query(statement) == [(1, "Bergen"), (3, "Lima")],
            within_s=120,
            what="the change in Trino, from the owner's store",
        )
        fresh.verify()
        fresh.run("verify", "--bronze", timeout_s=300)
        assert not (fresh.home / "data" / "s3").exists()
    assert any("elsewhere" in name for name in names_in(owner, "their-bronze"))
    assert any("elsewhere" in name for name in names_in(owner, "their-lake"))
