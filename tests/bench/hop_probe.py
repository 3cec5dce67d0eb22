"""A light probe in a process of its own: one edit each second, timed at each hop.

`python -m tests.bench.hop_probe OPTIONS` (JSON: tables, edits) prints JSON, one object an edit. Each edit sets `v` of
the row PROBE_ID in the next table. Times are in Unix seconds by this machine's clock:

- Kafka: when a consumer of that one partition, which fetches only while an edit is on its way, got the record.
- bronze, silver: when the file with the edit appeared in the store's folder (its change time on the disk): the object
  that has the record's offset, the log entry whose file holds the row. Nothing is asked of a service for it.
- Trino: when the answer was there. It is asked only when silver has the edit, and again every 100 ms.

Edits do not wait for one another, so one that is late is not left out, and delays no other.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.environment.settings import Settings, load
from app.lake import topic_tail as tail
from app.query.trino_connection import connect
from spark_streaming.contract.names import topic_of
from spark_streaming.reading.bronze_names import BLOCK_OFFSETS

PROBE_ID = -1  # the load changes rows from 1 on, so it never has the probe's row
EVERY_S = 1.0
LOOK_S = 0.01
ASK_AGAIN_S = 0.1
# Bronze is looked at when an edit is so old; a look lists one folder on the disk.
BRONZE_LOOK_S = 3.0
LATE_S = 60.0
_EDIT = (
    "INSERT INTO {table} (id, v, note, updated_at) OVERRIDING SYSTEM VALUE VALUES (%s, %s, 'probe', now()) "
    "ON CONFLICT (id) DO UPDATE SET v = excluded.v, updated_at = now()"
)


@dataclass
class Edit:
    """One edit and when each hop had it; None while it has not."""

    number: int
    table: str
    committed_at: float
    kafka_at: float | None = None
    bronze_at: float | None = None
    silver_at: float | None = None
    trino_at: float | None = None
    answer_s: float | None = None  # the time of the query that found it
    questions: int = 0
    place: tuple[int, int] | None = None  # its partition and offset

    @property
    def age_s(self) -> float:
        return time.time() - self.committed_at


class SilverLog:
    """The log of one silver table, read on the disk entry by entry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "_delta_log"
        self._lock = threading.Lock()
        self.skip()

    def skip(self) -> None:
        """Go to the newest entry."""
        with self._lock:
            names = [entry.name for entry in os.scandir(self._log)]
            self._version = max(int(name[:20]) for name in names if name.endswith(".json"))

    def next(self) -> tuple[int | None, float] | None:
        """(`v` of the probe's row in a file that the next entry adds, its time); None while there is no entry."""
        with self._lock:
            entry = self._log / f"{self._version + 1:020d}.json"
            if not entry.exists():
                return None
            self._version += 1
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        values = [self._value(action["add"]) for action in actions if "add" in action]
        found = [value for value in values if value is not None]
        return (max(found) if found else None), entry.stat().st_ctime

    def _value(self, added: dict[str, Any]) -> int | None:
        least = json.loads(added.get("stats") or "{}").get("minValues", {}).get("id", PROBE_ID)
        if least > PROBE_ID:
            return None
        try:
            rows = pq.read_table(
                self._folder / added["path"],
                columns=["v"], filters=pc.field("id") == PROBE_ID, partitioning=None,
            )  # fmt: skip
        except FileNotFoundError:
            return None  # joined into another file since
        values = rows.column("v").to_pylist()
        return int(values[0]) if values else None


