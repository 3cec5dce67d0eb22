"""Merges the parts of a batch that do not fit the driver's memory: in rounds, slices or executors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from spark_streaming.batch.part import Failed, Merged, Work
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.table_steps import merge_retried, taken_of
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.events.event import RawEvent
from spark_streaming.fold.executors import Executors, folded_rows
from spark_streaming.fold.fold_tasks import PinnedTable, Report
from spark_streaming.fold.keyed_in_parts import (
    Before,
    LargePart,
    NotFoldableByKey,
    fold_by_key,
    positions_of,
)
from spark_streaming.fold.routing import route
from spark_streaming.fold.row_lookup import Key, present_keys, values_of
from spark_streaming.job_settings import SilverSettings
from spark_streaming.ops.stopped import Slice, TableStoppedError
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import EventReader, Events, ExpiredError
from spark_streaming.reading.offsets import WHOLE, BatchSpan, slice_end, slice_version
from spark_streaming.schema.topic import Topic
from spark_streaming.tables.engine_protocol import Commit, MergeResult
from spark_streaming.tables.engines.choice import Engines
from spark_streaming.tables.silver_table import SilverTable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)
# The first event of a topic names its table; tombstones may precede it.
PEEK_OFFSETS = 20
# Smaller batches are not used to estimate the event size of a backlog.
SIZED_OFFSETS_MIN = 1_000


@dataclass(frozen=True)
class _Batch:
    id: int
    span: BatchSpan

    def of(self, name: str) -> BatchSpan:
        return self.span.of({name})


class Backlog:
    """Splits a batch into parts that each fit the memory of the process that folds them."""

    def __init__(
        self,
        settings: SilverSettings,
        rounds: Rounds,
        is_stopped: Callable[[str], bool],
        reader: EventReader,
        engines: Engines,
        session: SparkSession,
    ) -> None:
        self._driver_max = settings.small_batch_offsets_max
        self._bytes_max = settings.small_batch_mb_max << 20
        self._engines = engines
        self._rounds = rounds
        self._steps = rounds.steps
        self._topics = rounds.steps.topics
        self._is_stopped = is_stopped
        self._reader = reader
        self._session = session
        self._resumed = False
        self._met: set[str] = set()
        self._expired: dict[str, ExpiredError] = {}  # by the topics that lack events
        # Measured in the newest batch of SIZED_OFFSETS_MIN or more; an estimate for the next ones.
        self.bytes_an_offset = 0.0
        self._bytes = 0

    def split(self, batch_id: int, span: BatchSpan) -> tuple[Events, Iterator[Work]]:
        """Read the events of the first round. Returns: these events, and the work for the rest.

        A usual, small batch has only the first round.
        """
        batch = _Batch(batch_id, span)
        self._bytes = 0
        sizes = {n: size for n, size in span.sizes().items() if not self._is_stopped(n)}
        ways = route(sizes, driver_max=self._driver_max, large_min=self._engines.large_min)
        events, sliced = Events(), list(ways.sliced)
        if ways.rounds:
            events, too_much = self._round(batch, ways.rounds[0])
            sliced += too_much
        return events, self._more(batch, ways.rounds[1:], sliced, ways.large)

    def _more(
        self, batch: _Batch, rounds: list[list[str]], sliced: list[str], large: list[str]
    ) -> Iterator[Work]:
        for names in rounds:
            yield Work(names, partial(self._later_round, batch, names))
        for name in sliced:
            yield Work([name], partial(self._sliced, batch, name))
        for name in large:
            yield Work([name], partial(self._large, batch, name))
        while self._expired:
            name, error = self._expired.popitem()
            yield Work([name], partial(_stop_table, error))
        self._resumed = True
        if batch.span.size >= SIZED_OFFSETS_MIN:
            self.bytes_an_offset = self._bytes / batch.span.size

    def _later_round(self, batch: _Batch, names: list[str]) -> list[Merged | Failed]:
        events, too_much = self._round(batch, names)
        parts = self._rounds.take(batch.id, events)
        for name in too_much:
            parts += self._sliced(batch, name)
        return parts

    def _round(self, batch: _Batch, names: list[str]) -> tuple[Events, list[str]]:
        """Read whole parts. Returns: their events, and the topics that need slices instead."""
        try:
            events = self._read(batch.span.of(set(names)), self._bytes_max)
        except TooManyBytesError as error:
            log.info("merging %d tables in slices: %s", len(names), error)
            return Events(), names
        except ExpiredError as error:
            self._expired |= dict.fromkeys(error.topics, error)
            left = [name for name in names if name not in error.topics]
            return self._round(batch, left) if left else (Events(), [])
        if self._resumed:
            return events, []
        # A previous process may have ended between two slices of this batch.
        found = self._rounds.each(lambda item: self._is_cut(batch, *item), list(events.items()))
        cut = [name for name, is_cut in zip(events, found, strict=True) if is_cut]
        return {name: some for name, some in events.items() if name not in cut}, cut

    def _read(self, span: BatchSpan, bytes_max: int | None) -> Events:
        events = self._reader.read(span, bytes_max)
        for some in events.values():
            self._bytes += sum(len(event.value or b"") for event in some)
        return events

    def _is_cut(self, batch: _Batch, name: str, events: list[RawEvent]) -> bool:
        try:
            topic = self._topics.resolve(name, events)
        except CatalogUnreachableError:
            return False  # nothing is merged yet; preparing the part will raise this again
        return 0 < self._steps.reached(topic, batch.id) < WHOLE

    def _resolve(self, batch: _Batch, name: str) -> Topic:
        """Find the topic; the first events of a new topic name its table."""
        events = [] if name in self._met else self._peek(batch.of(name), name)
        topic = self._topics.resolve(name, events)
        self._met.add(name)
        return topic

    def _peek(self, span: BatchSpan, name: str) -> list[RawEvent]:
        size = min(span.size, PEEK_OFFSETS)
        while True:
            try:
                limit = self._bytes_max if size > 1 else None
                return self._reader.read(span.between(0, size), limit).get(name, [])
            except TooManyBytesError:
                size = max(1, size // 4)

    # -- in slices

    def _sliced(self, batch: _Batch, name: str) -> list[Merged | Failed]:
        """Merge a part in slices that fit the driver; each is merged before the next is read."""
        whole = Merged.nothing(self._topics.named(name, []))
        span = batch.of(name)
        at, step = 0, self._driver_max
        end = min(step, span.size)
        try:
            topic = self._resolve(batch, name)
            whole = Merged.nothing(topic)
            done = self._steps.reached(topic, batch.id)
            while at < span.size:
                end = slice_end(at, step, span.size, done)
                before = self._bytes
                try:
                    whole = self._slice(batch, name, (at, end), whole)
                except TooManyBytesError:
                    step = max(1, (end - at) // 4)
                    continue
                if self._bytes - before < self._bytes_max // 4:
                    step = min(step * 2, self._driver_max)
                at = end
        except Exception as error:  # noqa: BLE001 - the batch decides
            # The merged slices count; a stopped table resumes at the start of the failed slice.
            piece = span.between(at, end)
            commit = self._slice_commit(batch, whole.topic, end)
            if whole.taken.rows_in:
                whole.topic.merged(whole.taken.high_water)
            if isinstance(error, ExpiredError):
                error = TableStoppedError(str(error))
            return [Failed(whole, error, Slice(piece.start[name], piece.end[name], commit))]
        return [whole]

    def _slice(self, batch: _Batch, name: str, borders: tuple[int, int], whole: Merged) -> Merged:
        """Take one slice through the steps. Returns: the part so far, including this slice."""
        begin, end = borders
        # A single event is read even if it is larger than the limit.
        limit = self._bytes_max if end - begin > 1 else None
        events = self._read(batch.of(name).between(begin, end), limit).get(name, [])
        if not events:
            return whole
        commit = self._slice_commit(batch, whole.topic, end)
        return whole.followed_by(self._steps.take(name, events, commit, whole.taken.high_water))

    def _slice_commit(self, batch: _Batch, topic: Topic, end: int) -> Commit:
        size = batch.of(topic.name).size
        return self._steps.commit(topic.silver_name, slice_version(batch.id, end, size))

    # -- in executors

    def _large(self, batch: _Batch, name: str) -> list[Merged | Failed]:
        """Fold and merge a part in the executors; if that is impossible or fails, in slices."""
        try:
            return [self._by_key(batch, name)]
        except NotFoldableByKey as reason:
            log.info("%s: merging %d offsets in slices: %s", name, batch.of(name).size, reason)
        except Exception as error:  # noqa: BLE001 - if the table is at fault, its slices fail, too
            log.warning("%s: the executors failed: %s: %s", name, type(error).__name__, error)
        return self._sliced(batch, name)

    def _by_key(self, batch: _Batch, name: str) -> Merged:
        topic = self._resolve(batch, name)
        contract, silver = topic.contract, topic.silver
        reached = self._steps.reached(topic, batch.id)
        if contract is None or silver is None or topic.refusal or not folds_by_key(contract):
            raise NotFoldableByKey("message keys do not distinguish its rows")
        if topic.pending is not None:
            raise NotFoldableByKey("its table changed in the source")
        if not self._steps.gate.is_plain(topic):
            raise NotFoldableByKey("it has a contract file, or rows in quarantine")
        span = batch.of(name)
        run = Executors(self._session, partial(self._reader.frame, span))
        if reached == WHOLE:
            report = positions_of(run, span.size, contract, topic.high_water)
            there = MergeResult(silver.version(), skipped=True)
            return replace(_done(topic, report), result=there)
        if reached:
            raise NotFoldableByKey("some slices of it are merged already")
        newer = partial(self._newer_contract, topic)
        large = fold_by_key(run, span.size, contract, topic.high_water, _before(silver), newer)
        self._bytes += large.report.size
        try:
            if large.report.rejected:
                # A row's quarantined event affects the row's later events: see `Gate`.
                raise NotFoldableByKey("some events break the contract")
            return self._merge_large(batch, topic, large)
        finally:
            large.output.close()

    def _newer_contract(self, topic: Topic, unknown: set[str], stale: set[str]) -> Contract | None:
        if self._topics.follow(topic, unknown, stale):
            raise NotFoldableByKey("its table changed in the source")
        return None

    def _merge_large(self, batch: _Batch, topic: Topic, large: LargePart) -> Merged:
        silver, report, engine = topic.silver, large.report, self._engines.executors
        assert silver is not None and engine is not None
        done = _done(topic, report)
        if not report.rows:
            return done
        began = time.monotonic()
        commit = self._steps.batch_commit(topic, batch.id)
        result = merge_retried(
            silver,
            lambda: engine.merge_rows(
                silver, folded_rows(large), commit, count=report.rows, bounds=report.bounds
            ),
        )
        seconds = time.monotonic() - began
        return replace(done, result=result, engine=engine.name, seconds=seconds)


def _stop_table(error: ExpiredError) -> NoReturn:
    """Raise an error that stops only this table, even if other tables lost events, too."""
    raise TableStoppedError(str(error)) from error


def folds_by_key(contract: Contract) -> bool:
    """Whether message keys distinguish a table's rows.

    A table without a key has no message keys. If the replica identity is another index than the
    primary key, an update that changes the key does not say so in its headers.
    """
    return not contract.is_keyless and contract.replica_identity != "index"


def _before(silver: SilverTable) -> Before:
    def pinned(contract: Contract) -> PinnedTable | None:
        with silver.lock:
            if silver.is_empty():
                return None
            return PinnedTable(silver.lake, silver.path, silver.version(), contract)

    def moved(keys: list[Key]) -> Mapping[Key, Mapping[str, Any]]:
        with silver.lock:
            return values_of(silver, keys)

    def present(keys: list[Key]) -> set[Key]:
        with silver.lock:
            return present_keys(silver, keys)

    return Before(pinned, moved, present)


def _done(topic: Topic, report: Report) -> Merged:
    high_water = topic.high_water.merge(report.high_water)
    taken = taken_of(topic, report.events, high_water, report.skipped, report.last_committed_us)
    return Merged(taken, report.rejected, source_time=report.newest)
