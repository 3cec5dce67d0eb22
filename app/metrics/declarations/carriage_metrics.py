"""Kafka, Connect, bronze and the object store."""

from __future__ import annotations

from app.metrics.declarations.declaration import (
    Alert,
    Dashboard,
    Query,
    counter,
    gauge,
    graph,
    stat,
)
from app.metrics.declarations.freshness_metrics import TABLE_EVENTS, TABLE_EVENTS_DROP, WAL_HELP

METRICS = (
    gauge("connector_running",
          "1: the connector runs and carries events; 0 also where it retries for ever",
          "connector"),
    gauge("connector_tasks", "Tasks of the connector by state", "connector", "state"),
    gauge("bronze_missing_offsets", "Offsets that Kafka dropped before bronze had them", "table"),
    gauge("bronze_miscounted",
          "Open incidents: bronze lacks events of a transaction, or has some twice", "table"),
    counter("transactions_checked", "Transactions whose counts were held against bronze"),
    counter("transactions_miscounted", "Transactions and tables whose counts differ", "kind"),
    counter("transactions_unproven",
            "Transactions that the connector counted in part, after a restart within them"),
    gauge("transactions_unchecked_seconds", "Since all that Kafka had then was counted in bronze"),
    gauge("transactions_unchecked_bytes", "WAL of the source whose transactions are not counted"),
    gauge("store_bytes", "Size of the object store's layer", "layer"),
    gauge("store_objects", "Objects of the object store's layer", "layer"),
)  # fmt: skip

KAFKA_UP = 'min(up{job="kafka"})'
KAFKA_OFFLINE = "kafka_controller_offlinepartitionscount + on () kafka_log_offlinelogdirectorycount"
BRONZE_BEHIND = 'max by (table) (headwater_table_seconds_behind{hop="bronze"})'
BRONZE_MISCOUNTED = "max by (table) (headwater_bronze_miscounted)"
TRANSACTIONS_UNCHECKED = Query("headwater_transactions_unchecked_seconds", legend="behind")

DASHBOARD = Dashboard("carriage", "Carriage: Kafka, Connect, bronze, the object store", (
    stat("Kafka answers", KAFKA_UP),
    stat("Kafka offline parts", KAFKA_OFFLINE),
    stat("Connectors run", "headwater_connector_running", width=8),
    stat("Bronze lacks", "headwater_bronze_missing_offsets", width=8),
    graph("Kafka in and out", Query("rate(kafka_server_bytesin_total[5m])", "Bps", "in"),
          Query("rate(kafka_server_bytesout_total[5m])", "Bps", "out")),
    graph("Messages into Kafka",
          Query("rate(kafka_server_messagesin_total[5m])", "cps", "messages")),
    graph("Kafka, 99 of 100 requests",
          Query("kafka_network_request_p99_milliseconds", "ms", "{{request}}")),
    graph("Tasks by state", "headwater_connector_tasks"),
    graph("Bronze: oldest event not stored", BRONZE_BEHIND),
    graph("Bronze: WAL not stored",
          'max by (table) (headwater_table_lsn_behind_bytes{hop="bronze"})', help=WAL_HELP),
    graph("Bronze: time of a put",
          Query("kafka_connect_sink_task_put_batch_avg_time_ms", "ms", "{{connector}}")),
    graph("Object store, size by layer", "headwater_store_bytes"),
    graph("Object store, objects by layer", "headwater_store_objects"),
    graph("Kafka on disk", 'headwater_service_disk_bytes{service="kafka"}'),
    graph("Events into Kafka, by table", TABLE_EVENTS, width=16),
    graph("Events against the quietest quarter", TABLE_EVENTS_DROP),
    stat("Tables miscounted in bronze", BRONZE_MISCOUNTED, width=8,
         help="Transactions whose END record has other counts than bronze has events"),
    graph("Transactions counted",
          Query("rate(headwater_transactions_checked_total[5m])", "cps", "checked")),
    graph("Counts behind Kafka", TRANSACTIONS_UNCHECKED,
          help="10 to 25 seconds: the sink says every few seconds what it has stored"),
))  # fmt: skip

ALERTS = (
    Alert("ConnectorFailed", "headwater_connector_running", "<", 1, "1m", "critical",
          "Connector {{ $labels.connector }} or one of its tasks does not run", "1"),
    Alert("KafkaDown", KAFKA_UP, "<", 1, "1m", "critical", "Kafka does not answer", "1"),
    Alert("KafkaOffline", KAFKA_OFFLINE, ">", 0, "30s", "critical",
          "Kafka has partitions or log folders offline", "0"),
    Alert("BronzeBehind", BRONZE_BEHIND, ">", 120, "1m", "critical",
          "Bronze lacks events of {{ $labels.table }} that Kafka has for minutes",
          "0 to 3 seconds"),
    Alert("BronzeGap", "headwater_bronze_missing_offsets", ">", 0, "0s", "critical",
          "Kafka dropped events of {{ $labels.table }} before bronze had them", "0"),
    Alert("BronzeCounts", BRONZE_MISCOUNTED, ">", 0, "0s", "critical",
          "Bronze lacks events of {{ $labels.table }}, or has some twice", "0"),
    Alert("BronzeUncounted", TRANSACTIONS_UNCHECKED, ">", 900, "5m", "warning",
          "Bronze has not been held to the transactions' counts for a quarter of an hour",
          "below a minute"),
)  # fmt: skip
