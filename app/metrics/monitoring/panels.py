"""The dashboards: their panels, in order, and the expressions that each panel shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "timeseries", "table"]


@dataclass(frozen=True)
class Panel:
    """One panel; `expressions` are names of `EXPRESSIONS`, `width` is of 24 columns."""

    title: str
    expressions: tuple[str, ...]
    kind: Kind = "timeseries"
    width: int = 8
    help: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its uid is `headwater-NAME`, its panels' ids count from 1 in their order."""

    name: str
    title: str
    panels: tuple[Panel, ...]

    @property
    def uid(self) -> str:
        return f"headwater-{self.name}"


def _stat(title: str, *expressions: str, width: int = 4, help: str = "") -> Panel:
    return Panel(title, expressions, "stat", width, help)


def _graph(title: str, *expressions: str, width: int = 8, help: str = "") -> Panel:
    return Panel(title, expressions, "timeseries", width, help)


_WAL_HELP = "From what the hop is known to have to the source's end; idle: what heartbeats wait for"

DASHBOARDS: tuple[Dashboard, ...] = (
    Dashboard(
        "overview",
        "Headwater: healthy? how fresh? what is behind?",
        (
            _stat("Services that do not run", "services_down"),
            _stat("Critical alerts", "alerts_critical"),
            _stat("Warnings", "alerts_warning"),
            _stat("Tables over their target", "tables_behind"),
            _stat("Slot reads", "slot_active", help="1: the connector reads the slot"),
            _stat("Connectors run", "connector_running"),
            _graph("Commit to each hop, half of the probes", "probe_p50", width=12,
                   help="A row is changed in the source every 15 s and seen again at each hop"),
            _graph("Commit to each hop, 95 of 100", "probe_p95", width=12),
            _graph("Oldest unread event, by table", "table_seconds_behind"),
            _graph("Events not read yet, by hop", "events_behind"),
            _graph("Probe on its way for", "probe_waiting"),
            _graph("Events into Kafka, by table", "table_events", width=6),
            _graph("Rows merged, by table", "rows_merged", width=6),
            _graph("WAL that the slot holds", "slot_retained", "slot_unconfirmed", width=6),
            _graph("WAL not taken yet, by hop", "lsn_behind", width=6, help=_WAL_HELP),
            _stat("Processors busy", "machine_cpu"),
            _stat("Memory free", "machine_memory_free"),
            _stat("Disk free", "disk_free"),
            _stat("Incidents open", "incidents_open",
                  help="Services, connectors, the slot, tables: parts that are out of order"),
            _stat("Restarts, last 15 min", "service_restarts", width=8),
        ),
    ),
    Dashboard(
        "capture",
        "Capture: the source, its slot, Debezium",
        (
            _stat("Slot reads", "slot_active"),
            _stat("Slot lost", "slot_broken"),
            _stat("Of the slot's limit", "slot_share"),
            _stat("Until the limit", "slot_time_left"),
            _stat("Snapshot: tables left", "snapshot_tables_left"),
            _stat("Debezium's queue", "debezium_queue"),
            _graph("WAL that the slot holds", "slot_retained", "slot_unconfirmed"),
            _graph("WAL written in the source", "wal_rate"),
            _graph("Events seen by Debezium", "debezium_events"),
            _graph("Debezium behind the source", "debezium_behind", "debezium_idle",
                   help="Behind keeps its last value at rest: read it with the time since the "
                   "last event"),
            _graph("Commit to Kafka, 95 of 100", "probe_p95"),
            _graph("Probe on its way for", "probe_waiting"),
            _graph("WAL not taken yet, by hop", "lsn_behind", width=24, help=_WAL_HELP),
        ),
    ),
    Dashboard(
        "carriage",
        "Carriage: Kafka, Connect, bronze, the object store",
        (
            _stat("Kafka answers", "kafka_up"),
            _stat("Kafka offline parts", "kafka_offline"),
            _stat("Connectors run", "connector_running", width=8),
            _stat("Bronze lacks", "bronze_missing", width=8),
            _graph("Kafka in and out", "kafka_in", "kafka_out"),
            _graph("Messages into Kafka", "kafka_messages"),
            _graph("Kafka, 99 of 100 requests", "kafka_p99"),
            _graph("Tasks by state", "connector_tasks"),
            _graph("Bronze: oldest event not stored", "bronze_behind"),
            _graph("Bronze: WAL not stored", "bronze_lsn_behind", help=_WAL_HELP),
            _graph("Bronze: time of a put", "bronze_put"),
            _graph("Object store, size by layer", "store_bytes"),
            _graph("Object store, objects by layer", "store_objects"),
            _graph("Kafka on disk", "kafka_disk"),
            _graph("Events into Kafka, by table", "table_events", width=16),
            _graph("Events against the quietest quarter", "table_events_drop"),
            _stat("Tables miscounted in bronze", "bronze_miscounted", width=8,
                  help="Transactions whose END record has other counts than bronze has events"),
            _graph("Transactions counted", "transactions_checked"),
            _graph("Counts behind Kafka", "transactions_unchecked",
                   help="10 to 25 seconds: the sink says every few seconds what it has stored"),
        ),
    ),
    Dashboard(
        "silver",
        "Silver: batches, merges, Delta tables",
        (
            _stat("Since the last batch", "batch_age"),
            _stat("Restarts, last 15 min", "silver_restarts"),
            _stat("Backlog grows by", "silver_growth"),
            _stat("Logs' share of silver", "log_share"),
            _stat("Old versions' share", "old_versions_share"),
            _stat("Tables refused", "tables_refused"),
            _graph("Oldest event not merged", "table_seconds_behind"),
            _graph("Of the freshness target", "table_behind_target"),
            _graph("WAL not merged yet", "silver_lsn_behind", help=_WAL_HELP),
            _graph("Time of a batch", "batch_p95", "spark_latency"),
            _graph("Batches", "batch_rate"),
            _graph("Time of a merge, 95 of 100", "merge_p95"),
            _graph("Rows merged", "rows_merged"),
            _graph("Commits since a checkpoint", "uncheckpointed"),
            _graph("Files of the newest version", "delta_files"),
            _graph("Small files", "delta_small_files"),
            _graph("Size of the newest version", "delta_bytes"),
            _graph("Maintenance: a step fails", "maintenance_failing"),
            _graph("Maintenance: failures, last hour", "maintenance_failures"),
            _graph("Maintenance: oldest run waits", "maintenance_waiting"),
            _graph("Maintenance: since it last went through", "maintenance_age",
                   help="Only tables with commits are due"),
            _graph("Maintenance: its thread is busy", "maintenance_time"),
            _graph("Maintenance: runs, last hour", "maintenance_runs"),
            _graph("Maintenance: files, last hour", "maintenance_removed", "maintenance_joined"),
            _graph("Streams: stopped", "streams_stopped",
                   help="Events by API; empty where the service `streams` was not started"),
            _graph("Streams: events not in silver", "stream_lag"),
            _graph("Streams: events", "stream_events"),
        ),
    ),
    Dashboard(
        "query",
        "Query layer: Trino",
        (
            _stat("Trino answers", "trino_up"),
            _stat("Running", "trino_running"),
            _stat("Queued", "trino_queued"),
            _stat("Memory", "trino_memory"),
            _graph("Queries", "trino_completed", "trino_user_errors", "trino_failing", width=8),
            _graph("Time of a query, 95 of 100", "trino_p95", width=8),
            _graph("Commit to a Trino answer, 95 of 100", "probe_p95", width=8),
        ),
    ),
    Dashboard(
        "quality",
        "Data quality: quarantine, expectations, verification, schema",
        (
            _graph("Share of events in quarantine", "quarantine_share"),
            _graph("Events in quarantine, by rule", "quarantine_rows"),
            _graph("Expectations broken, last 15 min", "expectations_breached"),
            _graph("Conditions that do not hold", "conditions_breached", "conditions_answered",
                   help="Conditions of contracts on whole tables: 1 where one is breached"),
            _graph("Values of conditions", "condition_values"),
            _graph("Schema changes, last hour", "schema_changes"),
            _graph("Schema changes that wait", "schema_pending",
                   help="1: the table waits for a decision on a change of its schema or key"),
            _graph("Rows that verification found to differ", "verify_differences"),
            _graph("Since the last verification", "verify_age"),
            _graph("Tables refused", "tables_refused"),
            _graph("Tables stopped", "tables_stopped"),
            _graph("Contract versions", "contract_version"),
        ),
    ),
    Dashboard(
        "resources",
        "Resources: processes and the machine",
        (
            _stat("Processors busy", "machine_cpu"),
            _stat("Memory free", "machine_memory_free"),
            _stat("Disk free", "disk_free"),
            _stat("Hours until the disk is full", "disk_hours_left"),
            _stat("Exporter answers", "exporter_up"),
            _stat("Collectors' CPU", "exporter_cpu"),
            _graph("CPU, processors by service", "service_cpu"),
            _graph("Memory by service", "service_memory"),
            _graph("Disk by service", "service_disk"),
            _graph("Free on each disk", "disk_free_by_folder"),
            _graph("Disks that are low (1) or full (2)", "disk_state"),
            _graph("Open files by service", "service_files"),
            _graph("Of the limit of open files", "service_files_share"),
            _graph("Services run", "service_up"),
            _graph("Restarts, last 15 min", "service_restarts"),
            _graph("Incidents open", "incidents_by_kind"),
            _graph("Incidents begun, last hour", "incidents_begun"),
            _graph("Oldest open incident", "incident_age"),
            _graph("Collectors work", "collector_up"),
            _graph("Targets that do not answer", "targets_down"),
        ),
    ),
)  # fmt: skip


def place_of(expression: str) -> tuple[str, int]:
    """(dashboard uid, panel id) where an expression is shown first; the overview comes last."""
    for dashboard in (*DASHBOARDS[1:], DASHBOARDS[0]):
        for number, panel in enumerate(dashboard.panels, start=1):
            if expression in panel.expressions:
                return dashboard.uid, number
    raise KeyError(expression)
