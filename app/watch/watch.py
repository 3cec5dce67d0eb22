"""Prints changes as they arrive, each with the time that every hop took."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.environment.settings import Settings, load
from app.hops import OBSERVED
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from app.watch.flow import Change, Pending
from app.watch.observers import observing
from spark_streaming.contract.lsn import Lsn

# A fast stream is sampled, so that the lines shown are never far behind.
SHOWN_PER_S = 50
SHOWN_A_TABLE = 5
FOLLOWED_MAX = 200
PENDING_MAX = 2_000
# A caller that names transactions may have committed some while the watch was starting, so the last
# events of the topics are searched for them.
BACK_S = 30.0
BACK_EVENTS_MAX = 2_000  # of a partition
TOPICS_EVERY_S = 2.0
# If no line was shown for this time, the watch shows the reason of the wait.
SILENCE_S = 5.0
WATCHING = "watching; milliseconds are from the source's commit"
_HOP_MS = tuple(f"{hop}_ms" for hop in OBSERVED)
FIELDS = ("time", "table", "op", "key", "lsn", *_HOP_MS)
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
    "where",
)
_LINE = " ".join(["{:29} {:16} {:8} {:32} {:11}", *(f"{{:>{len(name)}}}" for name in _HOP_MS)])
_HOP_LINE = "{:29} {:16} {:8} {:32} {:11} {:>11} {:36} {:8} {:>7} {:>11} {}"


def run_watch(
    tables: Sequence[str], fmt: str, each_hop: bool = False, follow_stdin: bool = False
) -> int:
    """Print changes as they arrive, until Ctrl-C; return the exit code.

    Args:
        fmt: `table` for aligned lines, `csv` for a header and lines, `json` for an object a line.
        each_hop: print a line for each hop of a change, as soon as the hop shows it.
        follow_stdin: read transaction ids from stdin and never leave out their changes; the end of
            stdin ends the watch.
    """
    fields, line = (HOP_FIELDS, _HOP_LINE) if each_hop else (FIELDS, _LINE)

    def show(row: dict[str, Any]) -> None:
        print(_printed(row, fmt, fields, line), flush=True)

    def on_seen(change: Change, hop: str) -> None:
        if each_hop:
            show(change.as_hop(hop, watch.passed_over))

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    back_s = BACK_S if follow_stdin else 0.0
    watch = Watch(load(), tables, note=note, on_seen=on_seen, back_s=back_s)
    if sys.stderr.isatty():
        note("Ctrl-C ends")
    ended = threading.Event()
    if follow_stdin:
        threading.Thread(target=_follow, args=(watch, sys.stdin, ended), daemon=True).start()
    if fmt == "csv":
        print(",".join(fields), flush=True)
    elif fmt == "table":
        print(line.format(*fields), flush=True)
    try:
        for change in watch.changes(stop=ended.is_set):
            if not each_hop:
                show(change.as_row())
    except KeyboardInterrupt:
        if watch.passed_over:
            print(
                f"{watch.passed_over} more changes were not shown: a fast stream is limited to "
                f"{SHOWN_PER_S} lines a second",
                file=sys.stderr,
            )
    return 0


def _follow(watch: Watch, lines: Iterable[str], ended: threading.Event) -> None:
    for line in lines:
        if line.strip().isdecimal():
            watch.follow(int(line))
    ended.set()  # the caller is gone


class Watch:
    """Follows the topics of one stack from now on.

    Args:
        note: prints lines for people.
        on_seen: called at once when a hop has shown a change.
        back_s: how many seconds back to read for changes of followed transactions.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Sequence[str],
        note: Callable[[str], None],
        on_seen: Callable[[Change, str], None] = lambda change, hop: None,
        back_s: float = 0.0,
    ) -> None:
        self._settings = settings
        self._note = note
        self._noted_missing: set[str] = set()
        self._current_second = 0
        self._sampled: Counter[str] = Counter()
        self._shown_at = time.monotonic()
        self._noted_waiting = False
        self._only = set(tables)
        self._known: set[str] = set()  # the names of tables that have a topic
        self._names = Lakehouse(settings).names
        self._pending = Pending(on_seen)
        self._followed: deque[int] = deque(maxlen=FOLLOWED_MAX)
        self._back_s = back_s
        self._starts: dict[Any, int] = {}  # partition → the first offset after the start
        self.passed_over = 0

    def follow(self, transaction: int) -> None:
        """Show all changes of this transaction, also when the stream is sampled."""
        self._followed.append(transaction)

    def changes(self, stop: Callable[[], bool]) -> Iterator[Change]:
        """Yield each change when all hops have shown it, or after GIVE_UP_S with the hops seen so far."""
        consumer = tail.open_consumer(self._settings.kafka)
        listed_at = 0.0
        try:
            self._follow_topics(consumer)
            with observing(self._settings, self._pending, self._note):
                self._note(WATCHING)
                while not stop():
                    if time.monotonic() - listed_at > TOPICS_EVERY_S:
                        self._follow_topics(consumer)
                        listed_at = time.monotonic()
                    self._read(consumer)
                    for change in self._pending.finished():
                        self._shown_at = time.monotonic()
                        yield change
                    self._break_silence()
        finally:
            consumer.close()

    def _follow_topics(self, consumer: Any) -> None:
        known = set(consumer.assignment())
        wanted = set(known)
        for topic in consumer.topics():
            source = self._names.source_of(topic, self._settings.topic_prefix)
            if source is None or source[0] == "headwater":
                continue
            named = {self._names.of(*source), ".".join(source)}
            self._known |= named
            if not self._only or named & self._only:
                wanted.update(tail.partitions(consumer, topic))
        self._note_missing(self._known)
        if wanted == known:
            return
        places = {tp: consumer.position(tp) for tp in known}
        consumer.assign(list(wanted))
        for tp in wanted:
            if tp in places:
                consumer.seek(tp, places[tp])
            elif known:
                consumer.seek_to_beginning(
                    tp
                )  # the topic was made during the watch, so all of it is new
            else:
                consumer.seek_to_end(tp)
            consumer.position(tp)
        if not known and self._back_s:
            self._go_back(consumer)

    def _go_back(self, consumer: Any) -> None:
        self._starts = {tp: consumer.position(tp) for tp in consumer.assignment()}
        since_ms = round((time.time() - self._back_s) * 1_000)
        offsets = consumer.offsets_for_times(dict.fromkeys(self._starts, since_ms))
        for tp, end in self._starts.items():
            if offsets.get(tp) is not None:
                consumer.seek(tp, max(offsets[tp].offset, end - BACK_EVENTS_MAX))

    def _change(self, record: Any) -> Change | None:
        silver = self._names.of_topic(record.topic, self._settings.topic_prefix)
        return None if record.value is None or silver is None else _change(record, silver)

    def _note_missing(self, known: set[str]) -> None:
        missing = self._only - known
        if missing != self._noted_missing and missing:
            self._note(
                f"no change of {', '.join(sorted(missing))} has been captured yet; waiting for one "
                "(`./headwater sql 'SHOW TABLES FROM silver'` lists the tables)"
            )
        self._noted_missing = missing

    def _break_silence(self) -> None:
        """Show the reason of the wait if nothing has been shown for a while."""
        oldest = self._pending.oldest()
        if oldest is None and self._noted_waiting:
            self._noted_waiting = False
            self._note(WATCHING)
        if oldest is None or time.monotonic() - self._shown_at < SILENCE_S:
            return
        self._noted_waiting = True
        self._shown_at = time.monotonic()
        waits = next((hop for hop in OBSERVED if hop not in oldest.seen), "")
        behind = time.time() - oldest.committed_at
        self._note(
            f"{len(self._pending)} changes are on their way; the oldest, of {oldest.table}, was "
            f"committed {behind:.0f} s ago and waits for {waits}"
        )

    def _sample(self, table: str) -> bool:
        """Decide whether to show one more change in this second.

        The first few of each table are shown, so that a busy table does not hide the others.
        """
        second = int(time.monotonic())
        if second != self._current_second:
            self._current_second = second
            self._sampled.clear()
        self._sampled[table] += 1
        few = self._sampled[table] <= SHOWN_A_TABLE and len(self._sampled) <= SHOWN_PER_S
        return (few or self._sampled.total() <= SHOWN_PER_S) and len(self._pending) < PENDING_MAX

    def _read(self, consumer: Any) -> None:
        if not consumer.assignment():
            time.sleep(0.2)
            return
        for place, records in consumer.poll(timeout_ms=100).items():
            for record in records:
                change = self._change(record)
                if change is not None:
                    self._add(change, record.offset >= self._starts.get(place, 0))

    def _add(self, change: Change, is_new: bool) -> None:
        followed = change.transaction in self._followed and len(self._pending) < PENDING_MAX
        if followed or (is_new and self._sample(change.table)):
            self._pending.add(change)
        elif is_new:
            self.passed_over += 1


def _printed(row: dict[str, Any], fmt: str, fields: Sequence[str], line: str) -> str:
    if fmt == "json":
        return json.dumps(row, ensure_ascii=False)
    values = ["" if row[name] is None else str(row[name]) for name in fields]
    if fmt == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(values)
        return text.getvalue()
    return line.format(*values)


def _change(record: Any, silver: str) -> Change:
    event = orjson.loads(record.value)
    source = event.get("source") or {}
    key = orjson.loads(record.key) if record.key else {}
    committed_ms = source.get("ts_us", 0) / 1_000 or source.get("ts_ms", 0)
    return Change(
        record.topic,
        record.partition,
        record.offset,
        silver,
        str(event.get("op")),
        json.dumps(key, ensure_ascii=False) if key else "",
        Lsn(int(source.get("lsn") or 0)),
        committed_ms / 1_000,
        time.time(),
        source.get("txId"),
        _debezium_ms(event, committed_ms),
    )


def _debezium_ms(event: Mapping[str, Any], committed_ms: float) -> int | None:
    received_ms = event.get("ts_us", 0) / 1_000 or event.get("ts_ms", 0)
    return max(0, round(received_ms - committed_ms)) if received_ms and committed_ms else None
