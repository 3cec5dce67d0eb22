"""How long changes take and how far each hop is behind: probes, tables, WAL."""

from __future__ import annotations

from app.metrics.declarations.declaration import Alert, Metric, Query, counter, gauge

METRICS = (
    Metric("headwater_probe_seconds", "histogram",
           "Time from a probe's commit in the source until it was seen at the hop", ("hop",)),
    counter("probe_sent", "Probes committed in the source"),
    gauge("probe_waiting_seconds", "Age of the oldest probe not seen at the hop yet", "hop"),
    gauge("table_seconds_behind", "How long the oldest unread event waits", "table", "hop"),
    gauge("table_offsets_behind", "Kafka offsets not read yet, markers included", "table", "hop"),
    gauge("lsn_behind_bytes", "WAL of the source that the hop is not known to have", "hop"),
    gauge("table_lsn_behind_bytes",
          "WAL of the source that the hop is not known to have of the table", "table", "hop"),
    gauge("table_freshness_target_seconds", "What the table may be behind", "table"),
    counter("table_kafka_offsets", "End offset in Kafka, all partitions, markers included",
            "table"),
)  # fmt: skip

# Silver exports the targets that it applies; the exporter, those of the contract files.
TABLE_BEHIND_TARGET = Query(
    'max by (table) (headwater_table_seconds_behind{hop="silver"}) / on (table)'
    " (max by (table) (headwater_freshness_target_seconds)"
    " or max by (table) (headwater_table_freshness_target_seconds))",
    "percentunit",
)
TABLE_SECONDS_BEHIND = 'max by (table) (headwater_table_seconds_behind{hop="silver"})'
PROBE_P95 = Query(
    "histogram_quantile(0.95, sum by (hop, le) (rate(headwater_probe_seconds_bucket[10m])))",
    "s",
    "{{hop}}",
)
TABLE_EVENTS = Query("sum by (table) (rate(headwater_table_kafka_offsets_total[5m]))", "cps")
TABLE_EVENTS_DROP = Query(
    # The last quarter of an hour, divided by the quietest one of six hours until an hour ago. Ten
    # events are added to both, so that tables which are quiet now and then stay near 1.
    "(sum by (table) (increase(headwater_table_kafka_offsets_total[15m])) + 10) / "
    "(min_over_time(sum by (table) (increase(headwater_table_kafka_offsets_total[15m]))"
    "[6h:15m] offset 1h) + 10)",
    "percentunit",
    "{{table}}",
)
WAL_HELP = "From what the hop is known to have to the source's end; idle: what heartbeats wait for"

ALERTS = (
    Alert("TableStale", TABLE_BEHIND_TARGET, ">", 1, "1m", "critical",
          "Table {{ $labels.table }} is older than its freshness target",
          "below 0.1: a few seconds of a target of a minute"),
    Alert("ProbeLate", "headwater_probe_waiting_seconds", ">", 90, "1m", "critical",
          "A change committed in the source has not reached {{ $labels.hop }}",
          "0 to 5 seconds; bronze up to 15"),
    Alert("NoEvents", TABLE_EVENTS_DROP, "<", 0.1, "5m", "warning",
          "Table {{ $labels.table }} gets no events, and had some in every quarter of an hour",
          "about 1 or more"),
)  # fmt: skip
