"""For each alert, the series of a case in which it fires and of one in which it is silent.

The series for an alert on one metric's values follow from its declaration; the others are given here.

Values are in promtool's form: `0x60` is 0 for an hour with a sample each minute, `0+5x60` grows by 5 a minute.
A case is evaluated at the end of its series, after an hour unless `LOOKED_AT` has another time.
"""

from __future__ import annotations

import re

from app.metrics.declarations.declaration import Alert
from app.metrics.metric_list import ALERTS, METRICS

Series = dict[str, str]

ZERO, ONE = "0x60", "1x60"
SILVER_BEHIND = 'headwater_table_seconds_behind{table="orders",hop="silver"}'
TARGET = 'headwater_table_freshness_target_seconds{table="orders"}'
OFFSETS = 'headwater_table_kafka_offsets_total{table="orders"}'
RESTARTS = 'headwater_service_restarts_total{service="%s"}'
ROWS = 'headwater_silver_rows_total{table="orders",outcome="%s"}'
FAILED = "trino_%s_total"
DENIED = 'headwater_audit_questions_total{outcome="denied"}'
KINDS = ("InternalFailures", "InsufficientResourcesFailures", "ExternalFailures")


def _trino(value: str) -> Series:
    return {FAILED % kind: value if kind == "InternalFailures" else ZERO for kind in KINDS}


# Alert → (series that make it fire, series on which it is silent), if its expression needs more than values.
WRITTEN: dict[str, tuple[Series, Series]] = {
    "TableStale": (
        {SILVER_BEHIND: "61x60", TARGET: "60x60"},
        {SILVER_BEHIND: "59x60", TARGET: "60x60"},
    ),
    "NoEvents": (
        # A table with 600 events in every quarter of an hour stops for the last half hour.
        {OFFSETS: "0+40x150 6000x30"},
        {OFFSETS: "0+40x180"},
    ),
    "SlotLost": (
        {"headwater_slot_lost": ZERO, "headwater_slot_present": ZERO},
        {"headwater_slot_lost": ZERO, "headwater_slot_present": ONE},
    ),
    "SlotHoldsTooMuch": (
        {"headwater_slot_retained_bytes": "3e9x60", "headwater_slot_limit_bytes": "4e9x60"},
        {"headwater_slot_retained_bytes": "1e9x60", "headwater_slot_limit_bytes": "4e9x60"},
    ),
    "KafkaOffline": (
        {
            "kafka_controller_offlinepartitionscount": ONE,
            "kafka_log_offlinelogdirectorycount": ZERO,
        },
        {
            "kafka_controller_offlinepartitionscount": ZERO,
            "kafka_log_offlinelogdirectorycount": ZERO,
        },
    ),
    "MergeFailing": ({RESTARTS % "silver": "0+1x60"}, {RESTARTS % "silver": "1x60"}),
    "MergeTooSlow": (
        {'headwater_table_offsets_behind{table="orders",hop="silver"}': "0+6000x60"},
        {'headwater_table_offsets_behind{table="orders",hop="silver"}': "0 50 0 80 0 20 0 _ 9x52"},
    ),
    "BatchStuck": (
        {"headwater_silver_batch_timestamp_seconds": "60x60"},
        {"headwater_silver_batch_timestamp_seconds": "0+60x60"},
    ),
    "DeltaLogGrows": (
        {
            'headwater_delta_log_bytes{table="orders"}': "60x60",
            'headwater_store_bytes{layer="silver"}': "40x60",
            'headwater_store_bytes{layer="silver_log"}': "60x60",
        },
        {
            'headwater_delta_log_bytes{table="orders"}': "10x60",
            'headwater_store_bytes{layer="silver"}': "90x60",
            'headwater_store_bytes{layer="silver_log"}': "10x60",
        },
    ),
    "MaintenanceStuck": (
        {"headwater_silver_maintenance_waiting_seconds": "0+60x60"},
        # A run that sometimes takes minutes.
        {"headwater_silver_maintenance_waiting_seconds": "0 60 120 240 0 0 3x54"},
    ),
    "DeltaLogShare": (
        {
            'headwater_delta_log_bytes{table="orders"}': "30000000x60",
            'headwater_delta_bytes{table="orders"}': "20000000x60",
            'headwater_delta_old_bytes{table="orders"}': "20000000x60",
        },
        # A small table: its log is larger than itself.
        {
            'headwater_delta_log_bytes{table="orders"}': "300000x60",
            'headwater_delta_bytes{table="orders"}': "5000x60",
            'headwater_delta_old_bytes{table="orders"}': "100000x60",
        },
    ),
    "HistoryWaits": (
        {'headwater_silver_history_waiting_seconds{table="orders"}': "0+60x60"},
        # A store that was away for ten minutes.
        {'headwater_silver_history_waiting_seconds{table="orders"}': "5 60 300 600 5 5 5x54"},
    ),
    "TrinoFailing": (_trino("0+6x60"), _trino("2x60")),
    "AuditGap": (
        {"headwater_audit_missing_total": "0x55 3x5"},
        {"headwater_audit_missing_total": "3x60"},
    ),
    "AccessDeniedBurst": (
        {DENIED: "0+10x60"},
        {DENIED: "0+1x60"},
    ),
    "QuarantineRate": (
        {ROWS % "quarantined": "0+2x60", ROWS % "upserted": "0+100x60"},
        {ROWS % "quarantined": ZERO, ROWS % "upserted": "0+100x60"},
    ),
    "SchemaChangePending": (
        {'headwater_silver_refused{table="orders"}': ONE},
        {'headwater_silver_refused{table="orders"}': ZERO},
    ),
    "ServiceRestarting": ({RESTARTS % "connect": "0+1x60"}, {RESTARTS % "connect": "3x60"}),
    "CpuBusy": (
        {"headwater_machine_cpu_seconds_total": "0+119x60", "headwater_machine_cpus": "2x60"},
        {"headwater_machine_cpu_seconds_total": "0+60x60", "headwater_machine_cpus": "2x60"},
    ),
    "MemoryLow": (
        {
            "headwater_machine_memory_available_bytes": "4x60",
            "headwater_machine_memory_bytes": "100x60",
        },
        {
            "headwater_machine_memory_available_bytes": "40x60",
            "headwater_machine_memory_bytes": "100x60",
        },
    ),
    "DiskFillsSoon": (
        {"headwater_machine_disk_free_bytes": "100e9-1e9x60"},
        {"headwater_machine_disk_free_bytes": "100e9x60"},
    ),
}

LOOKED_AT = {"NoEvents": "3h"}
LABELS = {metric.sample: metric.labels for metric in METRICS}
ONE_METRIC = re.compile(
    r"(?:\w+(?: by \((?P<by>[^)]*)\) )?\()?(?P<name>\w+)({(?P<where>[^}]*)})?\)?"
)


def _derived(alert: Alert) -> tuple[Series, Series]:
    """The metric beyond the threshold for an hour, and at it."""
    asked = ONE_METRIC.fullmatch(alert.promql)
    assert asked, f"{alert.name} asks for more than a metric's values: it needs a case in WRITTEN"
    grouped = asked["by"].split(", ") if asked["by"] else LABELS.get(asked["name"], ())
    labels = [asked["where"], *(f'{label}="some"' for label in grouped)]
    series = f"{asked['name']}{{{','.join(filter(None, labels))}}}"
    beyond = alert.threshold + (1 if alert.compare == ">" else -1)
    return {series: f"{beyond}x60"}, {series: f"{alert.threshold}x60"}


CASES = {alert.name: WRITTEN.get(alert.name) or _derived(alert) for alert in ALERTS}
