"""Moves the audit's topic into `ops.audit`.

The protocol, in order; a crash between any two steps is repaired by doing it again:
1. Read the events from the offset in memory, or at a start from the one in the table's own log.
2. Append people's queries at once, each by its id, and leave the log's offset unchanged. Refused sign-ins and
   changed files are appended at once too.
3. Each minute append the sums of the stack's own queries, lost queries and gaps, and in the same commit the offset
   for a restart: that of the oldest query that has started and not ended.
A restart reads events that the table has. It recognises them by their numbers, which are in the rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract_files import folders_of
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.reading.kafka_source import DirectReader
from spark_streaming.storage.lake import Lake
from spark_streaming.streams.audit.file_changes import FileChanges
from spark_streaming.streams.audit.query_events import Ended, Started, Told, decode
from spark_streaming.streams.audit.query_numbers import Gap, Open, QueryNumbers
from spark_streaming.streams.audit.question_sums import OWN, QuestionSums
from spark_streaming.streams.audit.refused_sign_ins import RefusedSignIns
from spark_streaming.streams.audit.trino_probe import TrinoProbe
from spark_streaming.streams.stream_contract import Stream
from spark_streaming.streams.stream_event import Event, Refused
from spark_streaming.streams.stream_metrics import StreamMetrics
from spark_streaming.streams.stream_settings import StreamSettings
from spark_streaming.streams.stream_writer import (
    Decoder,
    StreamQuarantine,
    StreamWriter,
    utc_now,
)

log = logging.getLogger(__name__)
SUM_EVERY_S = 60.0
LOOK_EVERY_S = 1.0
# Events are sent in the order of their numbers, within milliseconds.
GRACE_S = 60.0
# `query.max-execution-time` of trino/config.properties is two hours.
OPEN_MAX_S = 7_800.0
DENIED = ("PERMISSION_DENIED",)
# Rows from files, which are read again after a crash. They have no numbers by which they would be known.
_BY_KEY = ("change", "refused")


class Findings(Protocol):
    """What files say: `found` gives rows, the same ones again until `keep` says that the table has them."""

    def found(self) -> list[Event]: ...

    def keep(self) -> None: ...


class QuestionDecoder:
    """Makes a row of an event that has all of it: a question's end, a verb."""

    def __init__(self, numbers: Callable[[], QueryNumbers]) -> None:
        self._numbers = numbers

    def decode(self, raw: RawEvent) -> Event:
        """Return the row. Raises: Refused."""
        found = decode(raw)
        if isinstance(found, Started):
            raise Refused("no-row", "the start of a question is no row")
        return self.row(found, raw)

    def row(self, found: Ended | Told, raw: RawEvent) -> Event:
        """Return the row of a decoded event. Raises: Refused."""
        if isinstance(found, Told):
            return Event(found.key, found.time, found.values, raw)
        try:
            series, number = self._numbers().place(found.query_id)
        except ValueError as error:
            raise Refused("not-an-event", str(error)) from None
        own = {
            "kind": "query",
            "query_id": found.query_id,
            "series": str(series),
            "numbers": str(number),
        }
        return Event(found.query_id, found.time, {**found.values, **own}, raw)


