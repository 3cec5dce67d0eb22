"""Bronze is checked against the counts of real transactions: Postgres, Debezium, Kafka, the sink, the store."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from app.capture.resync import progress
from app.counts.barrier import PendingBarrier
from app.counts.count_reader import Barrier, Counting, FolderBronze, Progress
from app.counts.count_repair import Repair
from app.counts.keeping import Keeper
from app.counts.tally import Miscount
from app.metrics.board import Board
from app.metrics.collectors.carriage import Kafka
from app.metrics.collectors.event_counts import CountsCollector
from app.source.source_tables import Names
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.reading.bronze import Bronze
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_names import SilverNames
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SERVICES = ("postgres", "kafka", "s3", "connect", "store", "connectors", "capture")
WITHIN_S = 180.0
ROWS = 30_000
TOPIC = "hw.public.counted"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", *SERVICES)
        with stack.source() as source:
            source.execute("CREATE TABLE counted (id int PRIMARY KEY, v text)")
            source.execute("CREATE TABLE beside (id int PRIMARY KEY, v text)")
            source.execute("INSERT INTO counted VALUES (0, 'before')")
            until(
                lambda: source.execute(
                    "SELECT count(*) FROM pg_publication_tables"
                    " WHERE tablename IN ('counted', 'beside')"
                ).fetchone(),
                lambda row: row == (2,),
                within_s=WITHIN_S,
                what="both tables are captured",
            )
        yield stack


class Counted:
    """The collector of the service `metrics`, called by the test."""

    def __init__(self, stack: Stack, bronze: Bronze, name: str) -> None:
        settings = stack.settings
        self.board = Board()
        self.lake = Lake(settings.store)
        self.asked: list[str] = []
        self.incidents = IncidentLog(self.lake)
        self.names = SilverNames(self.lake)
        address, prefix = settings.kafka, settings.topic_prefix
        self.kafka = Kafka(address, prefix, "heartbeat", lambda: 0.0, self.names)
        self._stack, self._bronze, self._name = stack, bronze, name
        self.begin()

    def begin(self) -> None:
        """Continue like a new process, from the state that the last one saved."""
        self.collector = CountsCollector(
            self.kafka,
            self._bronze,
            self._stack.settings.topic_prefix,
            Keeper(self.lake.filesystem(), self._name),
            self.incidents,
            self.ask,
            self.board,
            self.names,
        )

    def ask(self, table: str, incident: str) -> None:
        self.asked.append(f"{table} {incident}")
        Repair(self._stack.settings)(table, incident)

    def value(self, name: str, *labels: str) -> float:
        return self.board.get(f"headwater_{name}").get(labels, -1.0)

    def found(self) -> float:
        """The number of open incidents of the table, after one more collection."""
        self.collector.collect()
        return self.value("bronze_miscounted", "counted")

    def counts(self, lsn: int) -> None:
        """Collect until transactions committed before `lsn` have been counted."""

        def ended() -> int:
            self.collector.collect()
            state = self.collector._state
            return state.progress.tally.ended if state else 0

        until(ended, lambda at: at >= lsn, within_s=WITHIN_S, what="bronze counted", every_s=1)


def bronze_folder(stack: Stack) -> Path:
    return stack.home / "data" / "s3" / stack.settings.store.bronze_bucket


def now(source: psycopg.Connection[Any]) -> int:
    """The end of the log, before the next heartbeat."""
    row = source.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def all_kinds_of_changes(source: psycopg.Connection[Any]) -> None:
    source.execute("INSERT INTO beside VALUES (1, 'alone')")
    with source.transaction():
        source.execute("INSERT INTO counted VALUES (1, 'a'), (2, 'b')")
        source.execute("UPDATE counted SET v = 'c' WHERE id = 1")
        source.execute("UPDATE counted SET id = 3 WHERE id = 2")
        source.execute("DELETE FROM counted WHERE id = 1")
        source.execute("INSERT INTO beside VALUES (2, 'x')")
        source.execute("SAVEPOINT s")
        source.execute("INSERT INTO beside VALUES (3, 'never')")
        source.execute("ROLLBACK TO s")
        source.execute("SELECT pg_logical_emit_message(true, 'some', 'words')")
    with source.transaction():
        source.execute("INSERT INTO beside VALUES (4, 'x')")
        source.execute("TRUNCATE beside, counted")
        source.execute("INSERT INTO beside VALUES (5, 'x')")
    with source.cursor().copy("COPY beside FROM STDIN") as copy:
        for number in range(3_000):
            copy.write_row((1_000 + number, "copied"))


def test_kills_of_connect_and_of_the_counter_within_transactions_raise_no_alarm(
    stack: Stack,
) -> None:
    counted = Counted(stack, FolderBronze(bronze_folder(stack)), "kills")
    with stack.source() as source, stack.source() as other:
        all_kinds_of_changes(source)
        source.execute(f"INSERT INTO counted SELECT g, 'r' FROM generate_series(1, {ROWS}) g")
        place = TopicPartition(TOPIC, 0)
        reader = KafkaConsumer(**stack.settings.kafka.options, isolation_level="read_committed")
        for number in range(2):
            before = reader.end_offsets([place])[place]
            with source.transaction():
                source.execute(f"UPDATE counted SET id = id + {ROWS * 10}")
                # Shorter transactions, which all end before the long one is streamed.
                for short in range(20):
                    other.execute(
                        f"INSERT INTO beside VALUES ({100_000 + number * 100 + short}, 'y')"
                    )
                source.execute(f"UPDATE beside SET v = 'z' WHERE id = {100_000 + number * 100}")
            until(
                lambda before=before: reader.end_offsets([place])[place],  # type: ignore[misc]
                lambda end, before=before: end > before + 3_000,  # type: ignore[misc]
                within_s=WITHIN_S,
                what="a part of the transaction in Kafka",
                every_s=0.02,
            )
            stack.kill("connect")
            counted.collector.collect()
            counted.begin()
        reader.close()
        counted.counts(now(source))
    assert counted.value("transactions_checked") > 40
    assert counted.value("transactions_miscounted", "short") == 0
    assert counted.value("transactions_miscounted", "surplus") == 0
    assert counted.value("bronze_miscounted", "counted") == 0
    assert counted.asked == []
    assert counted.incidents.incidents() == []


def barrier_of(stack: Stack) -> Barrier:
    """A barrier that bronze has reached."""
    settings = stack.settings
    consumer = KafkaConsumer(**settings.kafka.options)
    admin = KafkaAdminClient(**settings.kafka.options)
    try:
        waiting = PendingBarrier(settings.topic_prefix)
        assert waiting.set(consumer, admin)
        found = until(
            lambda: waiting.reached(admin), within_s=WITHIN_S, what="bronze complete", every_s=1
        )
        assert found is not None
        return found
    finally:
        consumer.close()
        admin.close()


def copied(stack: Stack, folder: Path) -> Path:
    """A copy of bronze's objects in a folder that a test may damage."""
    shutil.copytree(bronze_folder(stack), folder, copy_function=shutil.copyfile)
    return folder


