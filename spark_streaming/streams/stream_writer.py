"""Moves one stream from its topic into its table.

The protocol has these steps; a crash between any two of them is repaired by repeating all:
1. Read the events from the offsets that the table's own log has reached.
2. Put those that break the contract into quarantine, unless they are there already.
3. Append the others in one commit with the new offsets; leave out keys that the table has already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Protocol

from spark_streaming.batch.upkeep.table_need import Need
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.ops.requests import Answer, Outcome, Request
from spark_streaming.quarantine.quarantine import DISCARDED, OPEN, REPLAYED, Quarantine
from spark_streaming.quarantine.quarantined_rows import place_of
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import DirectReader
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.storage.change_feed import wants_feed
from spark_streaming.storage.lake import STREAM_QUARANTINE, Lake
from spark_streaming.streams.stream_contract import Stream
from spark_streaming.streams.stream_event import Event, Judge, Refused
from spark_streaming.streams.stream_metrics import StreamMetrics
from spark_streaming.streams.stream_settings import StreamSettings
from spark_streaming.streams.stream_table import StreamError, StreamTable

log = logging.getLogger(__name__)
EXPIRE_PAUSE_S = 3_600.0
_REPLAY_EVENTS = 1_000


class StreamQuarantine(Quarantine):
    """Events of streams that broke their contract.

    They have a table of their own, because another process is the only writer of `ops.quarantine`.
    """

    path = STREAM_QUARANTINE


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(timezone.utc)


class Decoder(Protocol):
    """Makes a row's event of a Kafka record. Raises: Refused."""

    def decode(self, raw: RawEvent) -> Event: ...


