"""One micro-batch: decode and fold each table's events, quarantine, merge, write the ledger.

The protocol, in order; a crash between any two steps is repaired by running the batch again:
1. Decode and fold every table's events, in parallel. Nothing is written.
2. Put the rejects into quarantine, in one commit with the batch's transaction id.
3. Merge every touched table, in parallel, each in one commit with the batch's transaction id.
4. Append the ledger's rows, in one commit. Only now the positions count as merged.
5. Spark commits the offsets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.engines.protocol import Commit, MergeEngine, MergeResult
from spark_streaming.envelope import HighWater, decode
from spark_streaming.events import RawEvent, Reject
from spark_streaming.fold import Folded, fold
from spark_streaming.ledger import WHOLE_BATCH, Ledger, LedgerRow, Restored
from spark_streaming.lookup import present_keys, values_of
from spark_streaming.offsets import BatchSpan
from spark_streaming.quarantine import Quarantine
from spark_streaming.table import SilverTable
from spark_streaming.topics import Topic, Topics

log = logging.getLogger(__name__)
# A store that answers badly for a moment is waited for; a longer trouble ends the batch.
RETRY_PAUSES_S = (0.2, 1.0, 3.0)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class BatchFailedError(Exception):
    """One or more tables could not be merged; the batch will be run again from its start."""


@dataclass
class Part:
    """One table's part of a batch, between the steps."""

    topic: Topic
    rows_in: int
    folded: Folded | None = None
    rejects: list[Reject] = field(default_factory=list)
    skipped: int = 0
    high_water: HighWater = field(default_factory=HighWater)
    seen_time: datetime | None = None
    result: MergeResult | None = None
    engine: str | None = None
    source_time: datetime | None = None
    seconds: float = 0.0


