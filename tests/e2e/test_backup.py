"""A stack is backed up under load, its home is lost, and it comes back from the backup and the source alone."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.environment.restored import read_restored
from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.incident_rows import Incident
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.bronze import bronze
from tests.support.postgres_server import postgres_server
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 300.0
ROWS = 3_000
PASSING = 5_000_000
TABLES = ("kept", "loose", "emptied")
SERVICES = ("--only", "capture", "silver")

pytestmark = pytest.mark.timeout(1_500)


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with postgres_server(15) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for table in TABLES:
                key = "" if table == "loose" else "PRIMARY KEY"
                connection.execute(f"CREATE TABLE {table} (id int {key}, n int)".encode())
                connection.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL".encode())
                rows = f"SELECT i, i % 7 FROM generate_series(1, {ROWS}) i"
                connection.execute(f"INSERT INTO {table} {rows}".encode())
        yield dsn


@pytest.fixture(scope="module")
def lost(
    source: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any], Path]]:
    """A backup that was made under load, and its answer; the home was lost afterwards, with newer changes."""
    place = tmp_path_factory.mktemp("backup") / "of-stack"
    with fresh_stack() as stack:
        stack.up("--source", source, "--apply", *SERVICES)
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        killed_backup(stack, place)
        with writing(source, 1_000_000):
            first = stack.answer("backup", str(place), timeout_s=WITHIN_S)
            second = stack.answer("backup", str(place), timeout_s=WITHIN_S)
        assert 0 < second["copied_objects"] < first["copied_objects"]
        assert second["backup"] != first["backup"]
        secrets = (stack.home / "secrets.json").read_bytes()
        with psycopg.connect(source, autocommit=True) as connection:
            # Silver of the backup has these rows; no event tells the new home that they are gone.
            for table in ("kept", "loose"):
                connection.execute(f"DELETE FROM {table} WHERE id % 3 = 0".encode())
            connection.execute("DELETE FROM emptied")
            connection.execute("ALTER TABLE kept ADD COLUMN late text DEFAULT 'late'")
        lose(stack)
        with psycopg.connect(source, autocommit=True) as connection:
            # A row that only its events show: the slot has them.
            connection.execute(f"INSERT INTO kept VALUES ({PASSING}, 1)".encode())
            connection.execute(f"DELETE FROM kept WHERE id = {PASSING}".encode())
    kept = place.parent / "secrets"
    kept.write_bytes(secrets)
    yield place, second, kept


def killed_backup(stack: Stack, place: Path) -> None:
    """Kill a first backup after some objects; it is no backup yet."""
    with stack.start("backup", str(place)) as command:
        until(
            lambda: len(list(place.rglob("objects/*/*"))) > 20,
            within_s=WITHIN_S,
            what="some objects copied",
            every_s=0.01,
        )
        command.kill()
        command.communicate()
    ended = stack.run("restore", str(place), "--check", expect=1)
    assert "there is no whole backup" in ended.stderr


def lose(stack: Stack) -> None:
    """Stop a stack for good, and remove its home."""
    stack.run("down", timeout_s=WITHIN_S)
    shutil.rmtree(stack.home)
    stack.home.mkdir()


def events_of(stack: Stack, topic: str, row: int) -> list[str]:
    """The operations of a row's events in bronze."""
    values = [kept.value for _, kept in bronze(stack.settings, "bronze", f"{topic}/") if kept.value]
    payloads = [json.loads(value) for value in values]
    found = [one.get("payload", one) for one in payloads]
    images = [(one["op"], one.get("after") or one.get("before") or {}) for one in found]
    return [op for op, image in images if image.get("id") == row]


