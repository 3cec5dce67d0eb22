"""The source's WAL and slot, and Debezium."""

from __future__ import annotations

from app.metrics.declarations.declaration import Alert, Dashboard, Query, gauge, graph, stat
from app.metrics.declarations.freshness_metrics import PROBE_P95, WAL_HELP

METRICS = (
    gauge("source_wal_position_bytes", "The source's current WAL position"),
    gauge("slot_present", "1: the replication slot exists"),
    gauge("slot_active", "1: somebody reads the slot"),
    gauge("slot_lost", "1: the slot's WAL is gone, it cannot go on"),
    gauge("slot_retained_bytes", "WAL that the slot holds back in the source"),
    gauge("slot_unconfirmed_bytes", "WAL that Kafka has not confirmed yet"),
    gauge("slot_limit_bytes", "max_slot_wal_keep_size; absent where there is no limit"),
    gauge("slot_seconds_until_limit", "Until the limit at the last ten minutes' growth"),
)

SLOT_BROKEN = "headwater_slot_lost + (1 - headwater_slot_present)"
SLOT_RETAINED = Query("headwater_slot_retained_bytes", legend="held back")
SLOT_UNCONFIRMED = Query("headwater_slot_unconfirmed_bytes", legend="not confirmed")
SLOT_SHARE = Query("headwater_slot_retained_bytes / headwater_slot_limit_bytes", "percentunit")
DEBEZIUM_BEHIND = Query("debezium_streaming_millisecondsbehindsource / 1000", "s", "behind source")
DEBEZIUM_IDLE = Query(
    "debezium_streaming_millisecondssincelastevent / 1000", "s", "since last event"
)
DEBEZIUM_QUEUE = Query(
    "1 - debezium_streaming_queueremainingcapacity / debezium_streaming_queuetotalcapacity",
    "percentunit",
)

DASHBOARD = Dashboard("capture", "Capture: the source, its slot, Debezium", (
    stat("Slot reads", "headwater_slot_active"),
    stat("Slot lost", SLOT_BROKEN),
    stat("Of the slot's limit", SLOT_SHARE),
    stat("Until the limit", "headwater_slot_seconds_until_limit"),
    stat("Snapshot: tables left", "clamp_min(debezium_snapshot_remainingtablecount - 1, 0)"),
    stat("Debezium's queue", DEBEZIUM_QUEUE),
    graph("WAL that the slot holds", SLOT_RETAINED, SLOT_UNCONFIRMED),
    graph("WAL written in the source",
          Query("rate(headwater_source_wal_position_bytes[5m])", "Bps")),
    graph("Events seen by Debezium",
          Query("rate(debezium_streaming_totalnumberofeventsseen[5m])", "cps", "events")),
    graph("Debezium behind the source", DEBEZIUM_BEHIND, DEBEZIUM_IDLE,
          help="Behind keeps its last value at rest: read it with the time since the last event"),
    graph("Commit to Kafka, 95 of 100", PROBE_P95),
    graph("Probe on its way for", "headwater_probe_waiting_seconds"),
    graph("WAL not taken yet, by hop", "headwater_lsn_behind_bytes", width=24, help=WAL_HELP),
))  # fmt: skip

ALERTS = (
    Alert("SlotInactive", "headwater_slot_active", "<", 1, "2m", "critical",
          "Nobody reads the replication slot: the source keeps WAL for it", "1"),
    Alert("SlotLost", SLOT_BROKEN, ">", 0, "30s", "critical",
          "The replication slot is gone or has lost WAL: changes are lost to capture", "0"),
    Alert("SlotHoldsTooMuch", SLOT_SHARE, ">", 0.5, "1m", "critical",
          "The slot holds more than half of the WAL that it may", "below 0.05"),
    Alert("SlotFillsSoon", "headwater_slot_seconds_until_limit", "<", 3600, "5m", "critical",
          "At this rate the slot reaches its limit within an hour", "+Inf: it does not grow"),
)  # fmt: skip
