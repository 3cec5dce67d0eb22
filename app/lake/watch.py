"""A live feed of changes, each with the time that every hop took."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson
import trino.exceptions

from app.lake import hops, tail
from app.lake.connection import connect
from app.lake.lakehouse import Lakehouse, LedgerEntry, ledger_entry
from app.settings import Settings, load
from spark_streaming.naming import parse_topic, silver_table
from spark_streaming.position import lsn_text

# More than an eye can follow is sampled, so that what is shown is never long behind.
SHOWN_PER_S = 50
PENDING_MAX = 2_000
GIVE_UP_S = 60.0
TOPICS_EVERY_S = 2.0
# So long without a line, the feed says what it waits for.
SILENCE_S = 5.0
FIELDS = ("time", "table", "op", "key", "lsn", "kafka_ms", "bronze_ms", "silver_ms", "trino_ms")
HOP_FIELDS = (
    "time",
    "table",
    "op",
    "key",
    "lsn",
    "transaction",
    "event",
    "hop",
    "ms",
    "passed_over",
)
_LINE = "{:29} {:16} {:8} {:32} {:11} {:>8} {:>9} {:>9} {:>8}"
_HOP_LINE = "{:29} {:16} {:8} {:32} {:11} {:>11} {:36} {:6} {:>7} {:>11}"
_OPS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}


@dataclass
class Change:
    """One event on its way; `seen` is hop → milliseconds since the source's commit."""

    topic: str
    partition: int
    offset: int
    table: str
    op: str
    key: str
    lsn: int
    committed_at: float
    arrived: float
    transaction: int | None = None
    seen: dict[str, int] = field(default_factory=dict)
    on_seen: Callable[[Change, str], None] = lambda change, hop: None

    def mark(self, hop: str) -> None:
        if hop not in self.seen:
            self.seen[hop] = round((time.time() - self.committed_at) * 1_000)
            self.on_seen(self, hop)

    def as_row(self) -> dict[str, Any]:
        """The row that is printed, with the names of FIELDS; None where a hop was not seen."""
        return self._facts() | {f"{hop}_ms": self.seen.get(hop) for hop in hops.HOPS}

    def as_hop(self, hop: str, passed_over: int) -> dict[str, Any]:
        """One hop that has shown it, with the names of HOP_FIELDS."""
        return self._facts() | {
            "transaction": self.transaction,
            "event": f"{self.topic}/{self.partition}/{self.offset}",
            "hop": hop,
            "ms": self.seen[hop],
            "passed_over": passed_over,
        }

    def _facts(self) -> dict[str, Any]:
        moment = datetime.fromtimestamp(self.committed_at, timezone.utc)
        return {
            "time": moment.isoformat(timespec="milliseconds"),
            "table": self.table,
            "op": _OPS.get(self.op, self.op),
            "key": self.key,
            "lsn": lsn_text(self.lsn),
        }


def run_watch(tables: Sequence[str], fmt: str, each_hop: bool = False) -> int:
    """Print changes as they arrive, until Ctrl-C; returns the exit code.

    `table` prints aligned lines, `csv` a header and lines, `json` one object a line. With
    `each_hop` a line for each hop of a change, as it shows the change.
    """
    fields, line = (HOP_FIELDS, _HOP_LINE) if each_hop else (FIELDS, _LINE)

    def show(row: dict[str, Any]) -> None:
        print(_printed(row, fmt, fields, line), flush=True)

    def on_seen(change: Change, hop: str) -> None:
        if each_hop:
            show(change.as_hop(hop, watch.passed_over))

    watch = Watch(
        load(), tables, note=lambda text: print(text, file=sys.stderr, flush=True), on_seen=on_seen
    )
    if fmt == "csv":
        print(",".join(fields), flush=True)
    elif fmt == "table":
        print(line.format(*fields), flush=True)
    try:
        for change in watch.changes(stop=lambda: False):
            if not each_hop:
                show(change.as_row())
    except KeyboardInterrupt:
        if watch.passed_over:
            print(
                f"{watch.passed_over} changes more were not shown: of a fast stream "
                f"{SHOWN_PER_S} a second are",
                file=sys.stderr,
            )
    return 0


