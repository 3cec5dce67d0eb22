"""For each alert, the series of a case that fires and of one that stays silent.

Values are promtool's: `0x60` is 0 for an hour at a sample a minute, `0+5x60` grows by 5 a minute.
A case is looked at when the series end: after an hour, where `LOOKED_AT` does not say otherwise.
"""

from __future__ import annotations

Series = dict[str, str]

ZERO, ONE = "0x60", "1x60"
SILVER_BEHIND = 'headwater_table_seconds_behind{table="orders",hop="silver"}'
TARGET = 'headwater_table_freshness_target_seconds{table="orders"}'
OFFSETS = 'headwater_table_kafka_offsets_total{table="orders"}'
RESTARTS = 'headwater_service_restarts_total{service="%s"}'
ROWS = 'headwater_silver_rows_total{table="orders",outcome="%s"}'
FAILED = "trino_%s_total"
KINDS = ("InternalFailures", "InsufficientResourcesFailures", "ExternalFailures")


def _trino(value: str) -> Series:
    return {FAILED % kind: value if kind == "InternalFailures" else ZERO for kind in KINDS}


# Alert → (series that make it fire, series on which it is silent).
CASES: dict[str, tuple[Series, Series]] = {
    "TableStale": (
        {SILVER_BEHIND: "61x60", TARGET: "60x60"},
        {SILVER_BEHIND: "59x60", TARGET: "60x60"},
    ),
    "ProbeLate": (
        {'headwater_probe_waiting_seconds{hop="silver"}': "0+60x60"},
        {'headwater_probe_waiting_seconds{hop="silver"}': "14x60"},
    ),
    "NoEvents": (
        # A table with 600 events in every quarter of an hour stops for the last half hour.
        {OFFSETS: "0+40x150 6000x30"},
        {OFFSETS: "0+40x180"},
    ),
    "SlotInactive": ({"headwater_slot_active": ZERO}, {"headwater_slot_active": ONE}),
    "SlotLost": (
        {"headwater_slot_lost": ZERO, "headwater_slot_present": ZERO},
        {"headwater_slot_lost": ZERO, "headwater_slot_present": ONE},
    ),
    "SlotHoldsTooMuch": (
        {"headwater_slot_retained_bytes": "3e9x60", "headwater_slot_limit_bytes": "4e9x60"},
        {"headwater_slot_retained_bytes": "1e9x60", "headwater_slot_limit_bytes": "4e9x60"},
    ),
    "SlotFillsSoon": (
        {"headwater_slot_seconds_until_limit": "900x60"},
        {"headwater_slot_seconds_until_limit": "1e12x60"},
    ),
    "ConnectorFailed": (
        {'headwater_connector_running{connector="bronze"}': ZERO},
        {'headwater_connector_running{connector="bronze"}': ONE},
    ),
    "KafkaDown": ({'up{job="kafka"}': ZERO}, {'up{job="kafka"}': ONE}),
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
    "BronzeBehind": (
        {'headwater_table_seconds_behind{table="orders",hop="bronze"}': "0+60x60"},
        {'headwater_table_seconds_behind{table="orders",hop="bronze"}': "3x60"},
    ),
    "BronzeGap": (
        {'headwater_bronze_missing_offsets{table="orders"}': "7x60"},
        {'headwater_bronze_missing_offsets{table="orders"}': ZERO},
    ),
    "BronzeCounts": (
        {'headwater_bronze_miscounted{table="orders"}': ONE},
        {'headwater_bronze_miscounted{table="orders"}': ZERO},
    ),
    "BronzeUncounted": (
        {"headwater_transactions_unchecked_seconds": "0+60x60"},
        {"headwater_transactions_unchecked_seconds": "60x60"},
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
    "MaintenanceBehind": (
        {'headwater_delta_uncheckpointed_commits{table="orders"}': "0+20x60"},
        {'headwater_delta_uncheckpointed_commits{table="orders"}': "25x60"},
    ),
    "MaintenanceFailing": (
        {'headwater_silver_maintenance_failing{table="orders"}': ONE},
        {'headwater_silver_maintenance_failing{table="orders"}': ZERO},
    ),
    "MaintenanceStuck": (
        {"headwater_silver_maintenance_waiting_seconds": "0+60x60"},
        # A run that takes minutes now and then.
        {"headwater_silver_maintenance_waiting_seconds": "0 60 120 240 0 0 3x54"},
    ),
    "StreamStopped": (
        {'headwater_stream_stopped{stream="app_logs"}': ONE},
        {'headwater_stream_stopped{stream="app_logs"}': ZERO},
    ),
    "TrinoDown": ({'up{job="trino"}': ZERO}, {'up{job="trino"}': ONE}),
    "TrinoFailing": (_trino("0+6x60"), _trino("2x60")),
    "VerifyDiffers": (
        {'headwater_verification_differences{table="orders"}': ONE},
        {'headwater_verification_differences{table="orders"}': ZERO},
    ),
    "QuarantineRate": (
        {ROWS % "quarantined": "0+2x60", ROWS % "upserted": "0+100x60"},
        {ROWS % "quarantined": ZERO, ROWS % "upserted": "0+100x60"},
    ),
    "ExpectationBreached": (
        {'headwater_expectation_broken_rows{table="orders",rule="total",action="warn"}': ONE},
        {'headwater_expectation_broken_rows{table="orders",rule="total",action="warn"}': ZERO},
    ),
    "DataCondition": (
        {'headwater_condition_breached{table="orders",condition="total"}': ONE},
        {'headwater_condition_breached{table="orders",condition="total"}': ZERO},
    ),
    "ConditionUnanswered": (
        {'headwater_condition_answered{table="orders",condition="total"}': ZERO},
        {'headwater_condition_answered{table="orders",condition="total"}': ONE},
    ),
    "TableStopped": (
        {'headwater_silver_stopped{table="orders"}': ONE},
        {'headwater_silver_stopped{table="orders"}': ZERO},
    ),
    "SchemaChangePending": (
        {'headwater_silver_refused{table="orders"}': ONE},
        {'headwater_silver_refused{table="orders"}': ZERO},
    ),
    "ServiceDown": (
        {'headwater_service_up{service="trino"}': ZERO},
        {'headwater_service_up{service="trino"}': ONE},
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
    "FilesExhausted": (
        {'headwater_service_open_files_share{service="kafka"}': "0.9x60"},
        {'headwater_service_open_files_share{service="kafka"}': "0.1x60"},
    ),
    "DiskLow": (
        {'headwater_disk_state{folder="."}': ONE},
        {'headwater_disk_state{folder="."}': ZERO},
    ),
    "DiskFull": (
        {'headwater_disk_state{folder="."}': "2x60"},
        {'headwater_disk_state{folder="."}': ONE},
    ),
    "DiskFillsSoon": (
        {"headwater_machine_disk_free_bytes": "100e9-1e9x60"},
        {"headwater_machine_disk_free_bytes": "100e9x60"},
    ),
    "ExporterDown": ({'up{job="metrics"}': ZERO}, {'up{job="metrics"}': ONE}),
    "CollectorFailing": (
        {'headwater_collector_up{collector="source"}': ZERO},
        {'headwater_collector_up{collector="source"}': ONE},
    ),
}

LOOKED_AT = {"NoEvents": "3h"}
