"""Silver's batches, merges, Delta tables, maintenance and streams."""

from __future__ import annotations

from app.metrics.declarations.declaration import Alert, Dashboard, Query, gauge, graph, stat
from app.metrics.declarations.freshness_metrics import (
    TABLE_BEHIND_TARGET,
    TABLE_SECONDS_BEHIND,
    WAL_HELP,
)

METRICS = (
    gauge("silver_batch_timestamp_seconds", "When the newest batch of the ledger ended"),
    gauge("delta_files", "Files of the table's newest version", "table"),
    gauge("delta_bytes", "Size of the table's newest version", "table"),
    gauge(
        "delta_old_bytes",
        "Files that only the table's older versions need, by its last clean-up",
        "table",
    ),
    gauge("delta_small_files", "Files below half the target size", "table"),
    gauge("delta_version", "The table's newest version", "table"),
    gauge("delta_log_bytes", "Size of the table's log", "table"),
    gauge("delta_uncheckpointed_commits", "Commits since the log's last checkpoint", "table"),
    gauge("contract_version", "Version of the table's newest contract", "table"),
)

SILVER_RESTARTS = 'max(increase(headwater_service_restarts_total{service=~"silver(-.+)?"}[15m]))'
SILVER_GROWTH = Query(
    'sum(deriv(headwater_table_offsets_behind{hop="silver"}[10m]))', "cps", "growth"
)
BATCH_AGE = Query("time() - headwater_silver_batch_timestamp_seconds", "s")
BATCH_P95 = Query(
    "histogram_quantile(0.95, sum by (le) (rate(headwater_silver_batch_seconds_bucket[5m])))",
    "s",
    "p95",
)
MERGE_P95 = Query(
    "histogram_quantile(0.95, sum by (table, le)"
    " (rate(headwater_silver_merge_seconds_bucket[5m])))",
    "s",
    "{{table}}",
)
ROWS_MERGED = Query(
    'sum by (table) (rate(headwater_silver_rows_total{outcome=~"upserted|deleted"}[5m]))', "cps"
)
SPARK_LATENCY = Query(
    "metrics_silver_driver_spark_streaming_silver_latency_Value / 1000", "s", "trigger"
)
LOG_SHARE = Query(
    "sum(headwater_delta_log_bytes)"
    ' / clamp_min(sum(headwater_store_bytes{layer=~"silver|silver_log"}), 1)',
    "percentunit",
    "log",
)
OLD_VERSIONS_SHARE = Query(
    "clamp_min(1 - sum(headwater_delta_bytes)"
    ' / clamp_min(sum(headwater_store_bytes{layer="silver"}), 1), 0)',
    "percentunit",
    "old versions",
)
MAINTENANCE_FAILING = "max by (table) (headwater_silver_maintenance_failing)"
MAINTENANCE_AGE = Query("time() - headwater_silver_maintenance_timestamp_seconds", "s", "{{table}}")
MAINTENANCE_TIME = Query(
    "rate(headwater_silver_maintenance_seconds_sum[15m])", "percentunit", "of the time"
)
MAINTENANCE_REMOVED = Query(
    "increase(headwater_silver_maintenance_removed_files_total[1h])", legend="deleted"
)
MAINTENANCE_JOINED = Query(
    "increase(headwater_silver_maintenance_joined_files_total[1h])", legend="joined"
)
MAINTENANCE_HELD = Query(
    "histogram_quantile(0.95, sum by (le) (rate(headwater_silver_maintenance_held_seconds_bucket[1h])))",
    "s",
    "p95",
)
TABLES_REFUSED = "max by (table) (headwater_silver_refused)"
HISTORY_WAITS = Query("max by (table) (headwater_silver_history_waiting_seconds)", "s", "{{table}}")
# A table below 16 MB has a log of some hundred kilobytes whatever its size.
TABLE_LOG_SHARE = Query(
    "headwater_delta_log_bytes / clamp_min(headwater_delta_log_bytes + headwater_delta_bytes"
    " + headwater_delta_old_bytes, 16777216)",
    "percentunit",
    "{{table}}",
)
STREAMS_STOPPED = "max by (stream) (headwater_stream_stopped)"
STREAM_EVENTS = Query("sum by (stream, outcome) (rate(headwater_stream_events_total[5m]))", "cps")