class Watch:
    """Follows the topics of one stack from now on.

    Args:
        note: takes lines for people.
        on_seen: called when a hop has shown a change, at once.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Sequence[str],
        note: Callable[[str], None],
        on_seen: Callable[[Change, str], None] = lambda change, hop: None,
    ) -> None:
        self._on_seen = on_seen
        self._settings = settings
        self._note = note
        self._missing: set[str] = set()
        self._second = 0
        self._taken = 0
        self._spoke = time.monotonic()
        self._only = set(tables)
        self._lake = Lakehouse(settings)
        self._pending: OrderedDict[tuple[str, int, int], Change] = OrderedDict()
        self._landed: dict[str, tuple[str, int]] = {}
        self._ledger_since = datetime.now(timezone.utc) - timedelta(seconds=5)
        self._merged: dict[str, LedgerEntry] = {}
        self.passed_over = 0

    def changes(self, stop: Callable[[], bool]) -> Iterator[Change]:
        """Each change once all hops have shown it, or after GIVE_UP_S with what was seen."""
        consumer = tail.open_consumer(self._settings.kafka)
        connection = connect(self._settings.trino_url)
        looked = 0.0
        try:
            self._follow_topics(consumer)
            self._note("watching; milliseconds are from the source's commit; Ctrl-C ends")
            while not stop():
                if time.monotonic() - looked > TOPICS_EVERY_S:
                    self._follow_topics(consumer)
                    looked = time.monotonic()
                self._read(consumer)
                if self._pending:
                    self._observe_bronze()
                    self._observe_silver()
                    self._observe_trino(connection)
                for change in self._finished():
                    self._spoke = time.monotonic()
                    yield change
                self._break_silence()
        finally:
            consumer.close()
            connection.close()

    def _follow_topics(self, consumer: Any) -> None:
        known = set(consumer.assignment())
        wanted = set(known)
        for topic in consumer.topics():
            name = parse_topic(topic, self._settings.topic_prefix)
            if name is None or name[0] == "headwater":
                continue
            if not self._only or silver_table(*name) in self._only:
                wanted.update(tail.partitions(consumer, topic))
        self._tell_missing(
            {
                silver_table(*name)
                for topic in consumer.topics()
                if (name := parse_topic(topic, self._settings.topic_prefix))
            }
        )
        if wanted == known:
            return
        places = {tp: consumer.position(tp) for tp in known}
        consumer.assign(list(wanted))
        for tp in wanted:
            if tp in places:
                consumer.seek(tp, places[tp])
            elif known:
                consumer.seek_to_beginning(tp)  # a topic made while we watch: all of it is news
            else:
                consumer.seek_to_end(tp)
            consumer.position(tp)

    def _tell_missing(self, there: set[str]) -> None:
        missing = self._only - there
        if missing != self._missing and missing:
            self._note(
                f"nothing of {', '.join(sorted(missing))} has been captured yet; waiting for it "
                "(`./headwater sql 'SHOW TABLES FROM silver'` lists what there is)"
            )
        self._missing = missing

    def _break_silence(self) -> None:
        """Say what the feed waits for, where nothing has been shown for a while."""
        if not self._pending or time.monotonic() - self._spoke < SILENCE_S:
            return
        self._spoke = time.monotonic()
        oldest = next(iter(self._pending.values()))
        waits = next(hop for hop in hops.HOPS if hop not in oldest.seen)
        behind = time.time() - oldest.committed_at
        self._note(
            f"{len(self._pending)} changes are on their way; the oldest, of {oldest.table}, was "
            f"committed {behind:.0f} s ago and waits for {waits}"
        )

    def _takes(self) -> bool:
        """Whether one more change can be followed in this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= SHOWN_PER_S and len(self._pending) < PENDING_MAX

    def _read(self, consumer: Any) -> None:
        if not consumer.assignment():
            time.sleep(0.2)
            return
        for records in consumer.poll(timeout_ms=100).values():
            for record in records:
                change = _change(record, self._settings.topic_prefix)
                if change is None:
                    continue
                if not self._takes():
                    self.passed_over += 1
                    continue
                change.on_seen = self._on_seen
                change.mark("kafka")
                self._pending[(change.topic, change.partition, change.offset)] = change

    def _observe_bronze(self) -> None:
        files = self._lake.bronze_files()
        for topic, partition in {(c.topic, c.partition) for c in self._waiting("bronze")}:
            folder = f"{topic}/partition={partition}"
            end = self._landed_end(files, folder)
            for change in self._waiting("bronze"):
                if (change.topic, change.partition) == (topic, partition) and change.offset < end:
                    change.mark("bronze")

    def _landed_end(self, files: Any, folder: str) -> int:
        newest = hops.last_object(files, folder)
        if newest is None:
            return 0
        if self._landed.get(folder, ("", 0))[0] != newest:
            self._landed[folder] = (newest, hops.last_offset(files, newest) + 1)
        return self._landed[folder][1]

    def _observe_silver(self) -> None:
        self._merged.update(self._lake.ledger(self._ledger_since))
        for change in self._waiting("silver"):
            if _covers(self._merged.get(change.table), change):
                change.mark("silver")

    def _observe_trino(self, connection: Any) -> None:
        waiting = self._waiting("trino")
        if not waiting:
            return
        since = self._ledger_since.strftime("%Y-%m-%d %H:%M:%S.%f")
        cursor = connection.cursor()
        try:
            cursor.execute(
                "SELECT table_name, batch_id, delta_version, offsets, complete_lsn, merged_at "
                f"FROM ops.ledger WHERE merged_at > TIMESTAMP '{since} UTC' ORDER BY merged_at"
            )
            found = cursor.fetchall()
        except trino.exceptions.TrinoUserError:
            return  # the ledger is not registered yet
        names = [column[0] for column in cursor.description or ()]
        shown = {row[0]: ledger_entry(dict(zip(names, row, strict=True))) for row in found}
        for change in waiting:
            if _covers(shown.get(change.table), change):
                change.mark("silver")  # Trino may be the first to be asked after the commit
                change.mark("trino")

    def _waiting(self, hop: str) -> list[Change]:
        return [change for change in self._pending.values() if hop not in change.seen]

    def _finished(self) -> Iterator[Change]:
        now = time.monotonic()
        for place, change in list(self._pending.items()):
            if len(change.seen) == len(hops.HOPS) or now - change.arrived > GIVE_UP_S:
                del self._pending[place]
                yield change
        if not self._pending and self._merged:
            # Nothing waits: what was merged before a little ago need not be read again.
            self._ledger_since = datetime.now(timezone.utc) - timedelta(seconds=5)


def _printed(row: dict[str, Any], fmt: str, fields: Sequence[str], line: str) -> str:
    if fmt == "json":
        return json.dumps(row, ensure_ascii=False)
    values = ["" if row[name] is None else str(row[name]) for name in fields]
    if fmt == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(values)
        return text.getvalue()
    return line.format(*values)


def _covers(entry: LedgerEntry | None, change: Change) -> bool:
    if entry is None:
        return False
    return entry.offsets.get(change.topic, {}).get(change.partition, 0) > change.offset


def _change(record: Any, prefix: str) -> Change | None:
    name = parse_topic(record.topic, prefix)
    if record.value is None or name is None:
        return None
    event = orjson.loads(record.value)
    source = event.get("source") or {}
    key = orjson.loads(record.key) if record.key else {}
    committed_ms = source.get("ts_us", 0) / 1_000 or source.get("ts_ms", 0)
    return Change(
        record.topic,
        record.partition,
        record.offset,
        silver_table(*name),
        str(event.get("op")),
        json.dumps(key, ensure_ascii=False) if key else "",
        int(source.get("lsn") or 0),
        committed_ms / 1_000,
        time.monotonic(),
        source.get("txId"),
    )
