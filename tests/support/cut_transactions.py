"""Large transactions of every shape in which events share log positions, and their progress in Kafka."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from kafka import KafkaConsumer, TopicPartition

from app.environment.settings import Settings
from tests.support.bronze import objects, store

TABLES = ("cut_keys", "cut_pages", "cut_large", "cut_other", "cut_bag")
CREATE = """
CREATE TABLE cut_keys (id bigint PRIMARY KEY, v text);
CREATE TABLE cut_pages (id bigint PRIMARY KEY, v text);
CREATE TABLE cut_large (id bigint PRIMARY KEY, body text, n int);
ALTER TABLE cut_large ALTER body SET STORAGE EXTERNAL;
CREATE TABLE cut_other (id bigint PRIMARY KEY, v text);
CREATE TABLE cut_bag (n bigint, v text);
ALTER TABLE cut_bag REPLICA IDENTITY FULL;
"""
BODY_BYTES = 20_000
LARGE_SHARE = 60  # one large row for this many others
Cursor = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Written:
    """A transaction: its id, and the number of its rows."""

    xid: int
    rows: int


def begin(connection: Cursor, rows: int) -> None:
    """The tables, with the rows whose keys change later."""
    connection.execute(CREATE)
    connection.execute(
        "INSERT INTO cut_keys SELECT n, 'first' FROM generate_series(1, %s) n", [rows // 4]
    )


def write(connection: Cursor, kind: str, number: int, rows: int) -> Written:
    """Run a transaction of about this many events; its keys belong only to this number."""
    first = number * 10_000_000
    with connection.transaction():
        if kind in ("keys", "all"):  # DELETE, tombstone and CREATE of each row at one position
            some = rows // 2 if kind == "keys" else rows // 8
            connection.execute(
                "UPDATE cut_keys SET id = id + 1000000 WHERE id IN (SELECT id FROM cut_keys"
                " ORDER BY id LIMIT %s)",
                [some],
            )
        if kind in ("pages", "all"):  # a page's rows at one position
            some = rows if kind == "pages" else rows // 4
            _copy(connection, "cut_pages", first, some)
            _copy(connection, "cut_bag", first, some // 10)
        if kind in ("large", "all"):
            some = rows // LARGE_SHARE
            connection.execute(
                "INSERT INTO cut_large SELECT n, repeat(md5(n::text), %s), 0"
                " FROM generate_series(%s, %s) n",
                [BODY_BYTES // 32, first, first + some - 1],
            )
            connection.execute("UPDATE cut_large SET n = n + 1 WHERE id >= %s", [first])
            connection.execute("UPDATE cut_large SET id = id + 1000000 WHERE id >= %s", [first])
        if kind == "all":
            connection.execute(
                "INSERT INTO cut_other SELECT n, 'o' FROM generate_series(%s, %s) n",
                [first, first + rows // 4],
            )
            connection.execute("DELETE FROM cut_pages WHERE id %% 7 = %s", [number % 7])
            connection.execute("UPDATE cut_bag SET v = 'w' WHERE n %% 50 = %s", [number % 50])
        found = connection.execute(
            "SELECT txid_current() % 4294967296, sum(n_tup_ins + n_tup_upd + n_tup_del)"
            " FROM pg_stat_xact_user_tables WHERE relname LIKE 'cut\\_%'"
        ).fetchone()
    assert found is not None
    return Written(int(found[0]), int(found[1]))


@contextmanager
def beside(write_one: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run small transactions in other sessions meanwhile, as many as possible."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            write_one()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(timeout=60)


class Progress:
    """Kafka's committed events of the tables and committed transaction borders."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._borders = TopicPartition(f"{self._prefix}.transaction", 0)
        self._ended: set[int] = set()
        self._consumer = KafkaConsumer(
            **settings.kafka.options,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        self._consumer.assign([self._borders])
        self._consumer.seek_to_beginning()

    def places(self) -> int:
        """The number of offsets with records of the tables; it only grows."""
        known = self._consumer.topics()
        names = [f"{self._prefix}.public.{table}" for table in TABLES]
        places = [TopicPartition(name, 0) for name in names if name in known]
        return sum(self._consumer.end_offsets(places).values()) if places else 0

    def has_ended(self, xid: int) -> bool:
        """Whether Kafka has the transaction's END record."""
        end = self._consumer.end_offsets([self._borders])[self._borders]
        while self._consumer.position(self._borders) < end:
            for record in self._consumer.poll(timeout_ms=200).get(self._borders, []):
                value = json.loads(record.value)
                if value["status"] == "END":
                    self._ended.add(int(value["id"].partition(":")[0]))
        return xid in self._ended

    def close(self) -> None:
        self._consumer.close()


def counted(settings: Settings) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]], int]:
    """The counts of END records and of bronze, transaction → table → events; and bronze's lines."""
    said: dict[str, Counter[str]] = {}
    there: dict[str, Counter[str]] = {}
    lines = 0
    prefix, files = settings.topic_prefix, store(settings)
    names = [f"{prefix}.public.{table}" for table in TABLES]
    for topic in (f"{prefix}.transaction", *names):
        for path in objects(settings, settings.store.bronze_bucket, f"{topic}/"):
            with files.open_input_stream(path, compression=None) as stream:
                body = gzip.decompress(stream.read())
            for line in body.splitlines():
                text = json.loads(line)["value"]
                value = json.loads(text) if text else {}
                if value.get("status") == "END":
                    _add_end(said, value)
                elif value.get("transaction"):
                    lines += 1
                    xid = value["transaction"]["id"].partition(":")[0]
                    there.setdefault(xid, Counter())[topic.removeprefix(f"{prefix}.")] += 1
    return said, there, lines


def _add_end(said: dict[str, Counter[str]], value: dict[str, Any]) -> None:
    counts = Counter(
        {
            each["data_collection"]: each["event_count"]
            for each in value["data_collections"] or []
            if each["data_collection"].startswith("public.cut_")
        }
    )
    if counts:
        xid = value["id"].partition(":")[0]
        said[xid] = said.get(xid, Counter()) + counts


def _copy(connection: Cursor, table: str, first: int, rows: int) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as target:
        for number in range(first, first + rows):
            target.write_row((number, "copied"))
