"""Bronze is packed on the whole chain while it is written: every reader finds the same events, and an erasure its row."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest

from app.lake.lakehouse import Lakehouse
from spark_streaming.reading.bronze_names import packed_span
from tests.support.stack import Stack
from tests.support.waiting import until

TABLE = "packed_rows"
SECRET = "Beatriz"
ROUNDS = 3
SOON_S = 120.0


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    with stack.contract_files([TABLE]) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_bronze_is_packed_while_it_is_written_and_every_reader_finds_the_same(stack: Stack) -> None:
    with stack.source() as source:
        source.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text, n int)")
        source.execute(f"INSERT INTO {TABLE} VALUES (1, '{SECRET}', 0), (2, 'kept', 0)")
    stack.await_tables(TABLE)
    with updates(stack):
        for _ in range(ROUNDS):
            before = len(objects(stack))
            until(
                lambda before=before: len(objects(stack)) >= before + 5,  # type: ignore[misc]
                within_s=SOON_S,
                what="new objects of bronze",
            )
            [row] = compact(stack)
            assert row["packed"] >= 1 and row["joined"] >= 4, row
            assert row["deleted"] >= 4, row
    paths = objects(stack)
    assert sum(packed_span(path) is not None for path in paths) >= ROUNDS
    with stack.source() as source:
        source.execute(f"DELETE FROM {TABLE} WHERE id = 1")
        [(n,)] = source.execute(f"SELECT n FROM {TABLE} WHERE id = 2").fetchall()
    stack.await_answer(f"SELECT id, n FROM {TABLE}", [(2, n)])

    stack.run("verify", "--bronze", TABLE)
    stack.run("rebuild", TABLE, timeout_s=300)
    stack.await_answer(f"SELECT id, n FROM {TABLE}", [(2, n)])
    stack.verify(TABLE)
    versions = stack.answer("trace", TABLE, "2", "--limit", "100000", "--seconds", "60")
    assert versions[0]["event"] in ("insert", "snapshot") and "/archive/" in versions[0]["bronze"]
    assert len(versions) == n + 2  # each update, the first version and Trino's answer

    assert SECRET in contents(stack)
    stack.answer("erase", TABLE, "1", timeout_s=180)
    assert SECRET not in contents(stack)
    compact(stack)
    stack.run("verify", "--bronze", TABLE)
    stack.run("rebuild", TABLE, timeout_s=300)
    stack.await_answer(f"SELECT id, n FROM {TABLE}", [(2, n)])


@contextmanager
def updates(stack: Stack) -> Iterator[None]:
    """Update row 2 until the block ends."""
    ended = threading.Event()

    def run() -> None:
        with stack.source() as source:
            while not ended.wait(0.2):
                source.execute(f"UPDATE {TABLE} SET n = n + 1 WHERE id = 2")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(SOON_S)


def compact(stack: Stack) -> list[dict[str, int]]:
    said = stack.run(
        "bronze", "compact", TABLE, "--all", "--min-age", "0", "--keep-small", "0", "--format", "json",
        timeout_s=300,
    )  # fmt: skip
    found: list[dict[str, int]] = json.loads(said.stdout)
    return found


def objects(stack: Stack) -> list[str]:
    files = Lakehouse(stack.settings).bronze_files()
    topic = f"{stack.settings.topic_prefix}.public.{TABLE}"
    selector = pa_fs.FileSelector(topic, recursive=True, allow_not_found=True)
    return sorted(i.path for i in files.get_file_info(selector) if i.path.endswith(".jsonl.gz"))


def contents(stack: Stack) -> str:
    files = Lakehouse(stack.settings).bronze_files()
    found = []
    for path in objects(stack):
        with files.open_input_stream(path, compression=None) as stream:
            found.append(gzip.decompress(stream.read()).decode())
    return "".join(found)