@contextmanager
def writing(dsn: str, first: int) -> Iterator[None]:
    """Insert, update and delete rows without a pause, in a thread; new rows are numbered from `first` on."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            number = first
            while not stop.wait(0.02):
                number += 1
                for table in ("kept", "loose"):
                    connection.execute(f"INSERT INTO {table} VALUES ({number}, 1)".encode())
                    among = f"id = {number % ROWS}"
                    connection.execute(f"UPDATE {table} SET n = n + 1 WHERE {among}".encode())
                    connection.execute(f"DELETE FROM {table} WHERE id = {number - 9}".encode())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def gaps(stack: Stack) -> list[Incident]:
    log = IncidentLog(Lakehouse(stack.settings).lake)
    log.refresh()
    return log.incidents(kind="gap")


@pytest.mark.slow  # two stacks, minutes
def test_a_lost_home_is_back_from_its_backup_and_the_source(
    source: str, lost: tuple[Path, dict[str, Any], Path]
) -> None:
    place, made, secrets = lost
    with fresh_stack() as stack:
        restored = stack.answer("restore", str(place), timeout_s=WITHIN_S)
        assert restored["objects"] == made["objects"] and restored["topic_prefix"] == "hw2"
        assert (stack.home / "secrets.json").read_bytes() == secrets.read_bytes()
        private = ("secrets.json", "settings.toml", "restored.json")
        assert {(stack.home / name).stat().st_mode & 0o777 for name in private} == {0o600}
        with writing(source, 2_000_000):
            up = stack.run("up", "--no-dashboards", *SERVICES, timeout_s=600)
        assert "bronze may lack changes between the two" in up.stderr
        [gap] = until(
            lambda: gaps(stack),
            lambda found: bool(found) and not found[-1].open,
            within_s=WITHIN_S,
            what="all tables read again",
            every_s=1,
        )
        assert gap.lsn_from is not None and gap.lsn_to is not None and gap.lsn_from < gap.lsn_to
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute("UPDATE kept SET late = 'new' WHERE id < 10")
            connection.execute("INSERT INTO emptied VALUES (1, 1)")
            connection.execute("INSERT INTO loose SELECT * FROM loose WHERE id < 10")
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        stack.run("verify", "--bronze", timeout_s=WITHIN_S)
        assert events_of(stack, "hw2.public.kept", PASSING) == ["c", "d"]
        stack.run("rebuild", "kept", "loose", timeout_s=WITHIN_S)
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        noted = read_restored(stack.home)
        assert noted is not None and noted.complete and noted.announced


def test_a_backup_and_its_secrets_are_readable_by_their_owner_only(
    lost: tuple[Path, dict[str, Any], Path],
) -> None:
    place, made, _ = lost
    assert made["secrets"] == "readable by you only"
    assert place.stat().st_mode & 0o777 == 0o700
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Change one byte of a file, and change it back at the end."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        yield
    finally:
        path.write_bytes(content)


def test_one_changed_byte_of_a_backup_is_refused_before_anything_is_written(
    lost: tuple[Path, dict[str, Any], Path], tmp_path: Path
) -> None:
    place, _, _ = lost
    stack = Stack(tmp_path / "home", 0)
    some = max((place / "objects").rglob("*"), key=lambda path: path.stat().st_size)
    for path in (some, place / "manifest.json"):
        with damaged(path):
            for words in ([], ["--check"]):
                ended = stack.run("restore", str(place), *words, expect=1)
                assert "is damaged; nothing was restored" in ended.stderr
                assert path.name in ended.stderr
        assert not stack.home.exists()
    assert stack.answer("restore", str(place), "--check")["checksums"] == "right"


def test_a_used_home_is_not_restored_into(
    lost: tuple[Path, dict[str, Any], Path], tmp_path: Path
) -> None:
    place, _, _ = lost
    stack = Stack(tmp_path, 0)
    (tmp_path / "settings.toml").write_text('topic_prefix = "mine"\n')
    ended = stack.run("restore", str(place), expect=1)
    assert f"the home {tmp_path} is not empty" in ended.stderr
    assert (tmp_path / "settings.toml").read_text() == 'topic_prefix = "mine"\n'


@pytest.mark.slow
def test_a_new_home_takes_over_the_lake_of_a_lost_one_and_none_mixes_the_two(
    source: str, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.toml"
    with fresh_stack() as owner, fresh_stack() as stack, fresh_stack() as other:
        owner.up("--only", "s3")
        secret = owner.settings.secret
        profile.write_text(
            f's3_endpoint = "{owner.settings.store.endpoint}"\n'
            f's3_access_key = "{secret("s3_access_key")}"\n'
            f's3_secret_key = "{secret("s3_secret_key")}"\n'
            f'source_dsn = "{source}"\nslot_name = "taken"\npublication_name = "taken"\n'
            'capture_role = "taken"\napply = true\n'
        )
        stack.up("--profile", str(profile), *SERVICES)
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        other.run("restore", "--from-bucket", "--profile", str(profile))
        living = other.run("up", "--no-dashboards", *SERVICES, timeout_s=600, expect=1)
        assert "another stack reads the replication slot `taken`" in living.stderr
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        lose(stack)
        refused = stack.run("up", "--profile", str(profile), *SERVICES, timeout_s=600, expect=1)
        assert "holds the lake of another home" in refused.stderr
        assert not (stack.home / "data").exists()
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute("DELETE FROM kept WHERE id % 5 = 0")
            connection.execute("DELETE FROM loose WHERE id % 5 = 0")
        with writing(source, 3_000_000):
            up = other.run("up", "--no-dashboards", *SERVICES, timeout_s=600)
        assert "the replication slot `taken` has every change from" in up.stderr
        assert other.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        assert other.settings.topic_prefix == "hw2"