class StreamWriter:
    """Writes one stream's table; not safe for several threads.

    Args:
        reader: reads Kafka, and bronze for events that Kafka has expired.
        clock: gives the time from which the retention counts.
    """

    def __init__(
        self,
        settings: StreamSettings,
        lake: Lake,
        reader: DirectReader,
        quarantine: StreamQuarantine,
        stream: Stream,
        metrics: StreamMetrics,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.stream = stream
        self.topic = stream.topic(settings.topic_prefix)
        self.table = StreamTable(
            lake,
            stream,
            settings.silver_retention_minutes,
            feed=wants_feed(settings.change_data_feed, stream.name),
        )
        self._events_max = settings.streams_batch_events_max
        self._bytes_max = settings.streams_batch_mb_max << 20
        self._reader = reader
        self._quarantine = quarantine
        self._judge = self._decoder()
        self._metrics = metrics
        self._clock = clock
        self._positions: dict[int, int] | None = None
        self.commits = 0
        self._expired_at = -EXPIRE_PAUSE_S
        self._need = Need.of(settings.silver_retention_minutes, time.monotonic())
        self._counted = 0

    def follow(self, stream: Stream) -> None:
        """Use a changed contract from now on."""
        self.stream = stream
        self.table.follow(stream)
        self._judge = self._decoder()

    def step(self, ends: Mapping[int, int]) -> bool:
        """Write the next events, if there are any, into the table.

        Args:
            ends: partition → the offset after its last record.
        Returns: whether more are waiting. Raises: StreamError, OSError, and errors of Delta and Kafka; the next
            step then begins by reading the table's state again.
        """
        try:
            return self._step(ends)
        except Exception:
            self._positions = None
            self.table.forget()
            raise

    def _step(self, ends: Mapping[int, int]) -> bool:
        positions = self._known(ends)
        behind = {p: end for p, end in ends.items() if end > positions.get(p, 0)}
        lag = sum(end - positions.get(p, 0) for p, end in behind.items())
        self._metrics.lag(self.stream.name, lag)
        if not behind:
            self._keep()
            return False
        raw, reached = self._read(positions, behind)
        events, rejects = self._judged(raw)
        if rejects:
            self._quarantine.put_missing(self.stream.name, rejects)
        done = self.table.append(events, self.topic, reached, self._clock())
        positions.update(reached)
        self._metrics.appended(self.stream.name, done, len(rejects))
        self.commits += 1
        self._keep()
        return any(end > positions.get(p, 0) for p, end in behind.items())

    def carry_out(self, request: Request) -> list[Outcome]:
        """Replay or discard this stream's entries of quarantine; repeating it changes nothing."""
        named = set(request.places)
        outcomes: list[Outcome] = []
        some: list[Event] = []
        for entry in self._quarantine.unresolved(self.stream.name):
            place = place_of(entry.event)
            if entry.status != OPEN or (named and place not in named):
                continue
            if request.action == "discard":
                outcomes.append(Outcome(self.stream.name, place, "discarded"))
                continue
            try:
                some.append(self._judge.decode(entry.event))
                outcomes.append(Outcome(self.stream.name, place, "replayed"))
            except Refused as refused:
                outcomes.append(Outcome(self.stream.name, place, "open", refused.reason))
            if len(some) >= _REPLAY_EVENTS:
                self.table.append(some, self.topic, {}, self._clock())
                some = []
        if some:
            self.table.append(some, self.topic, {}, self._clock())
        for outcome, status in (("replayed", REPLAYED), ("discarded", DISCARDED)):
            places = [found.place for found in outcomes if found.outcome == outcome]
            if places:
                self._quarantine.close(places, status)
        return outcomes

    # -- inside

    def _decoder(self) -> Decoder:
        return Judge(self.stream)

    def _known(self, ends: Mapping[int, int]) -> dict[int, int]:
        if self._positions is None:
            self._positions = self.table.positions(self.topic, sorted(ends))
        for partition, offset in self._positions.items():
            if offset > ends.get(partition, offset):
                raise StreamError(
                    f"stream `{self.stream.name}`: silver has reached offset {offset} of partition "
                    f"{partition}, but {self.topic} ends at {ends[partition]}\n"
                    "  hint: the topic was deleted or made again; give the stream a new name"
                )
        return self._positions

    def _read(
        self, positions: Mapping[int, int], behind: Mapping[int, int]
    ) -> tuple[list[RawEvent], dict[int, int]]:
        """The next events in the order of their offsets, and the next offset of each partition."""
        limit = self._events_max
        while True:
            share = max(1, limit // len(behind))
            starts = {p: positions.get(p, 0) for p in behind}
            reached = {p: min(end, starts[p] + share) for p, end in behind.items()}
            span = BatchSpan({self.topic: starts}, {self.topic: reached})
            try:
                whole = None if limit <= 1 else self._bytes_max
                found = self._reader.read(span, whole).get(self.topic, [])
                return sorted(found, key=lambda event: (event.partition, event.offset)), reached
            except TooManyBytesError:
                limit = max(1, limit // 4)

    def _judged(self, raw: Sequence[RawEvent]) -> tuple[list[Event], list[Reject]]:
        events, rejects = [], []
        for one in raw:
            try:
                events.append(self._judge.decode(one))
            except Refused as refused:
                rejects.append(Reject(one, refused.rule, refused.reason))
        return events, rejects

    def _keep(self) -> None:
        """Maintain the table between two appends, also if it has had none for long."""
        self._expire()
        now = time.monotonic()
        while self._counted < self.commits:
            self._counted += 1
            self._need.changed(now)
        steps = self._need.due(now)
        if steps.join:
            self.table.join_small_files()
        if steps.checkpoint:
            self.table.checkpoint()
        if steps.clean:
            self.table.drop_old_files()
        if steps:
            self._need.done(steps, now)

    def _expire(self) -> None:
        if time.monotonic() - self._expired_at < EXPIRE_PAUSE_S:
            return
        self._expired_at = time.monotonic()
        gone = self.table.expire(self._clock())
        if gone:
            days = ", ".join(day.isoformat() for day in gone)
            log.info("stream %s: deleted the day(s) %s", self.stream.name, days)
            self.commits += 1


def answer(writers: Mapping[str, StreamWriter], request: Request) -> Answer:
    """Carry out a request about quarantine entries of streams."""
    try:
        outcomes: list[Outcome] = []
        for name, writer in writers.items():
            mine = [place for place in request.places if place.topic == writer.topic]
            if request.places and not mine:
                continue
            if not request.places and request.tables and name not in request.tables:
                continue
            outcomes += writer.carry_out(request)
        return Answer(outcomes)
    except StreamError as error:
        return Answer([], str(error))
