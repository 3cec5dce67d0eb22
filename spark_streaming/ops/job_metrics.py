"""The job's Prometheus metrics, on loopback; the endpoint opens when the query is running."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spark_streaming.ops.breaches import Breach
from spark_streaming.ops.ledger import WHOLE_BATCH, LedgerRow
from spark_streaming.ops.metrics_server import serve_metrics
from spark_streaming.ops.schema_changes import RecordedChange
from spark_streaming.ops.stopped import RESUMING, RUNNING, STOPPED

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one job; `serve` makes them readable over HTTP."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._batch = Histogram(
            "headwater_silver_batch_seconds",
            "Time of a micro-batch in foreachBatch",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter(
            "headwater_silver_rows",
            "Events by what became of them",
            ["table", "outcome"],
            registry=self.registry,
        )
        self._merge = Histogram(
            "headwater_silver_merge_seconds",
            "Time of a table's merge",
            ["table", "engine"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lag = Gauge(
            "headwater_silver_lag_seconds",
            "Source commit to silver commit of the newest row merged",
            ["table"],
            registry=self.registry,
        )
        self._complete = Gauge(
            "headwater_silver_complete_lsn",
            "Silver is complete to this LSN",
            registry=self.registry,
        )
        self._refused = Gauge(
            "headwater_silver_refused",
            "1: the table is not merged",
            ["table"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "headwater_silver_stopped",
            "1: the table is stopped after a failure, or is catching up; the others go on",
            ["table"],
            registry=self.registry,
        )
        self._target = Gauge(
            "headwater_freshness_target_seconds",
            "Source commit to silver, as the table's contract file wants it",
            ["table"],
            registry=self.registry,
        )
        self._history = Gauge(
            "headwater_silver_history_waiting_seconds",
            "For how long the table's history has not been where silver is; while it is filled, since its last slice",
            ["table"],
            registry=self.registry,
        )
        self._broken = Counter(
            "headwater_silver_rule_broken_rows",
            "Rows that broke a rule of their contract",
            ["table", "rule", "action"],
            registry=self.registry,
        )
        self._changed = Counter(
            "headwater_silver_schema_changes",
            "Changes of source tables by what became of them",
            ["table", "kind", "outcome"],
            registry=self.registry,
        )
        self._last = Gauge(
            "headwater_silver_last_batch_timestamp_seconds",
            "When the newest batch ended",
            registry=self.registry,
        )
        self.maintenance = MaintenanceMetrics(self.registry)

    def serve(self, address: str, port: int) -> None:
        """Answer GET /metrics on `address`:`port`, from a thread of its own."""
        serve_metrics(self.registry, address, port)

    def rules_broken(self, breaches: list[Breach]) -> None:
        """Count one batch's broken rules."""
        for breach in breaches:
            labels = (breach.table_name, breach.rule, breach.action)
            self._broken.labels(*labels).inc(breach.rows_broken)

    def freshness_targets(self, targets: Mapping[str, float]) -> None:
        """Show the targets that contract files set (silver table → seconds); remove all others."""
        self._target.clear()
        for table, seconds in targets.items():
            self._target.labels(table).set(seconds)

    def histories(self, waiting_s: Mapping[str, float]) -> None:
        """Show for how long histories wait (silver table → seconds); remove all others."""
        self._history.clear()
        for table, seconds in waiting_s.items():
            self._history.labels(table).set(seconds)

    def schema_changed(self, changes: list[RecordedChange]) -> None:
        """Count changes of source tables."""
        for change in changes:
            self._changed.labels(change.table_name, change.kind, change.outcome).inc()

    def batch_done(self, rows: list[LedgerRow]) -> None:
        """Count one batch by the rows that it left in the ledger."""
        self._last.set(time.time())
        for row in rows:
            if row.table_name == WHOLE_BATCH:
                self._batch.observe(row.duration_ms / 1000)
                if row.complete_lsn is not None:
                    self._complete.set(row.complete_lsn)
                continue
            self._refused.labels(row.table_name).set(1 if row.refusal else 0)
            self._stopped.labels(row.table_name).set(row.state in (STOPPED, RESUMING))
            outcomes = {
                "upserted": row.rows_upserted,
                "deleted": row.rows_deleted,
                "quarantined": row.rows_quarantined,
                "skipped": row.rows_skipped,
                "missing": row.rows_missing,
            }
            for outcome, count in outcomes.items():
                self._rows.labels(row.table_name, outcome).inc(count)
            if row.engine is not None:
                self._merge.labels(row.table_name, row.engine).observe(row.duration_ms / 1000)
            if row.source_time is not None and row.state == RUNNING:
                lag = (row.merged_at - row.source_time).total_seconds()
                self._lag.labels(row.table_name).set(lag)


class MaintenanceMetrics:
    """Counts the maintenance of tables: silver's by name, and `ops.ledger` and others.

    A run counts if something was due; checks that found nothing to do are not counted.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "headwater_silver_maintenance_seconds",
            "Time of a run of maintenance on one table",
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900),
            registry=registry,
        )
        self._joined = Counter(
            "headwater_silver_maintenance_joined_files",
            "Small files that were joined",
            registry=registry,
        )
        self._removed = Counter(
            "headwater_silver_maintenance_removed_files",
            "Files deleted that no version within the retention needs",
            registry=registry,
        )
        self._failures = Counter(
            "headwater_silver_maintenance_failures",
            "Runs of maintenance that failed",
            ["table"],
            registry=registry,
        )
        self._failing = Gauge(
            "headwater_silver_maintenance_failing",
            "1: a step of the table's maintenance failed and has not succeeded since",
            ["table"],
            registry=registry,
        )
        self._done = Gauge(
            "headwater_silver_maintenance_timestamp_seconds",
            "When the table's maintenance last succeeded; before its first run, when the table was first seen",
            ["table"],
            registry=registry,
        )
        self._held = Histogram(
            "headwater_silver_maintenance_held_seconds",
            "For how long at most a run of maintenance held a lock for which a merge may have waited",
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=registry,
        )
        self._waiting = Gauge(
            "headwater_silver_maintenance_waiting_seconds",
            "How long the oldest due run has been waiting or running; 0 if none is due",
            registry=registry,
        )

    def held(self, seconds: float) -> None:
        """Note for how long a run held a lock at most."""
        self._held.observe(seconds)

    def show_waiting(self, seconds: Callable[[], float]) -> None:
        """At each scrape, call `seconds` for the time that the oldest run has waited."""
        self._waiting.set_function(seconds)

    def known(self, table: str) -> None:
        """Show a table that has had no maintenance yet."""
        self._failures.labels(table)
        self._failing.labels(table).set(0)
        self._done.labels(table).set_to_current_time()

    def ended(
        self, table: str, seconds: float, *, joined: int, removed: int, failed: bool, failing: bool
    ) -> None:
        """Count one run. `failing`: whether a step of this or a previous run is still to be done."""
        self._seconds.observe(seconds)
        self._joined.inc(joined)
        self._removed.inc(removed)
        self._failures.labels(table).inc(failed)
        self._failing.labels(table).set(failing)
        if not failed:
            self._done.labels(table).set_to_current_time()