class BatchRunner:
    """Runs batches of one query. `choose` picks the merge engine of one folded batch."""

    def __init__(
        self,
        *,
        query_id: str,
        topics: Topics,
        ledger: Ledger,
        quarantine: Quarantine,
        choose: Callable[[Folded], MergeEngine],
        pool: ThreadPoolExecutor,
        restored: Restored,
    ) -> None:
        self._query_id = query_id
        self._topics = topics
        self._ledger = ledger
        self._quarantine = quarantine
        self._choose = choose
        self._pool = pool
        self._complete_lsn = restored.complete_lsn
        self._complete_time: datetime | None = None
        self._seen_time = restored.seen_time

    def run(
        self,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        *,
        saw_all: bool,
        started: float,
    ) -> list[LedgerRow]:
        """Take a batch through steps 1 to 4.

        Args:
            events: by topic, in any order.
            saw_all: the batch takes everything that was visible when it was planned.
            started: `time.monotonic()` at the batch's start, for the ledger.
        Returns: the ledger's rows. Raises: BatchFailedError.
        """
        # Whatever a position of an earlier batch tells to be committed was visible before this
        # batch was planned, in every topic: it is merged when this batch is.
        seen_before = self._topics.greatest_commit_lsn()
        clock = [started, time.monotonic()]
        parts = self._all(lambda item: self._prepare(batch_id, *item), sorted(events.items()))
        clock.append(time.monotonic())
        rejects = {p.topic.silver_name: p.rejects for p in parts if p.rejects}
        if rejects:
            self._quarantine.put(rejects, batch_id)
        self._all(lambda part: self._merge(part, batch_id), parts)
        clock.append(time.monotonic())
        if saw_all and seen_before is not None:
            self._complete_lsn = max(self._complete_lsn or 0, seen_before)
            self._complete_time = self._seen_time
        rows = self._rows(batch_id, parts, span, started)
        self._ledger.append(rows, batch_id)
        clock.append(time.monotonic())
        log.debug(
            "batch %d of %d events in %d tables: %s", batch_id, span.size, len(parts), _steps(clock)
        )
        for part in parts:
            part.topic.high_water = part.high_water
        times = [part.seen_time for part in parts if part.seen_time is not None]
        self._seen_time = max(
            [*times, *([self._seen_time] if self._seen_time else [])], default=None
        )
        return rows

    def _prepare(self, batch_id: int, name: str, events: list[RawEvent]) -> Part:
        topic = self._topics.resolve(name, events)
        part = Part(topic, len(events), high_water=topic.high_water)
        if topic.contract is None or (topic.refusal and not topic.internal):
            part.skipped = len(events)
            return part
        decoded = decode(events, topic.contract, topic.high_water)
        if self._topics.follow(topic, decoded.unknown_columns, decoded.stale_columns):
            decoded = decode(events, topic.contract, topic.high_water)
        part.high_water, part.skipped = decoded.high_water, decoded.skipped
        if decoded.last_committed_us:
            part.seen_time = _EPOCH + timedelta(microseconds=decoded.last_committed_us)
        part.rejects = list(decoded.rejects)
        silver = topic.silver
        if silver is None:
            return part
        with silver.lock:
            if silver.has_commit(self._commit(silver, batch_id)):
                # Folding again would look up rows as this very batch left them.
                part.result = MergeResult(silver.version(), 0, 0, skipped=True)
                return part
            folded = fold(
                decoded.changes,
                topic.contract,
                lambda keys: values_of(silver, keys),
                lambda keys: present_keys(silver, keys),
            )
        part.folded = folded
        part.rejects += folded.rejects
        part.source_time = _newest(folded.rows)
        return part

    def _commit(self, silver: SilverTable, batch_id: int) -> Commit:
        return Commit(f"headwater:{self._query_id}:{silver.name}", batch_id)

    def _merge(self, part: Part, batch_id: int) -> None:
        folded, silver = part.folded, part.topic.silver
        if folded is None or silver is None or _nothing_in(folded):
            return
        commit = self._commit(silver, batch_id)
        engine = self._choose(folded)
        began = time.monotonic()
        for pause in (*RETRY_PAUSES_S, None):
            try:
                with silver.lock:
                    part.result = engine.merge(silver, folded, commit)
                break
            except Exception as error:  # any failure of a merge is tried again
                log.warning("merge of %s failed: %s: %s", silver.name, type(error).__name__, error)
                if pause is None:
                    raise
                time.sleep(pause)
        part.engine = engine.name
        part.seconds = time.monotonic() - began

    def _all(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Run `work` on every item in parallel; all of them end before a failure is raised."""
        if len(items) == 1:
            return [work(items[0])]
        futures: list[Future[Any]] = [self._pool.submit(work, item) for item in items]
        failures = [f.exception() for f in futures]
        real = [failure for failure in failures if failure is not None]
        if real:
            raise BatchFailedError(
                f"{len(real)} of {len(items)} tables failed; the others are merged\n  detail: {real[0]}"
            ) from real[0]
        return [future.result() for future in futures]

    def _rows(
        self, batch_id: int, parts: list[Part], span: BatchSpan, started: float
    ) -> list[LedgerRow]:
        rows = [self._row(batch_id, part, span) for part in parts if not part.topic.internal]
        internal = {
            where: position
            for part in parts
            if part.topic.internal
            for where, position in part.high_water.positions.items()
        }
        whole = LedgerRow(
            self._query_id,
            batch_id,
            WHOLE_BATCH,
            rows_in=sum(part.rows_in for part in parts),
            rows_upserted=sum(row.rows_upserted for row in rows),
            rows_deleted=sum(row.rows_deleted for row in rows),
            rows_quarantined=sum(row.rows_quarantined for row in rows),
            rows_skipped=sum(row.rows_skipped for row in rows),
            offsets=span.of(set(span.sizes())).end,
            high_water=HighWater(internal),
            complete_lsn=self._complete_lsn,
            source_time=self._complete_time,
            duration_ms=int((time.monotonic() - started) * 1000),
        )
        return [*rows, whole]

    def _row(self, batch_id: int, part: Part, span: BatchSpan) -> LedgerRow:
        topic, result = part.topic, part.result
        refused = topic.silver is None
        return LedgerRow(
            self._query_id,
            batch_id,
            topic.silver_name,
            delta_version=result.delta_version if result else None,
            engine=part.engine,
            rows_in=part.rows_in,
            rows_upserted=result.upserted if result else 0,
            rows_deleted=result.deleted if result else 0,
            rows_quarantined=len(part.rejects),
            rows_skipped=part.skipped,
            offsets=span.of({topic.name}).end,
            high_water=part.high_water,
            complete_lsn=None if refused else self._complete_lsn,
            source_time=part.source_time,
            duration_ms=int(part.seconds * 1000),
            refusal=topic.refusal,
        )


def _nothing_in(folded: Folded) -> bool:
    return not len(folded.rows) and folded.truncate_lsn is None and folded.resnapshot_lsn is None


def _newest(rows: pa.Table) -> datetime | None:
    return pc.max(rows["_committed_at"]).as_py() if len(rows) else None


def _steps(clock: list[float]) -> str:
    """Milliseconds of a batch's steps, from the moments between them."""
    names = ("read", "fold", "merge", "ledger")
    times = [int((end - begin) * 1000) for begin, end in pairwise(clock)]
    return ", ".join(f"{name} {ms} ms" for name, ms in zip(names, times, strict=True))
