"""Observes one edit at each hop: Kafka, bronze, silver, Trino.

The observers are ready before the edit is made, and each polls its own hop. A time is measured from
the client's return of COMMIT to the poll that first saw the edit, so it is an upper bound.
"""

from __future__ import annotations

import gzip
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from app.catalog.lake_catalog import literal
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.hops import HOPS
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from app.query.trino_connection import connect
from spark_streaming.contract.names import topic_of
from spark_streaming.fold.row_lookup import one_of
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.bronze_names import PARTITION

POLL_S = 0.02
# Each has a method `_watch_…` below.
WATCHED = tuple(hop.name for hop in HOPS if hop.arrived)


@dataclass(frozen=True)
class Edit:
    """A committed change of one row, recognized by the new `value` of its `column`.

    The value has never been there before, so seeing it is seeing the edit. `committed_at` is when
    the client's COMMIT returned, in Unix seconds by this machine's clock.
    """

    schema: str
    table: str
    key: dict[str, Any]
    column: str
    value: str
    committed_at: float


@dataclass(frozen=True)
class Sighting:
    """An observation of an edit at `hop`, `milliseconds` after its commit, at the place `where`."""

    hop: str
    milliseconds: float
    where: str


class EditObserver:
    """Observes one edit at all hops: `with EditObserver(...)`, edit, then `sightings()`."""

    def __init__(self, settings: Settings, schema: str, table: str) -> None:
        self._settings = settings
        self._lake = Lakehouse(settings)
        self._topic = topic_of(settings.topic_prefix, schema, table)
        self._silver = self._lake.names.of(schema, table)
        self._seen: queue.Queue[Sighting | Exception] = queue.Queue()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._place: queue.Queue[tuple[int, int]] = queue.Queue()
        self._in_silver = threading.Event()

    def __enter__(self) -> EditObserver:
        self._consumer = tail.open_consumer(self._settings.kafka)
        here = tail.partitions(self._consumer, self._topic)
        if not here:
            raise HeadwaterError(
                f"Kafka has no topic {self._topic} yet",
                hint="has the table any rows? `./headwater status connectors`",
            )
        self._consumer.assign(here)
        self._consumer.seek_to_end(*here)
        for partition in here:
            self._consumer.position(partition)  # resolves the end now, before the edit
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._consumer.close()

    def sightings(
        self, edit: Edit, *, deadline_s: float, on_seen: Callable[[Sighting], None]
    ) -> list[Sighting]:
        """Wait until every hop has shown `edit`; call `on_seen` for each at once.

        Raises: HeadwaterError naming the hops that have not shown it within `deadline_s`.
        """
        watchers = (self._watch_kafka, self._watch_bronze, self._watch_silver, self._watch_trino)
        for watcher in watchers:
            thread = threading.Thread(target=self._guard, args=(watcher, edit), daemon=True)
            thread.start()
            self._threads.append(thread)
        limit = time.monotonic() + deadline_s
        sightings: list[Sighting] = []
        while len(sightings) < len(WATCHED):
            try:
                seen = self._seen.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                missing = [hop for hop in WATCHED if hop not in {s.hop for s in sightings}]
                raise HeadwaterError(
                    f"the edit was not seen within {deadline_s:.0f} s at: {', '.join(missing)}",
                    hint="`./headwater status` names the service that is behind",
                ) from None
            if isinstance(seen, Exception):
                raise seen
            sightings.append(seen)
            on_seen(seen)
        return sorted(sightings, key=lambda s: WATCHED.index(s.hop))

    def _guard(self, watcher: Callable[[Edit], tuple[str, str] | None], edit: Edit) -> None:
        try:
            seen = watcher(edit)
            if seen is not None:
                elapsed = (time.time() - edit.committed_at) * 1_000
                self._seen.put(Sighting(seen[0], elapsed, seen[1]))
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread, not swallowed
            self._seen.put(error)

    def _watch_kafka(self, edit: Edit) -> tuple[str, str] | None:
        while not self._stop.is_set():
            for records in self._consumer.poll(timeout_ms=50).values():
                for record in records:
                    if _is_edit(record.value, edit):
                        self._place.put((record.partition, record.offset))
                        place = f"{self._topic} partition {record.partition} offset {record.offset}"
                        return "kafka", place
        return None

    def _watch_bronze(self, edit: Edit) -> tuple[str, str] | None:
        place = None
        while place is None and not self._stop.is_set():
            try:
                place = self._place.get(timeout=0.1)
            except queue.Empty:
                continue
        if place is None:
            return None
        partition, offset = place
        files = self._lake.bronze_files()
        folder = f"{self._topic}/partition={partition}"
        while not self._stop.is_set():
            path = last_object(files, folder, offset)
            if path is not None and last_offset(files, path) >= offset:
                return "bronze", self._settings.store.bronze_url(path)
            self._stop.wait(POLL_S)
        return None

    def _watch_silver(self, edit: Edit) -> tuple[str, str] | None:
        wanted = one_of(edit.column, pa.array([edit.value]))
        for name, value in edit.key.items():
            wanted = wanted & one_of(name, pa.array([value]))
        table, checked_version = None, -1
        while not self._stop.is_set():
            try:
                if table is None:
                    table, checked_version = self._lake.silver(self._silver), -1
                else:
                    table.update_incremental()
                if table.version() != checked_version and _has_row(table, edit.column, wanted):
                    self._in_silver.set()
                    return "silver", f"silver.{self._silver} version {table.version()}"
                checked_version = table.version()
            except (DeltaError, FileNotFoundError):
                table = None  # it does not exist yet, or its files were just compacted away
            self._stop.wait(POLL_S)
        return None

    def _watch_trino(self, edit: Edit) -> tuple[str, str] | None:
        wanted = {**edit.key, edit.column: edit.value}
        conditions = " AND ".join(f'"{name}" = {_literal(v)}' for name, v in wanted.items())
        schema = self._settings.silver_schema
        statement = f'SELECT 1 FROM {schema}."{self._silver}" WHERE {conditions}'
        connection = connect(self._settings.trino_url)
        # Trino cannot show an edit that silver does not have: earlier queries would only take CPU
        # from # the services that the edit still has to pass.
        while not self._in_silver.wait(POLL_S) and not self._stop.is_set():
            continue
        while not self._stop.is_set():
            cursor = connection.cursor()
            cursor.execute(statement)
            if cursor.fetchall():
                return "trino", f"query {cursor.query_id}"
            self._stop.wait(POLL_S)
        return None


def _has_row(table: DeltaTable, column: str, wanted: Any) -> bool:
    rows = table.to_pyarrow_dataset().to_table(columns=[column], filter=wanted)
    return bool(rows.num_rows)


def _is_edit(value: bytes | None, edit: Edit) -> bool:
    if value is None:
        return False
    event = orjson.loads(value)
    row = event.get("after") or {}
    return bool(row.get(edit.column) == edit.value)


def last_object(files: Any, partition: str, offset: int | None = None) -> str | None:
    """Return the last object of a bronze partition's folder, or the last that begins at or before `offset`."""
    topic, _, number = partition.rpartition(f"/{PARTITION}")
    before = None if offset is None else offset + 1
    return next(Bronze(files).objects_newest_first(topic, int(number), before), None)


def last_offset(files: Any, path: str) -> int:
    """Return the offset of the last record in a bronze object."""
    with files.open_input_stream(path, compression=None) as stream:
        lines = gzip.decompress(stream.read()).splitlines()
    return int(orjson.loads(lines[-1])["offset"])


def _literal(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    return literal(str(value))