DASHBOARD = Dashboard("silver", "Silver: batches, merges, Delta tables", (
    stat("Since the last batch", BATCH_AGE),
    stat("Restarts, last 15 min", SILVER_RESTARTS),
    stat("Backlog grows by", SILVER_GROWTH),
    stat("Logs' share of silver", LOG_SHARE),
    stat("Old versions' share", OLD_VERSIONS_SHARE),
    stat("Tables refused", TABLES_REFUSED),
    graph("Oldest event not merged", TABLE_SECONDS_BEHIND),
    graph("Of the freshness target", TABLE_BEHIND_TARGET),
    graph("WAL not merged yet", 'max by (table) (headwater_table_lsn_behind_bytes{hop="silver"})',
          help=WAL_HELP),
    graph("Time of a batch", BATCH_P95, SPARK_LATENCY),
    graph("Batches", Query("rate(headwater_silver_batch_seconds_count[5m])", "cps", "batches")),
    graph("Time of a merge, 95 of 100", MERGE_P95),
    graph("Rows merged", ROWS_MERGED),
    graph("Commits since a checkpoint", "headwater_delta_uncheckpointed_commits"),
    graph("Files of the newest version", "headwater_delta_files"),
    graph("Small files", "headwater_delta_small_files"),
    graph("Size of the newest version", "headwater_delta_bytes"),
    graph("Size of old versions", "headwater_delta_old_bytes"),
    graph("Log's share of the table", TABLE_LOG_SHARE,
          help="Of the log, the newest version and old ones, which count as 16 MB if they are less"),
    graph("Maintenance: a step fails", MAINTENANCE_FAILING),
    graph("Maintenance: failures, last hour",
          "sum by (table) (increase(headwater_silver_maintenance_failures_total[1h]))"),
    graph("Maintenance: oldest run waits", "headwater_silver_maintenance_waiting_seconds"),
    graph("Maintenance: since it last went through", MAINTENANCE_AGE,
          help="A table without commits is due every six hours"),
    graph("Maintenance: its thread is busy", MAINTENANCE_TIME),
    graph("Maintenance: runs, last hour",
          Query("increase(headwater_silver_maintenance_seconds_count[1h])", legend="runs")),
    graph("Maintenance: files, last hour", MAINTENANCE_REMOVED, MAINTENANCE_JOINED),
    graph("Maintenance: holds a lock, 95 of 100", MAINTENANCE_HELD),
    graph("Histories: not where silver is", HISTORY_WAITS,
          help="Empty if no contract file asks for a history"),
    graph("Streams: stopped", STREAMS_STOPPED,
          help="Events by API; empty if the service `streams` was not started"),
    graph("Streams: events not in silver", "max by (stream) (headwater_stream_lag_events)"),
    graph("Streams: events", STREAM_EVENTS),
))  # fmt: skip

ALERTS = (
    Alert("MergeFailing", SILVER_RESTARTS, ">", 1, "0s", "critical",
          "Silver's job ends and is started again: a merge fails", "0"),
    Alert("MergeTooSlow", SILVER_GROWTH, ">", 10, "10m", "warning",
          "Events arrive faster than silver merges them", "about 0"),
    Alert("BatchStuck", BATCH_AGE, ">", 120, "1m", "critical",
          "No micro-batch has ended for minutes", "below 15 seconds: probes make batches"),
    Alert("DeltaLogGrows", LOG_SHARE, ">", 0.5, "30m", "warning",
          "Delta's logs take more than half of silver's space", "below 0.2"),
    Alert("MaintenanceBehind", "headwater_delta_uncheckpointed_commits", ">", 200, "15m", "warning",
          "The log of {{ $labels.table }} gets no checkpoints", "below 50"),
    Alert("MaintenanceFailing", MAINTENANCE_FAILING, ">", 0, "15m", "warning",
          "Maintenance of {{ $labels.table }} fails: old files and small files stay", "0"),
    Alert("MaintenanceStuck", "headwater_silver_maintenance_waiting_seconds", ">", 1800, "5m",
          "warning",
          "Maintenance of silver's tables is overdue: a run waits or lasts for half an hour",
          "0 to 5 seconds"),
    Alert("DeltaLogShare", TABLE_LOG_SHARE, ">", 0.25, "30m", "warning",
          "The log of {{ $labels.table }} takes more than a quarter of the table's space", "below 0.1"),
    Alert("HistoryWaits", HISTORY_WAITS, ">", 900, "5m", "warning",
          "The history of {{ $labels.table }} does not follow silver", "below 15 seconds",
          may_be_absent=True),
    Alert("StreamStopped", STREAMS_STOPPED, ">", 0, "1m", "critical",
          "Events of stream {{ $labels.stream }} are not written, after a failure", "0",
          may_be_absent=True),
)  # fmt: skip