def change_lines(folder: Path, topic: str, change: Any) -> None:
    """Rewrite each object of a topic: `change` maps its lines to the new ones."""
    for path in sorted((folder / topic).rglob("*.gz")):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        path.write_bytes(gzip.compress(b"".join(change(lines))))


def wrong_in(stack: Stack, folder: Path, barrier: Barrier) -> list[Miscount]:
    counting = Counting(FolderBronze(folder), stack.settings.topic_prefix, Progress())
    return [wrong for some in counting.run(barrier) for wrong in some or ()]


@pytest.fixture(scope="module")
def planted(stack: Stack) -> tuple[int, Barrier]:
    """A transaction of five rows in bronze, by its id."""
    with stack.source() as source, source.transaction():
        row = source.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert row is not None
        source.execute(
            "INSERT INTO counted SELECT g, 'planted' FROM generate_series(9000001, 9000005) g"
        )
    with stack.source() as source:
        lsn = now(source)

    def counted_to() -> tuple[int, Barrier]:
        barrier, progress = barrier_of(stack), Progress()
        counting = Counting(FolderBronze(bronze_folder(stack)), "hw", progress)
        assert not any(counting.run(barrier))
        return progress.tally.ended, barrier

    found = until(
        counted_to, lambda at: at[0] >= lsn, within_s=WITHIN_S, what="the rows in bronze", every_s=2
    )
    return int(row[0]), found[1]


