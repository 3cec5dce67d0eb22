"""Every metric of the exporter: its name, unit, labels and meaning, in one list.

Names follow Prometheus' conventions: base units, the unit in the name, counters end in `_total`.
`docs/reference/metrics.md` is written from this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]

# Hops of the way of a change. A probe is seen at each of them; tables are behind at two.
PROBE_HOPS = ("kafka", "bronze", "silver", "trino")
# Where WAL may be behind: Trino reads what silver has.
LSN_HOPS = ("kafka", "bronze", "silver")
LAYERS = ("bronze", "silver", "silver_log", "ops", "contracts", "other")


@dataclass(frozen=True)
class Metric:
    """One family. A counter's `name` is without `_total`, which the text format adds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name to ask Prometheus for (of a histogram: its count)."""
        return {"counter": f"{self.name}_total", "histogram": f"{self.name}_count"}.get(
            self.kind, self.name
        )


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"headwater_{name}", "gauge", help, labels)


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"headwater_{name}", "counter", help, labels)


PROBE_SECONDS = Metric(
    "headwater_probe_seconds",
    "histogram",
    "Commit of a probe in the source until it was seen at the hop",
    ("hop",),
)

METRICS: tuple[Metric, ...] = (
    # -- the exporter itself
    _gauge("collector_up", "1: the collector's last run succeeded", "collector"),
    _counter("collector_cpu_seconds", "CPU that the collector has used", "collector"),
    _gauge("collector_period_seconds", "Time between two runs, stretched by cost", "collector"),
    _counter("exporter_series_dropped", "Series beyond the limit a family, not exported"),
    # -- freshness
    PROBE_SECONDS,
    _counter("probe_sent", "Probes committed in the source"),
    _gauge("probe_waiting_seconds", "Age of the oldest probe not seen at the hop yet", "hop"),
    _gauge("table_seconds_behind", "How long the oldest unread event waits", "table", "hop"),
    _gauge("table_offsets_behind", "Kafka offsets not read yet, markers included", "table", "hop"),
    _gauge("lsn_behind_bytes", "WAL of the source that the hop is not known to have", "hop"),
    _gauge(
        "table_lsn_behind_bytes",
        "WAL of the source that the hop is not known to have of the table",
        "table",
        "hop",
    ),
    _gauge("table_freshness_target_seconds", "What the table may be behind", "table"),
    _counter(
        "table_kafka_offsets", "End offset in Kafka, all partitions, markers included", "table"
    ),
    # -- source
    _gauge("source_wal_position_bytes", "The source's current WAL position"),
    _gauge("slot_present", "1: the replication slot exists"),
    _gauge("slot_active", "1: somebody reads the slot"),
    _gauge("slot_lost", "1: the slot's WAL is gone, it cannot go on"),
    _gauge("slot_retained_bytes", "WAL that the slot holds back in the source"),
    _gauge("slot_unconfirmed_bytes", "WAL that Kafka has not confirmed yet"),
    _gauge("slot_limit_bytes", "max_slot_wal_keep_size; absent where there is no limit"),
    _gauge("slot_seconds_until_limit", "Until the limit at the last ten minutes' growth"),
    # -- carriage
    _gauge(
        "connector_running",
        "1: the connector runs and carries events; 0 also where it retries for ever",
        "connector",
    ),
    _gauge("connector_tasks", "Tasks of the connector by state", "connector", "state"),
    _gauge("bronze_missing_offsets", "Offsets that Kafka dropped before bronze had them", "table"),
    _gauge(
        "bronze_miscounted",
        "Open incidents: bronze lacks events of a transaction, or has some twice",
        "table",
    ),
    _counter("transactions_checked", "Transactions whose counts were held against bronze"),
    _counter("transactions_miscounted", "Transactions and tables whose counts differ", "kind"),
    _counter(
        "transactions_unproven",
        "Transactions that the connector counted in part, after a restart within them",
    ),
    _gauge("transactions_unchecked_seconds", "Since all that Kafka had then was counted in bronze"),
    _gauge("transactions_unchecked_bytes", "WAL of the source whose transactions are not counted"),
    _gauge("store_bytes", "Size of the object store's layer", "layer"),
    _gauge("store_objects", "Objects of the object store's layer", "layer"),
    # -- silver
    _gauge("silver_batch_timestamp_seconds", "When the newest batch of the ledger ended"),
    _gauge("delta_files", "Files of the table's newest version", "table"),
    _gauge("delta_bytes", "Size of the table's newest version", "table"),
    _gauge("delta_small_files", "Files below half the target size", "table"),
    _gauge("delta_version", "The table's newest version", "table"),
    _gauge("delta_log_bytes", "Size of the table's log", "table"),
    _gauge("delta_uncheckpointed_commits", "Commits since the log's last checkpoint", "table"),
    _gauge("contract_version", "Version of the table's newest contract", "table"),
    # -- incidents
    _gauge(
        "incidents_open",
        "Incidents that are open: parts that are out of order now, and what others recorded",
        "kind",
    ),
    _counter("incidents", "Parts that went out of order, or were when the exporter began", "kind"),
    _gauge("incident_seconds", "How long the oldest open incident lasts; 0: none is open", "kind"),
    # -- quality
    _gauge("quarantine_rows", "Events in quarantine that are not resolved", "table", "rule"),
    _gauge(
        "expectation_broken_rows",
        "Rows that broke the rule in the last 15 minutes",
        "table",
        "rule",
        "action",
    ),
    _gauge("verification_passed", "1: the table's last verification found it equal", "table"),
    _gauge("verification_differences", "Rows that the last verification found to differ", "table"),
    _gauge("verification_timestamp_seconds", "When the table was last verified", "table"),
    _gauge("condition_value", "What the condition's value was last", "table", "condition"),
    _gauge("condition_breached", "1: it is beyond the condition's bounds", "table", "condition"),
    _gauge("condition_answered", "1: Trino could tell the value", "table", "condition"),
    # -- processes and the machine
    _gauge("service_up", "1: the service is as it should be", "service"),
    _counter("service_restarts", "Restarts of the service by the supervisor", "service"),
    _counter("service_cpu_seconds", "CPU of the service's processes that live", "service"),
    _gauge("service_resident_bytes", "Resident memory of the service's processes", "service"),
    _gauge("service_open_files", "Open file descriptors of the service's processes", "service"),
    _gauge("service_open_files_share", "Of the limit, the service's fullest process", "service"),
    _gauge("service_disk_bytes", "Data, rendered files and logs of the service", "service"),
    _gauge("machine_cpus", "Processors of the machine"),
    _counter("machine_cpu_seconds", "CPU time of the machine that was not idle"),
    _gauge("machine_memory_bytes", "Memory of the machine"),
    _gauge("machine_memory_available_bytes", "Memory that can still be taken"),
    _gauge("machine_disk_bytes", "Size of the disk that the stack's home is on"),
    _gauge("machine_disk_free_bytes", "Free space on it"),
    _gauge("disk_bytes", "Size of each disk, by the first folder of the home on it", "folder"),
    _gauge("disk_free_bytes", "Free space on it", "folder"),
    _gauge("disk_state", "0: it has room, 1: low, 2: full; by bytes or files", "folder"),
)

BY_NAME = {metric.name: metric for metric in METRICS}
