"""Every query for Prometheus, in one place; panels and alerts refer to it by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expression:
    """One query. `unit` is Grafana's; `legend` names a series by its labels."""

    promql: str
    unit: str = "short"
    legend: str = ""


def _alerts(severity: str) -> str:
    return f'sum(ALERTS{{alertstate="firing",severity="{severity}"}}) or vector(0)'


# Silver exports the targets that it applies; the exporter, those of the contract files.
_BEHIND_TARGET = (
    'max by (table) (headwater_table_seconds_behind{hop="silver"}) / on (table)'
    " (max by (table) (headwater_freshness_target_seconds)"
    " or max by (table) (headwater_table_freshness_target_seconds))"
)

EXPRESSIONS: dict[str, Expression] = {
    # -- overview
    "services_down": Expression("sum(headwater_service_up == bool 0)"),
    "alerts_critical": Expression(_alerts("critical")),
    "alerts_warning": Expression(_alerts("warning")),
    "table_behind_target": Expression(_BEHIND_TARGET, "percentunit", "{{table}}"),
    "table_seconds_behind": Expression(
        'max by (table) (headwater_table_seconds_behind{hop="silver"})', "s", "{{table}}"
    ),
    "tables_behind": Expression(f"count(({_BEHIND_TARGET}) > 1) or vector(0)"),
    "events_behind": Expression(
        "sum by (hop) (headwater_table_offsets_behind)", "short", "{{hop}}"
    ),
    "probe_p50": Expression(
        "histogram_quantile(0.5, sum by (hop, le) (rate(headwater_probe_seconds_bucket[10m])))",
        "s",
        "{{hop}}",
    ),
    "probe_p95": Expression(
        "histogram_quantile(0.95, sum by (hop, le) (rate(headwater_probe_seconds_bucket[10m])))",
        "s",
        "{{hop}}",
    ),
    "lsn_behind": Expression("headwater_lsn_behind_bytes", "bytes", "{{hop}}"),
    "incidents_open": Expression("sum(headwater_incidents_open)"),
    "incidents_by_kind": Expression("headwater_incidents_open", "short", "{{kind}}"),
    "incidents_begun": Expression("increase(headwater_incidents_total[1h])", "short", "{{kind}}"),
    "incident_age": Expression("headwater_incident_seconds", "s", "{{kind}}"),
    "probe_waiting": Expression("headwater_probe_waiting_seconds", "s", "{{hop}}"),
    # -- capture
    "slot_active": Expression("headwater_slot_active"),
    "slot_broken": Expression("headwater_slot_lost + (1 - headwater_slot_present)"),
    "slot_retained": Expression("headwater_slot_retained_bytes", "bytes", "held back"),
    "slot_unconfirmed": Expression("headwater_slot_unconfirmed_bytes", "bytes", "not confirmed"),
    "slot_share": Expression(
        "headwater_slot_retained_bytes / headwater_slot_limit_bytes", "percentunit"
    ),
    "slot_time_left": Expression("headwater_slot_seconds_until_limit", "s"),
    "wal_rate": Expression("rate(headwater_source_wal_position_bytes[5m])", "Bps"),
    "debezium_behind": Expression(
        "debezium_streaming_millisecondsbehindsource / 1000", "s", "behind source"
    ),
    "debezium_idle": Expression(
        "debezium_streaming_millisecondssincelastevent / 1000", "s", "since last event"
    ),
    "debezium_events": Expression(
        "rate(debezium_streaming_totalnumberofeventsseen[5m])", "cps", "events"
    ),
    "debezium_queue": Expression(
        "1 - debezium_streaming_queueremainingcapacity / debezium_streaming_queuetotalcapacity",
        "percentunit",
    ),
    # Debezium counts the signal table among the tables to read, and never reads it.
    "snapshot_tables_left": Expression("clamp_min(debezium_snapshot_remainingtablecount - 1, 0)"),
    # -- carriage
    "connector_running": Expression("headwater_connector_running", "short", "{{connector}}"),
    "connector_tasks": Expression("headwater_connector_tasks", "short", "{{connector}} {{state}}"),
    "kafka_up": Expression('min(up{job="kafka"})'),
    "kafka_offline": Expression(
        "kafka_controller_offlinepartitionscount + on () kafka_log_offlinelogdirectorycount"
    ),
    "kafka_in": Expression("rate(kafka_server_bytesin_total[5m])", "Bps", "in"),
    "kafka_out": Expression("rate(kafka_server_bytesout_total[5m])", "Bps", "out"),
    "kafka_messages": Expression("rate(kafka_server_messagesin_total[5m])", "cps", "messages"),
    "kafka_p99": Expression("kafka_network_request_p99_milliseconds", "ms", "{{request}}"),
    "kafka_disk": Expression('headwater_service_disk_bytes{service="kafka"}', "bytes"),
    "bronze_behind": Expression(
        'max by (table) (headwater_table_seconds_behind{hop="bronze"})', "s", "{{table}}"
    ),
    "bronze_missing": Expression("headwater_bronze_missing_offsets", "short", "{{table}}"),
    "bronze_miscounted": Expression(
        "max by (table) (headwater_bronze_miscounted)", "short", "{{table}}"
    ),
    "transactions_checked": Expression(
        "rate(headwater_transactions_checked_total[5m])", "cps", "checked"
    ),
    "transactions_unchecked": Expression("headwater_transactions_unchecked_seconds", "s", "behind"),
    "bronze_put": Expression(
        "kafka_connect_sink_task_put_batch_avg_time_ms", "ms", "{{connector}}"
    ),
    "store_bytes": Expression("headwater_store_bytes", "bytes", "{{layer}}"),
    "store_objects": Expression("headwater_store_objects", "short", "{{layer}}"),
    "table_events": Expression(
        "sum by (table) (rate(headwater_table_kafka_offsets_total[5m]))", "cps", "{{table}}"
    ),
    "table_events_drop": Expression(
        # The last quarter of an hour, divided by the quietest one of six hours until an hour ago. Ten
        # events are added to both, so that tables which are quiet now and then stay near 1.
        "(sum by (table) (increase(headwater_table_kafka_offsets_total[15m])) + 10) / "
        "(min_over_time(sum by (table) (increase(headwater_table_kafka_offsets_total[15m]))"
        "[6h:15m] offset 1h) + 10)",
        "percentunit",
        "{{table}}",
    ),
    # -- silver
    "silver_restarts": Expression(
        'increase(headwater_service_restarts_total{service="silver"}[15m])'
    ),
    "silver_growth": Expression(
        'sum(deriv(headwater_table_offsets_behind{hop="silver"}[10m]))', "cps", "growth"
    ),
    "batch_age": Expression("time() - headwater_silver_batch_timestamp_seconds", "s"),
    "batch_p95": Expression(
        "histogram_quantile(0.95, sum by (le) (rate(headwater_silver_batch_seconds_bucket[5m])))",
        "s",
        "p95",
    ),
    "batch_rate": Expression("rate(headwater_silver_batch_seconds_count[5m])", "cps", "batches"),
    "merge_p95": Expression(
        "histogram_quantile(0.95, sum by (table, le)"
        " (rate(headwater_silver_merge_seconds_bucket[5m])))",
        "s",
        "{{table}}",
    ),
    "rows_merged": Expression(
        'sum by (table) (rate(headwater_silver_rows_total{outcome=~"upserted|deleted"}[5m]))',
        "cps",
        "{{table}}",
    ),
    "silver_lsn_behind": Expression(
        'max by (table) (headwater_table_lsn_behind_bytes{hop="silver"})', "bytes", "{{table}}"
    ),
    "bronze_lsn_behind": Expression(
        'max by (table) (headwater_table_lsn_behind_bytes{hop="bronze"})', "bytes", "{{table}}"
    ),
    "spark_latency": Expression(
        "metrics_silver_driver_spark_streaming_silver_latency_Value / 1000", "s", "trigger"
    ),
    "delta_files": Expression("headwater_delta_files", "short", "{{table}}"),
    "delta_small_files": Expression("headwater_delta_small_files", "short", "{{table}}"),
    "delta_bytes": Expression("headwater_delta_bytes", "bytes", "{{table}}"),
    "log_share": Expression(
        "sum(headwater_delta_log_bytes)"
        ' / clamp_min(sum(headwater_store_bytes{layer=~"silver|silver_log"}), 1)',
        "percentunit",
        "log",
    ),
    "old_versions_share": Expression(
        "clamp_min(1 - sum(headwater_delta_bytes)"
        ' / clamp_min(sum(headwater_store_bytes{layer="silver"}), 1), 0)',
        "percentunit",
        "old versions",
    ),
    "uncheckpointed": Expression("headwater_delta_uncheckpointed_commits", "short", "{{table}}"),
    "maintenance_failing": Expression(
        "max by (table) (headwater_silver_maintenance_failing)", "short", "{{table}}"
    ),
    "maintenance_failures": Expression(
        "sum by (table) (increase(headwater_silver_maintenance_failures_total[1h]))",
        "short",
        "{{table}}",
    ),
    "maintenance_waiting": Expression("headwater_silver_maintenance_waiting_seconds", "s"),
    "maintenance_age": Expression(
        "time() - headwater_silver_maintenance_timestamp_seconds", "s", "{{table}}"
    ),
    "maintenance_time": Expression(
        "rate(headwater_silver_maintenance_seconds_sum[15m])", "percentunit", "of the time"
    ),
    "maintenance_runs": Expression(
        "increase(headwater_silver_maintenance_seconds_count[1h])", "short", "runs"
    ),
    "maintenance_removed": Expression(
        "increase(headwater_silver_maintenance_removed_files_total[1h])", "short", "deleted"
    ),
    "maintenance_joined": Expression(
        "increase(headwater_silver_maintenance_joined_files_total[1h])", "short", "joined"
    ),
    # -- streams, where they were started
    "streams_stopped": Expression(
        "max by (stream) (headwater_stream_stopped)", "short", "{{stream}}"
    ),
    "stream_lag": Expression(
        "max by (stream) (headwater_stream_lag_events)", "short", "{{stream}}"
    ),
    "stream_events": Expression(
        "sum by (stream, outcome) (rate(headwater_stream_events_total[5m]))",
        "cps",
        "{{stream}} {{outcome}}",
    ),
    # -- query layer
    "trino_up": Expression('min(up{job="trino"})'),
    "trino_failing": Expression(
        "rate(trino_InternalFailures_total[5m]) + rate(trino_ExternalFailures_total[5m])"
        " + rate(trino_InsufficientResourcesFailures_total[5m])",
        "cps",
        "failed by Trino",
    ),
    "trino_user_errors": Expression("rate(trino_UserErrorFailures_total[5m])", "cps", "refused"),
    "trino_completed": Expression("rate(trino_CompletedQueries_total[5m])", "cps", "completed"),
    "trino_running": Expression("trino_RunningQueries", "short", "running"),
    "trino_queued": Expression("trino_QueuedQueries", "short", "queued"),
    "trino_p95": Expression('trino_ExecutionTime_milliseconds{quantile="0.95"} / 1000', "s", "p95"),
    "trino_memory": Expression(
        'headwater_service_resident_bytes{service="trino"}', "bytes", "resident"
    ),
    # -- quality
    "quarantine_share": Expression(
        'sum by (table) (rate(headwater_silver_rows_total{outcome="quarantined"}[5m]))'
        " / clamp_min(sum by (table) (rate(headwater_silver_rows_total[5m])), 0.001)",
        "percentunit",
        "{{table}}",
    ),
    "quarantine_rows": Expression(
        "sum by (table, rule) (headwater_quarantine_rows)", "short", "{{table}} {{rule}}"
    ),
    "expectations_breached": Expression(
        'sum by (table, rule) (headwater_expectation_broken_rows{action="warn"})',
        "short",
        "{{table}} {{rule}}",
    ),
    "conditions_breached": Expression(
        "max by (table, condition) (headwater_condition_breached)",
        "short",
        "{{table}} {{condition}}",
    ),
    "conditions_answered": Expression(
        "min by (table, condition) (headwater_condition_answered)",
        "short",
        "{{table}} {{condition}}",
    ),
    "condition_values": Expression("headwater_condition_value", "short", "{{table}} {{condition}}"),
    "verify_differences": Expression("headwater_verification_differences", "short", "{{table}}"),
    "verify_age": Expression("time() - headwater_verification_timestamp_seconds", "s", "{{table}}"),
    "tables_refused": Expression("max by (table) (headwater_silver_refused)", "short", "{{table}}"),
    "schema_pending": Expression(
        # Two reasons side by side: a table that cannot be kept, or one that a change has stopped.
        'max by (table) (label_replace(headwater_silver_refused, "why", "refused", "", "")'
        " or label_replace(max by (table) (headwater_silver_stopped) * on (table)"
        ' (sum by (table) (headwater_silver_schema_changes_total{outcome="stopped"}) > bool 0),'
        ' "why", "changed", "", ""))',
        "short",
        "{{table}}",
    ),
    "schema_changes": Expression(
        "sum by (table, kind, outcome) (increase(headwater_silver_schema_changes_total[1h]))",
        "short",
        "{{table}} {{kind}} {{outcome}}",
    ),
    "tables_stopped": Expression("max by (table) (headwater_silver_stopped)", "short", "{{table}}"),
    "contract_version": Expression("headwater_contract_version", "short", "{{table}}"),
    # -- resources
    "service_up": Expression("headwater_service_up", "short", "{{service}}"),
    "service_restarts": Expression(
        "increase(headwater_service_restarts_total[15m])", "short", "{{service}}"
    ),
    "service_cpu": Expression(
        "rate(headwater_service_cpu_seconds_total[2m])", "short", "{{service}}"
    ),
    "service_memory": Expression("headwater_service_resident_bytes", "bytes", "{{service}}"),
    "service_files": Expression("headwater_service_open_files", "short", "{{service}}"),
    "service_files_share": Expression(
        "headwater_service_open_files_share", "percentunit", "{{service}}"
    ),
    "service_disk": Expression("headwater_service_disk_bytes", "bytes", "{{service}}"),
    "machine_cpu": Expression(
        "rate(headwater_machine_cpu_seconds_total[5m]) / headwater_machine_cpus", "percentunit"
    ),
    "machine_memory_free": Expression(
        "headwater_machine_memory_available_bytes / headwater_machine_memory_bytes", "percentunit"
    ),
    "disk_free": Expression(
        "headwater_machine_disk_free_bytes / headwater_machine_disk_bytes", "percentunit"
    ),
    "disk_state": Expression("headwater_disk_state", "short", "{{folder}}"),
    "disk_free_by_folder": Expression("headwater_disk_free_bytes", "bytes", "{{folder}}"),
    "disk_hours_left": Expression(
        # At the rate of the last half hour; a disk that does not fill counts as a hundred years.
        "headwater_machine_disk_free_bytes"
        " / clamp_min(-deriv(headwater_machine_disk_free_bytes[30m]), 1e-9) / 3600 < 876000"
        " or headwater_machine_disk_free_bytes * 0 + 876000",
        "h",
    ),
    "exporter_up": Expression('min(up{job="metrics"})'),
    "collector_up": Expression("headwater_collector_up", "short", "{{collector}}"),
    "exporter_cpu": Expression(
        "sum(rate(headwater_collector_cpu_seconds_total[5m]))", "percentunit", "collectors"
    ),
    "targets_down": Expression("up == bool 0", "short", "{{job}}"),
}