def is_of(line: bytes, xid: int) -> bool:
    return f'\\"txId\\":{xid},'.encode() in line


def test_an_event_that_is_deleted_from_a_copy_of_bronze_is_named_rings_and_is_repaired(
    stack: Stack, planted: tuple[int, Barrier], tmp_path: Path
) -> None:
    xid, barrier = planted
    folder = copied(stack, tmp_path / "bronze")
    assert wrong_in(stack, folder, barrier) == []

    def without_the_third(lines: list[bytes]) -> list[bytes]:
        return [line for line in lines if not (is_of(line, xid) and b"9000003" in line)]

    change_lines(folder, TOPIC, without_the_third)
    [wrong] = wrong_in(stack, folder, barrier)
    assert (wrong.kind, wrong.xid, wrong.topic) == ("short", xid, TOPIC)
    assert (wrong.expected, wrong.found) == (5, 4)

    counted = Counted(stack, FolderBronze(folder), "lost")
    until(
        counted.found,
        lambda value: value == 1,
        within_s=WITHIN_S,
        what="the loss on the board",
        every_s=1,
    )
    [incident] = counted.incidents.incidents(kind="counts_short")
    assert incident.tables == ("public.counted",)
    assert incident.lsn_from == incident.lsn_to == wrong.lsn
    assert f"transaction {xid}" in incident.cause
    assert counted.asked == [f"public.counted {incident.id}"]
    with stack.source() as source:
        known = progress(source, Names.of(stack.settings))
    assert [one.incidents for one in known if one.name == "counted"] == [(incident.id,)]
    # Another process continues the count and opens no second incident; the alert ends with the incident.
    counted.begin()
    counted.collector.collect()
    assert counted.value("bronze_miscounted", "counted") == 1
    counted.incidents.close_incident(incident.id, "a new snapshot")
    assert counted.incidents.flush(30)
    counted.collector.collect()
    assert counted.value("bronze_miscounted", "counted") == 0
    assert len(counted.asked) == 1


def test_an_event_that_stands_twice_in_a_copy_of_bronze_is_named(
    stack: Stack, planted: tuple[int, Barrier], tmp_path: Path
) -> None:
    xid, barrier = planted
    folder = copied(stack, tmp_path / "bronze")

    def with_the_third_twice(lines: list[bytes]) -> list[bytes]:
        twice = [line for line in lines if is_of(line, xid) and b"9000003" in line]
        return lines + twice

    change_lines(folder, TOPIC, with_the_third_twice)
    [wrong] = wrong_in(stack, folder, barrier)
    assert (wrong.kind, wrong.xid, wrong.expected, wrong.found) == ("surplus", xid, 5, 6)


def test_a_forged_end_is_named(stack: Stack, planted: tuple[int, Barrier], tmp_path: Path) -> None:
    xid, barrier = planted
    folder = copied(stack, tmp_path / "bronze")

    def forged(lines: list[bytes]) -> list[bytes]:
        made = []
        for line in lines:
            document = json.loads(line)
            record = json.loads(document["value"])
            if record["status"] == "END" and record["id"].startswith(f"{xid}:"):
                record["data_collections"][0]["event_count"] = 7
                document["value"] = json.dumps(record)
            made.append(json.dumps(document).encode() + b"\n")
        return made

    change_lines(folder, "hw.transaction", forged)
    [wrong] = wrong_in(stack, folder, barrier)
    assert (wrong.kind, wrong.xid, wrong.expected, wrong.found) == ("short", xid, 7, 5)
