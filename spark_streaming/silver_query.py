"""The query of the service `silver`: its state, its batches, and a graceful end."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spark_streaming.batch.backlog import Backlog
from spark_streaming.batch.gate import Gate
from spark_streaming.batch.pacing import Pace
from spark_streaming.batch.replay import Replay
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.batch.runner import BatchRunner
from spark_streaming.batch.swap import Swaps
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.batch.upkeep.maintenance import Maintenance
from spark_streaming.batch.upkeep.table_upkeep import OpsTable
from spark_streaming.capture_choice import Choice
from spark_streaming.compaction.passes import start_packing
from spark_streaming.contract.contract_files import folders_of
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.table_share import FIRST, TableShare
from spark_streaming.fold.routing import offsets_for
from spark_streaming.history.erasures import Erasures
from spark_streaming.history.history_pass import HistoryPass
from spark_streaming.job_settings import SilverSettings
from spark_streaming.ops.breaches import Breaches
from spark_streaming.ops.erase_requests import EraseDesk
from spark_streaming.ops.job_metrics import Metrics
from spark_streaming.ops.ledger import Ledger, Restored
from spark_streaming.ops.own_tables import OwnTables
from spark_streaming.ops.requests import Desk
from spark_streaming.ops.resume_requests import take_requests
from spark_streaming.ops.schema_changes import SchemaChanges
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.quarantine.raw_events import path_of
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.expired_events import Archive
from spark_streaming.reading.kafka_source import (
    EventReader,
    kafka_options,
    read_once,
    starting_offsets,
)
from spark_streaming.reading.offsets import OffsetLog
from spark_streaming.reading.written_ends import WrittenEnds
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.beginnings import Beginnings, not_in_silver
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.describer import Describer
from spark_streaming.schema.empty_tables import EmptyTables
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import (
    EXPECTATIONS,
    LEDGER,
    QUARANTINE,
    SCHEMA_CHANGES,
    Lake,
    bronze_files,
)
from spark_streaming.tables.engines.choice import engines_of
from spark_streaming.tables.silver_names import SilverNames
from spark_streaming.tables.silver_table import TableOptions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger("spark_streaming")
QUERY_NAME = "silver"
# Spark's Kafka source, which waits for events where Spark would ask for new offsets again and again.
WAITING_KAFKA = "dev.headwater.spark.WaitingKafka"
# The interval of checks for requests: a listing of a few milliseconds between two batches.
REQUESTS_CHECK_S = 1.0
# The job's tables beside silver's own.
OPS_TABLES = (LEDGER, QUARANTINE, path_of(QUARANTINE), EXPECTATIONS, SCHEMA_CHANGES)


@dataclass(frozen=True)
class Working:
    """What the batches work with; made in the first one, when the query has its id."""

    runner: BatchRunner
    backlog: Backlog
    owned: OwnTables
    beginnings: Beginnings
    replay: Replay
    erasures: Erasures
    maintenance: Maintenance
    changes: SchemaChanges
    describer: Describer
    history: HistoryPass


class Silver:
    """The running job: one query, its state, and a graceful end."""

    def __init__(self, settings: SilverSettings, session: SparkSession, lake: Lake) -> None:
        self._settings = settings
        self._share = TableShare.of_settings(settings)
        self._session = session
        self._engines = engines_of(settings, session)
        self._lake = lake
        self._options = TableOptions(settings.silver_retention_minutes, settings.change_data_feed)
        self._offset_log = OffsetLog(settings.checkpoint_url, session)
        self._pool = ThreadPoolExecutor(settings.merge_threads, thread_name_prefix="merge")
        self._working: Working | None = None
        self._desk = Desk(self._lake)
        self._requests_checked_at = 0.0
        self._stopping = threading.Event()
        # Spark takes a batch's limit when the query starts, and in offsets only.
        self._offsets_max = settings.batch_offsets_max
        self._switching = threading.Event()
        # Held while a batch or its maintenance runs. Whoever stops the query acquires it first, so that no merge is
        # interrupted.
        self._busy = threading.Lock()
        self._pace = Pace()
        self.metrics = Metrics()

    def start(self) -> Any:
        """Start the streaming query and return it."""
        frame = (
            self._session.readStream.format(WAITING_KAFKA)
            .options(**kafka_options(self._settings))
            .option("subscribePattern", self._share.topic_pattern(self._settings.topic_prefix))
            .option("startingOffsets", self._begin())
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", str(self._offsets_max))
            .load()
        )
        return (
            frame.writeStream.queryName(QUERY_NAME)
            .option("checkpointLocation", self._settings.checkpoint_url)
            .foreachBatch(self._on_batch)
            .start()
        )

    def _begin(self) -> str:
        if self._offset_log.exists():
            return "earliest"  # the checkpoint counts
        ledger = Ledger(self._lake, "", self._options.properties(), self._share)
        return starting_offsets(self._settings, ledger.restore().offsets)

    def stop(self, query: Any, timeout_s: float) -> bool:
        """Let the batch that runs finish (at most `timeout_s`), then end the query.

        Returns: whether everything has ended; else a thread may still commit.
        """
        self._stopping.set()
        ended = self._busy.acquire(timeout=timeout_s)
        if ended:
            self._busy.release()  # a batch that begins now ends at once, and does not keep the query
        query.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._working is None:
            return ended
        self._working.maintenance.stop()
        ended = all([ended, self._working.describer.stop(), self._working.history.stop()])
        return ended and self._working.maintenance.is_idle()

    def resized(self, query: Any) -> Any:
        """The query; it is restarted if its events are much larger or smaller than estimated."""
        if self._working is None or not self._working.backlog.bytes_an_offset:
            return query
        wanted = offsets_for(self._settings, self._working.backlog.bytes_an_offset)
        if self._offsets_max // 2 <= wanted <= self._offsets_max * 2:
            return query
        with self._busy:
            self._switching.set()
        query.stop()
        log.info("batches of at most %d offsets (%d before)", wanted, self._offsets_max)
        self._offsets_max = wanted
        self._switching.clear()
        return self.start()

    def _on_batch(self, frame: DataFrame, batch_id: int) -> None:
        with self._busy:
            if self._stopping.is_set() or self._switching.is_set():
                raise InterruptedError(
                    "the query is stopping: this batch runs after its next start"
                )
            started = time.monotonic()
            self._pace.begin()
            if self._working is None:
                self._working = self._first_batch()
            working, runner = self._working, self._working.runner
            self._serve_requests(working)
            self._offset_log.flush(batch_id)
            span = working.beginnings.started(self._offset_log.span(batch_id), batch_id)
            runner.begin(batch_id, span)
            events, more = working.backlog.split(batch_id, span)
            rows = runner.run(batch_id, events, span, started=started, more=more)
            gate = runner.steps.gate
            self.metrics.batch_done(rows)
            self.metrics.rules_broken(gate.found)
            self.metrics.freshness_targets(gate.contracts.freshness_targets())
            self.metrics.schema_changed(working.changes.taken())
            working.maintenance.after_batch(rows)
            working.describer.after_batch()
            working.history.after_batch(rows)
            self.metrics.histories(working.history.waiting_s())
            took_s = time.monotonic() - started
        pause_s = self._pace.pause_s(took_s, span.size, self._offsets_max)
        if pause_s:
            log.debug("the machine is busy: the next batch is planned in %.1f s", pause_s)
            self._stopping.wait(pause_s)

    def _serve_requests(self, working: Working) -> None:
        """Carry out requests to this process; heartbeats cause a batch every few seconds."""
        now = time.monotonic()
        if now - self._requests_checked_at < REQUESTS_CHECK_S:
            return
        self._requests_checked_at = now
        try:
            working.owned.serve(self._desk, working.replay.carry_out)
            working.erasures.serve()
        except OSError as error:  # the store is away for a moment: requests wait
            log.warning("cannot read requests, trying again later: %s", error)
        for topic, result, engine in working.replay.merged:
            working.runner.note_replay(topic, result, engine)
        working.replay.merged.clear()

    def _first_batch(self) -> Working:
        """Restore the state from the lake, inside the first batch, when the query has its id."""
        settings, lake, properties = self._settings, self._lake, self._options.properties()
        query_id = self._offset_log.query_id()
        share, prefix = self._share, settings.topic_prefix
        ledger = Ledger(lake, query_id, properties, share)
        restored = ledger.restore()
        own_stops = [stop for stop in restored.stops if share.has_topic(stop.topic, prefix)]
        restored = replace(restored, stops=own_stops)
        owned = OwnTables(lake, share, prefix)
        files = ContractFolder(
            folders_of(settings.contracts_path),
            settings.mask_secret.get_secret_value().encode(),
            names=SilverNames(lake).of,
        )
        breaches = Breaches(lake, query_id, properties)
        quarantine = Quarantine(lake, query_id, properties, files.hiding_of)
        changes = SchemaChanges(lake, properties)
        for table in (breaches, quarantine, changes):
            table.ensure()
        topics, empty_tables, describer = self._topics(files, changes, restored)
        gate = Gate(files, quarantine, breaches, topics)
        steps = TableSteps(query_id, topics, gate, self._engines.driver)
        archive = Archive(bronze := Bronze(bronze_files(settings.store)))
        stopped = Resumption(
            steps,
            ledger,
            restored,
            read_once(settings.kafka, archive),
            requested=lambda: take_requests(lake, owned.has),
            swaps=Swaps(lake, topics, quarantine, owned.has),
        )
        rounds = Rounds(steps, self._pool)
        ends = WrittenEnds(settings.kafka, share.topic_pattern(prefix))
        runner = BatchRunner(
            rounds, stopped, ledger, restored, ends=ends, empty_tables=empty_tables
        )
        reader = EventReader(settings, self._session, archive)
        unseen = not_in_silver(lake, prefix)
        # The first job maintains the tables to which all jobs append.
        kept = ledger if share.number == FIRST else None
        ops: dict[str, OpsTable] = {
            "quarantine": quarantine,
            "quarantine_events": quarantine.events,
            "expectations": breaches,
            "schema_changes": changes,
        }
        if kept is None:
            ops.clear()
        else:
            start_packing(settings, lake, self.metrics.maintenance)
        history = HistoryPass(lake, bronze, prefix, topics.tables, files, self._options, restored)
        return Working(
            runner,
            Backlog(settings, rounds, stopped.is_stopped, reader, self._engines, self._session),
            owned,
            Beginnings(reader.direct, archive.first, restored.offsets, unseen),
            Replay(steps, stopped.is_stopped),
            Erasures(EraseDesk(lake), quarantine, topics, owned.has, history.erase),
            Maintenance(
                lake,
                topics,
                kept,
                self._options,
                ops,
                self.metrics.maintenance,
                files,
                settings.maintenance_budget_ms / 1000,
            ),
            changes,
            describer,
            history,
        )

    def _topics(
        self, files: ContractFolder, changes: SchemaChanges, restored: Restored
    ) -> tuple[Topics, EmptyTables, Describer]:
        """The captured topics, those of their tables that have had no event, and what they mean."""
        settings, lake = self._settings, self._lake
        choice = Choice.of(settings)
        dsn = settings.capture_dsn.get_secret_value()
        contracts = ContractStore(lake, dsn, files.texts_of, choice)
        watch = CatalogWatch(dsn, choice=choice)
        evolver = Evolver(contracts, watch, files.evolution_of, changes)
        prefix = settings.topic_prefix
        topics = Topics(lake, contracts, prefix, self._options, restored.high_water, evolver)
        empty_tables = EmptyTables(watch, topics, prefix, settings.publication, share=self._share)
        return topics, empty_tables, Describer(topics, contracts, files, watch)
