"""The overview: the panels to check first. Each query is declared with its metrics."""

from __future__ import annotations

from app.metrics.declarations.capture_metrics import SLOT_RETAINED, SLOT_UNCONFIRMED
from app.metrics.declarations.declaration import Dashboard, Query, graph, stat
from app.metrics.declarations.freshness_metrics import (
    PROBE_P95,
    TABLE_BEHIND_TARGET,
    TABLE_EVENTS,
    TABLE_SECONDS_BEHIND,
    WAL_HELP,
)
from app.metrics.declarations.resource_metrics import (
    DISK_FREE,
    MACHINE_CPU,
    MACHINE_MEMORY_FREE,
    SERVICE_RESTARTS,
)
from app.metrics.declarations.silver_metrics import ROWS_MERGED

PROBE_P50 = Query(
    "histogram_quantile(0.5, sum by (hop, le) (rate(headwater_probe_seconds_bucket[10m])))",
    "s",
    "{{hop}}",
)
TABLES_BEHIND = f"count(({TABLE_BEHIND_TARGET.promql}) > 1) or vector(0)"

DASHBOARD = Dashboard("overview", "Headwater: healthy? how fresh? what is behind?", (
    stat("Services that do not run", "sum(headwater_service_up == bool 0)"),
    stat("Critical alerts", 'sum(ALERTS{alertstate="firing",severity="critical"}) or vector(0)'),
    stat("Warnings", 'sum(ALERTS{alertstate="firing",severity="warning"}) or vector(0)'),
    stat("Tables over their target", TABLES_BEHIND),
    stat("Slot reads", "headwater_slot_active", help="1: the connector reads the slot"),
    stat("Connectors run", "headwater_connector_running"),
    graph("Commit to each hop, half of the probes", PROBE_P50, width=12,
          help="A row is changed in the source every 15 s and seen again at each hop"),
    graph("Commit to each hop, 95 of 100", PROBE_P95, width=12),
    graph("Oldest unread event, by table", TABLE_SECONDS_BEHIND),
    graph("Events not read yet, by hop", "sum by (hop) (headwater_table_offsets_behind)"),
    graph("Probe on its way for", "headwater_probe_waiting_seconds"),
    graph("Events into Kafka, by table", TABLE_EVENTS, width=6),
    graph("Rows merged, by table", ROWS_MERGED, width=6),
    graph("WAL that the slot holds", SLOT_RETAINED, SLOT_UNCONFIRMED, width=6),
    graph("WAL not taken yet, by hop", "headwater_lsn_behind_bytes", width=6, help=WAL_HELP),
    stat("Processors busy", MACHINE_CPU),
    stat("Memory free", MACHINE_MEMORY_FREE),
    stat("Disk free", DISK_FREE),
    stat("Incidents open", "sum(headwater_incidents_open)",
         help="Services, connectors, the slot, tables: parts that are out of order"),
    stat("Restarts, last 15 min", SERVICE_RESTARTS, width=8),
))  # fmt: skip
