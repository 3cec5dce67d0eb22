"""`erase` on the whole chain: a deleted row's data is nowhere any more, and everything else is as it was."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pyarrow.parquet as parquet
import pytest

from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
TABLES = ("forgotten", "forgotten_bag")
PERSON = "Ana Moreira"
CONTRACT = 'history = "each"\n[columns.v]\nmin = 0\n'


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    with stack.contract_files(TABLES) as folder:
        yield folder


@pytest.mark.slow
def test_an_erased_row_is_in_no_store_and_rebuild_history_and_verify_stay_right(
    stack: Stack, folder: Path
) -> None:
    (folder / "public.forgotten.toml").write_text(CONTRACT)
    with stack.source() as source:
        source.execute("CREATE TABLE forgotten (id int PRIMARY KEY, name text, v int)")
        source.execute("CREATE TABLE forgotten_bag (name text)")
        source.execute("ALTER TABLE forgotten_bag REPLICA IDENTITY FULL")
        source.execute(f"INSERT INTO forgotten VALUES (5, '{PERSON} 1', 1), (2, 'other', 1)")
        source.execute("INSERT INTO forgotten_bag VALUES ('x')")
        stack.await_tables(*TABLES)
        source.execute("UPDATE forgotten SET id = 1 WHERE id = 5")
        source.execute(f"UPDATE forgotten SET name = '{PERSON} 2' WHERE id = 1")
        source.execute("UPDATE forgotten SET v = 5 WHERE id = 2")
        source.execute(f"UPDATE forgotten SET name = '{PERSON} 3', v = -1 WHERE id = 1")
        await_quarantine(stack, 1)
        refused = stack.run("erase", "forgotten", "1", expect=1).stderr
        assert "the source still has this row of public.forgotten" in refused
        source.execute("DELETE FROM forgotten WHERE id = 1")
        source.execute("UPDATE forgotten SET v = 2 WHERE id = 2")
    versions = "SELECT id, name, v FROM history.forgotten ORDER BY 1, _lsn"
    until(
        lambda: stack.query("SELECT count(*) FROM history.forgotten WHERE id = 1 AND _is_current"),
        lambda rows: rows == [(0,)],
        within_s=SOON_S,
        what="the end of row 1 in the history",
    )
    kept = [row for row in stack.query(versions) if row[0] == 2]

    planned = stack.answer("erase", "forgotten", "1", "--dry-run")
    assert removed(planned) == {} and found(planned)["bronze events"] >= 7
    assert found(planned)["quarantine entries"] == 1 and found(planned)["history versions"] == 3
    assert PERSON in in_bronze(stack) and PERSON in in_kafka(stack)

    receipt = stack.answer("erase", "forgotten", "1", timeout_s=180)
    assert removed(receipt) == found(receipt)
    assert found(receipt)["bronze events"] == found(planned)["bronze events"]
    assert found(receipt)["kafka records"] == found(planned)["bronze events"]
    assert receipt["id"] and len(receipt["key_digest"]) == 64
    assert PERSON not in in_bronze(stack) and PERSON not in in_kafka(stack)
    assert not [
        row for row in in_delta_files(stack) if PERSON in repr(row) or row.get("id") in (1, 5)
    ]

    stack.verify("forgotten")
    checked = stack.run("verify", "--bronze", "forgotten")
    assert "erased events keep their places" in checked.stderr
    stack.run("rebuild", "forgotten", timeout_s=300)
    stack.verify("forgotten")
    assert stack.query(versions) == kept

    again = stack.run("erase", "forgotten", "1", "--format", "json")
    assert "nothing of this row was found" in again.stderr and not json.loads(again.stdout)["id"]
    [(digest, events)] = until(
        lambda: stack.query("SELECT key_digest, events FROM ops.erasures") or [],
        lambda rows: len(rows) == 1,
        within_s=SOON_S,
        what="the receipt in Trino",
    )
    assert (digest, events) == (receipt["key_digest"], found(receipt)["bronze events"])
    keyless = stack.run("erase", "forgotten_bag", "name=x", expect=1).stderr
    assert "the table has no key" in keyless


def await_quarantine(stack: Stack, count: int) -> None:
    until(
        lambda: stack.answer("quarantine", "list", "forgotten"),
        lambda rows: len(rows) == count,
        within_s=SOON_S,
        what=f"{count} entries in quarantine",
    )


def found(receipt: dict[str, Any]) -> dict[str, int]:
    """Store and what → how much was found, where anything was."""
    return {f"{s['store']} {s['what']}": s["found"] for s in receipt["stores"] if s["found"]}


def removed(receipt: dict[str, Any]) -> dict[str, int]:
    return {f"{s['store']} {s['what']}": s["removed"] for s in receipt["stores"] if s["removed"]}


def topic_in(stack: Stack) -> str:
    return f"{stack.settings.topic_prefix}.public.forgotten"


def in_bronze(stack: Stack) -> str:
    """All lines of the topic's objects."""
    files = Lakehouse(stack.settings).bronze_files()
    text = ""
    for info in files.get_file_info(pa_fs.FileSelector(topic_in(stack), recursive=True)):
        if info.is_file:
            with files.open_input_stream(info.path, compression=None) as stream:
                text += gzip.decompress(stream.read()).decode()
    return text


def in_kafka(stack: Stack) -> str:
    """All records of the topic that Kafka still delivers."""
    topic = topic_in(stack)
    with closing(tail.open_consumer(stack.settings.kafka)) as consumer:
        ends = tail.end_offsets(consumer, topic)
        begins = consumer.beginning_offsets(tail.partitions(consumer, topic))
        starts = {tp.partition: at for tp, at in begins.items()}
        events = list(tail.read_between(consumer, topic, starts, ends, deadline_s=30))
    return "".join((event.value or b"").decode() for event in events)


def in_delta_files(stack: Stack) -> Iterator[dict[str, Any]]:
    """Every row of every data file of the tables that had the row, also of files that are in no version."""
    files = Lakehouse(stack.settings).lake.filesystem()
    for path in ("silver/forgotten", "history/forgotten", "raw/quarantine", "ops/quarantine"):
        for info in files.get_file_info(pa_fs.FileSelector(path, recursive=True)):
            if info.path.endswith(".parquet") and "_delta_log" not in info.path:
                with files.open_input_file(info.path) as stream:
                    yield from parquet.read_table(stream).to_pylist()
