"""`trace` on the whole chain shows every version of a row with its hops, also of a deleted or quarantined row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pytest
from kafka import KafkaAdminClient, TopicPartition

from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from spark_streaming.reading.bronze import Bronze
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
# The result must not depend on whether the machine is busy.
PATIENT = ("--seconds", "60")
# Rows of a new table come as a snapshot, later changes as events.
TABLES = {
    "traced": ("id int PRIMARY KEY, v int, secret text", "(11, 1, 'y')"),
    "traced_pairs": (
        "word text, n int, at timestamptz, PRIMARY KEY (word, n)",
        "('a,b=\"c\"', 1, now()), ('ä', 2, now())",
    ),
    "traced_bag": ("word text", "('a')"),
    "traced_long_ago": ("id int PRIMARY KEY, v int", "(2, 0)"),
}
Record = dict[str, Any]


@pytest.fixture(scope="module")
def folder(stack: Stack) -> Iterator[Path]:
    """The stack's own contract files, and the tests' tables; both are removed at the end.

    They are created together, because each separate table would need a restart of the connector.
    """
    folder = stack.settings.contracts_dir
    folder.mkdir(exist_ok=True)
    (folder / "public.traced.toml").write_text(
        "[columns.v]\nmin = 0\n[columns.secret]\nmask = 'redact'\n"
    )
    with stack.source() as source, source.transaction():
        for table, (columns, rows) in TABLES.items():
            source.execute(f"CREATE TABLE {table} ({columns})".encode())
            if "PRIMARY KEY" not in columns:
                source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL".encode())
            source.execute(f"INSERT INTO {table} VALUES {rows}".encode())
    stack.await_tables(*TABLES)
    yield folder
    (folder / "public.traced.toml").unlink()
    with stack.source() as source:
        source.execute(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")


def traced(stack: Stack, *words: str) -> list[Record]:
    return stack.answer("trace", *words, *PATIENT)


def await_trace(stack: Stack, states: list[str], *words: str) -> list[Record]:
    """Wait until the versions of a row have these states and bronze has all of them; returns them."""

    def are_there(versions: list[Record]) -> bool:
        *events, _ = versions
        return [v["state"].split(":")[0] for v in versions] == states and all(
            v["bronze"] and v["line"] for v in events
        )

    return until(
        lambda: traced(stack, *words),
        are_there,
        within_s=SOON_S,
        what=f"the states {states} of {words}",
        every_s=0.5,
    )


def test_a_row_is_followed_from_the_log_to_trino_through_all_of_its_life(
    stack: Stack, folder: Path
) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO traced VALUES (1, 1, 'x')")
        await_trace(stack, ["in silver", "the row"], "traced", "1")
        source.execute("UPDATE traced SET v = 2 WHERE id = 1")
        versions = await_trace(stack, ["merged", "in silver", "the row"], "traced", "1")
        check_hops(stack, versions[:-1])
        inserted, updated, now = versions
        assert [version["event"] for version in versions] == ["insert", "update", "now"]
        assert updated["row"] == {"id": 1, "v": 2, "secret": "(masked)"}
        assert now["row"]["v"] == 2 and '"x"' not in json.dumps(versions)
        assert (now["lsn"], now["data_file"]) == (updated["lsn"], updated["data_file"])
        assert lsn(inserted) < lsn(updated) and inserted["batch"] < updated["batch"]

        source.execute("DELETE FROM traced WHERE id = 1")
        states = ["merged", "merged", "removed", "no such row"]
        deleted = await_trace(stack, states, "public.traced", "id=1")[2]
        assert (deleted["event"], deleted["row"]) == ("delete", None)
        source.execute("INSERT INTO traced VALUES (1, 3, 'z')")
        states = ["merged", "merged", "removed", "in silver", "the row"]
        again = await_trace(stack, states, "traced", "1")
    newest = traced(stack, "traced", "1", "--limit", "2")
    assert newest == again[2:]
    rest = traced(stack, "traced", "1", "--before", newest[0]["kafka"])
    assert [version["kafka"] for version in rest[:-1]] == [v["kafka"] for v in again[:2]]
    told = stack.run("trace", "traced", "1", "--limit", "2", *PATIENT).stderr
    assert f"--before {newest[0]['kafka']}" in told


def check_hops(stack: Stack, versions: list[Record]) -> None:
    """Check that each reported place has the event."""
    bronze = Bronze(Lakehouse(stack.settings).bronze_files())
    silver = Lakehouse(stack.settings).silver("traced")
    files: Any = pa_fs.FileSelector("silver/traced", recursive=False)
    names = {
        info.base_name for info in Lakehouse(stack.settings).lake.filesystem().get_file_info(files)
    }
    for version in versions:
        path = version["bronze"].split("/", 3)[3]
        line = list(bronze.documents(path))[version["line"] - 1]
        place = f"{line['topic']}/{line['partition']}/{line['offset']}"
        assert place == version["kafka"]
        value = json.loads(line["value"])
        assert value["source"]["txId"] == version["transaction"]
        assert (value["after"]["id"], value["after"]["v"]) == (1, version["row"]["v"])
        assert version["data_file"] in names
        assert version["delta_version"] <= silver.version()
        assert version["debezium_ms"] >= 0 and version["kafka_ms"] >= version["debezium_ms"]
        assert version["silver_ms"] > version["kafka_ms"]


def lsn(version: Record) -> int:
    high, low = version["lsn"].split("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_a_row_in_quarantine_says_why_and_silver_keeps_the_older_one(
    stack: Stack, folder: Path
) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO traced VALUES (5, 5, 'a')")
        await_trace(stack, ["in silver", "the row"], "traced", "5")
        source.execute("UPDATE traced SET v = -5 WHERE id = 5")
    versions = await_trace(stack, ["in silver", "quarantine, open", "the row"], "traced", "5")
    assert "v_range" in versions[1]["state"]
    assert versions[-1]["row"]["v"] == 5
    shown = stack.run("quarantine", "show", versions[1]["kafka"], "--format", "json").stdout
    assert json.loads(shown)["table_name"] == "traced"
    stack.run("quarantine", "discard", versions[1]["kafka"])


def test_a_key_of_several_columns_and_one_that_changed(stack: Stack, folder: Path) -> None:
    with stack.source() as source:
        await_trace(stack, ["in silver", "the row"], "traced_pairs", "ä,2")
        source.execute("UPDATE traced_pairs SET n = 3 WHERE n = 2")
    key = json.dumps({"word": 'a,b="c"', "n": 1})
    assert len(await_trace(stack, ["in silver", "the row"], "traced_pairs", key)) == 2
    moved = await_trace(stack, ["in silver", "the row"], "traced_pairs", "ä,3")
    gone = await_trace(stack, ["merged", "removed", "no such row"], "traced_pairs", "n=2,word=ä")
    assert moved[0]["event"].startswith("insert, key was ")
    assert gone[0]["event"] == "snapshot"
    assert gone[1]["event"].startswith("delete, key becomes ")


def test_a_row_is_traced_by_bronze_where_kafka_has_nothing_of_it_any_more(
    stack: Stack, folder: Path
) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO traced_long_ago VALUES (1, 1)")
        source.execute("UPDATE traced_long_ago SET v = 2 WHERE id = 1")
    states = ["merged", "in silver", "the row"]
    before = await_trace(stack, states, "traced_long_ago", "1")
    topic = f"{stack.settings.topic_prefix}.public.traced_long_ago"
    with closing(tail.open_consumer(stack.settings.kafka)) as consumer:
        ends = {TopicPartition(topic, p): at for p, at in tail.end_offsets(consumer, topic).items()}
        with closing(KafkaAdminClient(**stack.settings.kafka.options)) as admin:
            admin.delete_records(ends)
        assert consumer.beginning_offsets(list(ends)) == ends
    ended = stack.run("trace", "traced_long_ago", "1", *PATIENT, "--format", "json")
    assert json.loads(ended.stdout) == before and "Kafka" not in ended.stderr


def test_what_cannot_be_traced_is_told_with_the_reason(stack: Stack, folder: Path) -> None:
    for words, told in (
        (("traced_bag", "a"), "has no key"),
        (("no_such_table", "1"), "there is no table `no_such_table` in the lake"),
        (("movies", "999999999"), "no event of movies with movie_id=999999999 was found"),
        (("movies", "many"), "is not a value of public.movies.movie_id"),
        (("movies", "1", "--before", "elsewhere/0/1"), "is not a place in this table's topic"),
    ):
        ended = stack.run("trace", *words, *PATIENT, expect=1)
        assert told in ended.stderr and "Traceback" not in ended.stderr
        assert ended.stdout == ""


def test_for_people_each_hop_is_a_line(stack: Stack) -> None:
    out = stack.run("trace", "movies", "1", *PATIENT).stdout
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["version", "event", "hop", "at", "ms", "where"]
    assert [line[2] for line in lines[1:] if line[0] == "1"][-3:] == ["kafka", "bronze", "silver"]
    assert lines[-1][:3] == ["now", "now", "trino"]