class Probe:
    """Makes the edits (`run`), and follows them behind Kafka in a thread."""

    def __init__(self, settings: Settings, tables: list[str]) -> None:
        self._settings = settings
        self._tables = tables
        store = settings.home / "data" / "s3"
        self._bronze = store / settings.store.bronze_bucket
        silver = store / settings.store.lake_bucket / "silver"
        self._logs = {table: SilverLog(silver / table) for table in tables}
        self._edits: list[Edit] = []
        self._stop = threading.Event()
        self._failure: Exception | None = None

    def run(self, edits: int) -> dict[str, Any]:
        """Make so many edits, one each second, and wait until each hop has them. Returns: the report."""
        cpu, began = time.process_time(), time.monotonic()
        follower = threading.Thread(target=self._follow, daemon=True)
        follower.start()
        number = int(time.time())  # grows from run to run, and no faster than one a second
        with (
            closing(tail.open_consumer(self._settings.kafka)) as consumer,
            psycopg.connect(self._settings.source_dsn, autocommit=True) as source,
        ):
            self._find_partitions(consumer)
            for turn in range(edits):
                table = self._tables[turn % len(self._tables)]
                self._edit(source, consumer, table, number + turn)
                self._read_kafka(consumer, began + (turn + 1) * EVERY_S)
            lasted = time.monotonic() - began
            last = time.monotonic() + LATE_S
            while self._under_way(self._edits) and time.monotonic() < last and not self._failure:
                self._read_kafka(consumer, time.monotonic() + EVERY_S)
        self._stop.set()
        follower.join(timeout=LATE_S)
        if self._failure:
            raise self._failure
        return {
            "cpu_s": round(time.process_time() - cpu, 2),
            "lasted_s": round(lasted, 2),
            "edits": [asdict(edit) for edit in self._edits],
        }

    def _topic(self, table: str) -> str:
        return topic_of(self._settings.topic_prefix, "public", table)

    def _find_partitions(self, consumer: Any) -> None:
        self._places = {t: tail.partitions(consumer, self._topic(t)) for t in self._tables}
        self._by_topic = {self._topic(table): table for table in self._tables}

    def _edit(self, source: Any, consumer: Any, table: str, number: int) -> None:
        # What no edit is on its way in is read from its end on; the rest from where it is.
        if not any(e.table == table and e.silver_at is None for e in self._edits):
            self._logs[table].skip()
        under_way = {place for edit in self._in_kafka_yet() for place in self._places[edit.table]}
        new = [place for place in self._places[table] if place not in under_way]
        consumer.assign([*under_way, *new])
        for place, end in consumer.end_offsets(new).items() if new else ():
            consumer.seek(place, end)
        source.execute(_EDIT.format(table=table).encode(), [PROBE_ID, number])
        self._edits.append(Edit(number, table, time.time()))

    def _in_kafka_yet(self) -> list[Edit]:
        """The edits that Kafka has not shown."""
        return [e for e in self._edits if e.kafka_at is None and e.age_s < LATE_S]

    def _read_kafka(self, consumer: Any, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            if not self._in_kafka_yet():
                time.sleep(left)
                return
            for place, records in consumer.poll(
                timeout_ms=max(1, int(min(left, 0.05) * 1_000))
            ).items():
                at = time.time()
                for record in records:
                    if record.key and json.loads(record.key).get("id") == PROBE_ID and record.value:
                        number = json.loads(record.value)["after"]["v"]
                        self._mark(
                            self._by_topic[place.topic],
                            number,
                            at,
                            (place.partition, record.offset),
                        )

    def _mark(self, table: str, number: int, at: float, place: tuple[int, int]) -> None:
        for edit in self._edits:
            if edit.table == table and edit.number == number and edit.kafka_at is None:
                edit.place, edit.kafka_at = place, at

    def _under_way(self, edits: Iterable[Edit]) -> list[Edit]:
        return [e for e in edits if None in (e.kafka_at, e.bronze_at, e.silver_at, e.trino_at)]

    def _follow(self) -> None:
        try:
            with closing(connect(self._settings.trino_url)) as trino:
                asked_at = looked_at = 0.0
                while not self._stop.wait(LOOK_S):
                    edits = [e for e in self._under_way(self._edits) if e.age_s < LATE_S]
                    for table in {e.table for e in edits if e.silver_at is None}:
                        self._read_silver(table)
                    waiting = [e for e in edits if e.silver_at and not e.trino_at]
                    new = any(not e.questions for e in waiting)
                    if waiting and (new or time.monotonic() - asked_at >= ASK_AGAIN_S):
                        for table in {e.table for e in waiting}:
                            self._ask(trino, table, [e for e in waiting if e.table == table])
                        asked_at = time.monotonic()
                    if time.monotonic() - looked_at >= EVERY_S:
                        looked_at = time.monotonic()
                        for edit in edits:
                            if edit.bronze_at is None and edit.place and edit.age_s > BRONZE_LOOK_S:
                                edit.bronze_at = self._in_bronze(edit)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._failure = error

    def _read_silver(self, table: str) -> None:
        while (found := self._logs[table].next()) is not None:
            value, at = found
            for edit in self._edits:
                if edit.table == table and edit.silver_at is None and edit.number <= (value or 0):
                    edit.silver_at = at

    def _ask(self, trino: Any, table: str, edits: list[Edit]) -> None:
        began = time.monotonic()
        cursor = trino.cursor()
        cursor.execute(
            f"SELECT v FROM {self._settings.silver_schema}.{table} WHERE id = {PROBE_ID}"
        )
        rows = cursor.fetchall()
        at, took = time.time(), time.monotonic() - began
        for edit in edits:
            edit.questions += 1
            if rows and rows[0][0] >= edit.number:
                edit.trino_at, edit.answer_s = at, round(took, 4)

    def _in_bronze(self, edit: Edit) -> float | None:
        """When the object that has the edit's record appeared."""
        assert edit.place is not None
        partition, offset = edit.place
        folder = self._bronze / self._topic(edit.table) / f"partition={partition}"
        for block in (offset // BLOCK_OFFSETS, offset // BLOCK_OFFSETS - 1):
            below = folder / f"block={block:016d}"
            names = [entry.name for entry in os.scandir(below)] if below.is_dir() else []
            whole = [name for name in names if name.endswith(".jsonl.gz")]
            fitting = [name for name in whole if int(name.split(".")[0]) <= offset]
            if fitting:
                at = (below / max(fitting)).stat().st_ctime
                # The object before it, as long as the sink has not put the one with the record.
                return at if at > edit.committed_at else None
        return None


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(json.dumps(Probe(load(), options["tables"]).run(options["edits"])))
