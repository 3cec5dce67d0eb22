"""A live feed of changes, each with the time that every hop took."""

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

from app.lake import hops, tail
from app.lake.flow import Change, Pending
from app.lake.observers import observing
from app.settings import Settings, load
from spark_streaming.naming import parse_topic, silver_table

# More than an eye can follow is sampled, so that what is shown is never long behind.
SHOWN_PER_S = 50
SHOWN_A_TABLE = 5
FOLLOWED_MAX = 200
PENDING_MAX = 2_000
# Who names transactions may have committed some while the watch was starting: the topics' ends are
# read again for those.
EARLIER_S = 30.0
EARLIER_EVENTS_MAX = 2_000  # of a partition
TOPICS_EVERY_S = 2.0
# So long without a line, the feed says what it waits for.
SILENCE_S = 5.0
WATCHING = "watching; milliseconds are from the source's commit"
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
    "where",
)
_LINE = "{:29} {:16} {:8} {:32} {:11} {:>8} {:>9} {:>9} {:>8}"
_HOP_LINE = "{:29} {:16} {:8} {:32} {:11} {:>11} {:36} {:8} {:>7} {:>11} {}"


def run_watch(
    tables: Sequence[str], fmt: str, each_hop: bool = False, follow_stdin: bool = False
) -> int:
    """Print changes as they arrive, until Ctrl-C; returns the exit code.

    Args:
        follow_stdin: lines of stdin are transactions (as events name them), whose changes are
            shown however fast the stream is; its end ends the watch.

    `table` prints aligned lines, `csv` a header and lines, `json` one object a line. With
    `each_hop` a line for each hop of a change, as it shows the change.
    """
    fields, line = (HOP_FIELDS, _HOP_LINE) if each_hop else (FIELDS, _LINE)

    def show(row: dict[str, Any]) -> None:
        print(_printed(row, fmt, fields, line), flush=True)

    def on_seen(change: Change, hop: str) -> None:
        if each_hop:
            show(change.as_hop(hop, watch.passed_over))

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    earlier_s = EARLIER_S if follow_stdin else 0.0
    watch = Watch(load(), tables, note=note, on_seen=on_seen, earlier_s=earlier_s)
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
                f"{watch.passed_over} changes more were not shown: of a fast stream "
                f"{SHOWN_PER_S} a second are",
                file=sys.stderr,
            )
    return 0


def _follow(watch: Watch, lines: Iterable[str], ended: threading.Event) -> None:
    for line in lines:
        if line.strip().isdecimal():
            watch.follow(int(line))
    ended.set()  # whoever asked is gone


class Watch:
    """Follows the topics of one stack from now on.

    Args:
        note: takes lines for people.
        on_seen: called when a hop has shown a change, at once.
        earlier_s: so far back the changes of followed transactions are looked for.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Sequence[str],
        note: Callable[[str], None],
        on_seen: Callable[[Change, str], None] = lambda change, hop: None,
        earlier_s: float = 0.0,
    ) -> None:
        self._settings = settings
        self._note = note
        self._missing: set[str] = set()
        self._second = 0
        self._taken: Counter[str] = Counter()
        self._spoke = time.monotonic()
        self._told_waiting = False
        self._only = set(tables)
        self._pending = Pending(on_seen)
        self._followed: deque[int] = deque(maxlen=FOLLOWED_MAX)
        self._earlier_s = earlier_s
        self._news_since: dict[Any, int] = {}  # place → the first offset that is news for all
        self.passed_over = 0

    def follow(self, transaction: int) -> None:
        """Leave this transaction's changes out of no sample."""
        self._followed.append(transaction)

    def changes(self, stop: Callable[[], bool]) -> Iterator[Change]:
        """Each change once all hops have shown it, or after GIVE_UP_S with what was seen."""
        consumer = tail.open_consumer(self._settings.kafka)
        looked = 0.0
        try:
            self._follow_topics(consumer)
            with observing(self._settings, self._pending, self._note):
                self._note(WATCHING)
                while not stop():
                    if time.monotonic() - looked > TOPICS_EVERY_S:
                        self._follow_topics(consumer)
                        looked = time.monotonic()
                    self._read(consumer)
                    for change in self._pending.finished():
                        self._spoke = time.monotonic()
                        yield change
                    self._break_silence()
        finally:
            consumer.close()

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
        if not known and self._earlier_s:
            self._go_back(consumer)

    def _go_back(self, consumer: Any) -> None:
        self._news_since = {tp: consumer.position(tp) for tp in consumer.assignment()}
        since_ms = round((time.time() - self._earlier_s) * 1_000)
        found = consumer.offsets_for_times(dict.fromkeys(self._news_since, since_ms))
        for tp, end in self._news_since.items():
            if found.get(tp) is not None:
                consumer.seek(tp, max(found[tp].offset, end - EARLIER_EVENTS_MAX))

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
        oldest = self._pending.oldest()
        if oldest is None and self._told_waiting:
            self._told_waiting = False
            self._note(WATCHING)
        if oldest is None or time.monotonic() - self._spoke < SILENCE_S:
            return
        self._told_waiting = True
        self._spoke = time.monotonic()
        waits = next((hop for hop in hops.HOPS if hop not in oldest.seen), "")
        behind = time.time() - oldest.committed_at
        self._note(
            f"{len(self._pending)} changes are on their way; the oldest, of {oldest.table}, was "
            f"committed {behind:.0f} s ago and waits for {waits}"
        )

    def _takes(self, table: str) -> bool:
        """Whether one more change can be followed in this second; the first few of each table are,
        so that a busy one does not hide the others."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._taken.clear()
        self._taken[table] += 1
        few = self._taken[table] <= SHOWN_A_TABLE and len(self._taken) <= SHOWN_PER_S
        return (few or self._taken.total() <= SHOWN_PER_S) and len(self._pending) < PENDING_MAX

    def _read(self, consumer: Any) -> None:
        if not consumer.assignment():
            time.sleep(0.2)
            return
        for place, records in consumer.poll(timeout_ms=100).items():
            for record in records:
                change = _change(record, self._settings.topic_prefix)
                if change is not None:
                    self._take(change, record.offset >= self._news_since.get(place, 0))

    def _take(self, change: Change, is_news: bool) -> None:
        followed = change.transaction in self._followed and len(self._pending) < PENDING_MAX
        if followed or (is_news and self._takes(change.table)):
            self._pending.add(change)
        elif is_news:
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
        time.time(),
        source.get("txId"),
        _debezium_ms(event, committed_ms),
    )


def _debezium_ms(event: Mapping[str, Any], committed_ms: float) -> int | None:
    taken_ms = event.get("ts_us", 0) / 1_000 or event.get("ts_ms", 0)
    return max(0, round(taken_ms - committed_ms)) if taken_ms and committed_ms else None