class AuditWriter(StreamWriter):
    """Writes `ops.audit`; not safe for several threads.

    Args:
        probe: gives the newest query id of Trino; None: nobody asks Trino.
        monotonic: seconds, for the minute and the grace.
        files: finds what files say, of changes and of refused sign-ins; None: those of the settings' home, if any.
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
        probe: Callable[[], str | None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        files: Sequence[Findings] | None = None,
    ) -> None:
        super().__init__(settings, lake, reader, quarantine, stream, metrics, clock)
        if probe is None and settings.audited_trino:
            probe = TrinoProbe(settings.audited_trino).newest_id
        if files is None and settings.home is not None:
            changes = FileChanges(folders_of(settings.contracts_path), settings.home)
            files = [changes, RefusedSignIns(settings.home)]
        self._probe = probe
        self._files = files or []
        self._known_keys: set[str] = set()
        self._monotonic = monotonic
        self._numbers = QueryNumbers(GRACE_S, OPEN_MAX_S)
        self._sums = QuestionSums()
        self._begun: dict[str, Started] = {}
        self._findings: list[Event] = []
        self._saved: dict[int, int] = {}
        self._saved_at = self._looked_at = monotonic()

    def _decoder(self) -> Decoder:
        return QuestionDecoder(lambda: self._numbers)

    def _step(self, ends: Mapping[int, int]) -> bool:
        if self._positions is None:
            self._restore()
        positions = self._known(ends)
        behind = {p: end for p, end in ends.items() if end > positions.get(p, 0)}
        lag = sum(end - positions.get(p, 0) for p, end in behind.items())
        self._metrics.lag(self.stream.name, lag)
        if behind:
            raw, reached = self._read(positions, behind)
            self._take(raw)
            positions.update(reached)
            if any(end > positions.get(p, 0) for p, end in behind.items()):
                return True
        self._look_for_missing()
        if self._findings or self._monotonic() - self._saved_at >= SUM_EVERY_S:
            self._save(positions)
        return False

    # -- what arrived

    def _take(self, raw: Sequence[RawEvent]) -> None:
        rows: list[Event] = []
        rejects: list[Reject] = []
        for one in raw:
            try:
                row = self._row(one)
            except Refused as refused:
                rejects.append(Reject(one, refused.rule, refused.reason))
                continue
            if row is not None:
                rows.append(row)
        if rejects:
            self._quarantine.put_missing(self.stream.name, rejects)
        if rows:
            done = self.table.append(rows, self.topic, {}, self._clock())
            self._metrics.appended(self.stream.name, done, len(rejects))
            self.commits += 1
            self._keep()

    def _row(self, raw: RawEvent) -> Event | None:
        """Return the row of an event; None if it has no row of its own, or the table has it already."""
        found = decode(raw)
        if isinstance(found, Told):
            return Event(found.key, found.time, found.values, raw)
        try:
            series, number = self._numbers.place(found.query_id)
        except ValueError as error:
            raise Refused("not-an-event", str(error)) from None
        if isinstance(found, Started):
            self._numbers.started(found.query_id, raw.partition, raw.offset, self._monotonic())
            self._begun[found.query_id] = found
            return None
        self._begun.pop(found.query_id, None)
        if not self._numbers.ended(found.query_id):
            return None
        denied = found.values["error"] in DENIED
        outcome = "denied" if denied else "failed" if found.values["failed"] else "finished"
        self._metrics.answered(outcome)
        if found.account in OWN:
            self._sums.add(found, series, number)
            return None
        return QuestionDecoder(lambda: self._numbers).row(found, raw)

    # -- missing events

    def _look_for_missing(self) -> None:
        now = self._monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        if self._probe is not None and (newest := self._probe()) is not None:
            self._numbers.issued(newest)
        self._look_into_files()
        for gap in self._numbers.overdue(now):
            count = gap.last - gap.first + 1
            log.warning(
                "%d question(s) to Trino are missing: numbers %s of %s", count, gap, gap.series
            )
            self._metrics.missed(count)
            self._findings.append(self._of_gap(gap, count))
        for one in self._numbers.unended(now):
            log.warning("question %s has no end: Trino was ended before it", one.query_id)
            self._metrics.missed(1)
            self._findings.append(self._of_lost(one))

    def _look_into_files(self) -> None:
        for files in self._files:
            new = [one for one in files.found() if one.key not in self._known_keys]
            if not new:
                files.keep()
            for one in new:
                self._known_keys.add(one.key)
                self._findings.append(one)
                if one.values["kind"] == "refused":
                    self._metrics.answered("denied", one.values["queries"])

    def _of_gap(self, gap: Gap, count: int) -> Event:
        values: dict[str, Any] = {
            "kind": "gap",
            "series": str(gap.series),
            "numbers": str(gap),
            "queries": count,
        }
        return Event(f"gap:{gap.series}:{gap}", self._clock(), values)

    def _of_lost(self, one: Open) -> Event:
        begun = self._begun.pop(one.query_id)
        series, number = self._numbers.place(one.query_id)
        values = {
            **begun.values,
            "kind": "lost",
            "query_id": one.query_id,
            "series": str(series),
            "numbers": str(number),
            "queries": 1,
        }
        return Event(f"{one.query_id}:lost", begun.time, values)

    # -- state for a restart

    def _save(self, positions: Mapping[int, int]) -> None:
        kept = self._numbers.kept_offsets()
        reached = {p: min(offset, kept.get(p, offset)) for p, offset in positions.items()}
        self._saved_at = self._monotonic()
        rows = [*self._sums.taken(), *self._findings]
        self._findings = []
        if not rows and reached == self._saved:
            self._keep_files()
            self._expire()
            return
        done = self.table.append(rows, self.topic, reached, self._clock())
        self._keep_files()
        self._saved = reached
        self._metrics.appended(self.stream.name, done, 0)
        self.commits += 1
        self._keep()

    def _keep_files(self) -> None:
        for files in self._files:
            files.keep()

    def _restore(self) -> None:
        """Begin with the table's numbers of today and yesterday."""
        self._numbers = QueryNumbers(GRACE_S, OPEN_MAX_S)
        self._sums = QuestionSums()
        self._begun, self._findings, self._saved = {}, [], {}
        since = self._clock().date() - timedelta(days=1)
        rows = (
            self.table.ensure()
            .to_pyarrow_dataset()
            .to_table(
                columns=["event_time", "event_key", "kind", "series", "numbers"],
                filter=(pc.field("day") >= pa.scalar(since, pa.date32()))
                & (pc.field("numbers").is_valid() | pc.field("kind").isin(_BY_KEY)),
            )
        )
        self._known_keys = set()
        for row in rows.sort_by("event_time").to_pylist():
            if row["kind"] in _BY_KEY:
                self._known_keys.add(row["event_key"])
                continue
            done = row["kind"] in ("query", "sum")
            self._numbers.restore(row["series"], row["numbers"], done=done)
