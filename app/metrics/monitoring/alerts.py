"""The alerts: an expression, its threshold, how long it must be exceeded, and what a person then reads.

Each description becomes both a rule of Grafana and a rule of Prometheus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.metrics.monitoring.expressions import EXPRESSIONS

Severity = Literal["critical", "warning"]
Team = Literal["platform", "data-engineering"]
# Gets alerts about the data itself: its contracts, and changes of its schema.
DATA_ENGINEERING: Team = "data-engineering"


@dataclass(frozen=True)
class Alert:
    """One alert. It fires when the expression is `above` (or else below) `threshold` for `wait`.

    `normal` describes the usual value; `symptom` is what a person reads first. The section
    of `grafana/runbook.md` is named like the alert.
    """

    name: str
    group: str
    expression: str
    above: bool
    threshold: float
    wait: str
    severity: Severity
    symptom: str
    normal: str
    team: Team = "platform"
    # True where series exist only after something has happened.
    may_be_absent: bool = False

    @property
    def condition(self) -> str:
        """The whole condition, as a Prometheus rule has it."""
        promql = EXPRESSIONS[self.expression].promql
        return f"({promql}) {'>' if self.above else '<'} {self.threshold:g}"

    @property
    def section(self) -> str:
        """The anchor of its section in the runbook, as forges make it of the heading."""
        return self.name.lower()


def _over(group: str, name: str, expression: str, limit: float, wait: str, severity: Severity,
          symptom: str, normal: str, **more: bool | Team) -> Alert:  # fmt: skip
    return Alert(name, group, expression, True, limit, wait, severity, symptom, normal, **more)  # type: ignore[arg-type]


def _under(group: str, name: str, expression: str, limit: float, wait: str, severity: Severity,
           symptom: str, normal: str, **more: bool | Team) -> Alert:  # fmt: skip
    return Alert(name, group, expression, False, limit, wait, severity, symptom, normal, **more)  # type: ignore[arg-type]


ALERTS: tuple[Alert, ...] = (
    # -- freshness
    _over("freshness", "TableStale", "table_behind_target", 1, "1m", "critical",
          "Table {{ $labels.table }} is older than its freshness target",
          "below 0.1: a few seconds of a target of a minute"),
    _over("freshness", "ProbeLate", "probe_waiting", 90, "1m", "critical",
          "A change committed in the source has not reached {{ $labels.hop }}",
          "0 to 5 seconds; bronze up to 15"),
    _under("freshness", "NoEvents", "table_events_drop", 0.1, "5m", "warning",
           "Table {{ $labels.table }} gets no events, and had some in every quarter of an hour",
           "about 1 or more"),
    # -- capture
    _under("capture", "SlotInactive", "slot_active", 1, "2m", "critical",
           "Nobody reads the replication slot: the source keeps WAL for it", "1"),
    _over("capture", "SlotLost", "slot_broken", 0, "30s", "critical",
          "The replication slot is gone or has lost WAL: changes are lost to capture", "0"),
    _over("capture", "SlotHoldsTooMuch", "slot_share", 0.5, "1m", "critical",
          "The slot holds more than half of the WAL that it may", "below 0.05"),
    _under("capture", "SlotFillsSoon", "slot_time_left", 3600, "5m", "critical",
           "At this rate the slot reaches its limit within an hour", "+Inf: it does not grow"),
    # -- carriage
    _under("carriage", "ConnectorFailed", "connector_running", 1, "1m", "critical",
           "Connector {{ $labels.connector }} or one of its tasks does not run", "1"),
    _under("carriage", "KafkaDown", "kafka_up", 1, "1m", "critical",
           "Kafka does not answer", "1"),
    _over("carriage", "KafkaOffline", "kafka_offline", 0, "30s", "critical",
          "Kafka has partitions or log folders offline", "0"),
    _over("carriage", "BronzeBehind", "bronze_behind", 120, "1m", "critical",
          "Bronze lacks events of {{ $labels.table }} that Kafka has for minutes",
          "0 to 3 seconds"),
    _over("carriage", "BronzeGap", "bronze_missing", 0, "0s", "critical",
          "Kafka dropped events of {{ $labels.table }} before bronze had them", "0"),
    _over("carriage", "BronzeCounts", "bronze_miscounted", 0, "0s", "critical",
          "Bronze lacks events of {{ $labels.table }}, or has some twice", "0"),
    _over("carriage", "BronzeUncounted", "transactions_unchecked", 900, "5m", "warning",
          "Bronze has not been held to the transactions' counts for a quarter of an hour",
          "below a minute"),
    # -- silver
    _over("silver", "MergeFailing", "silver_restarts", 1, "0s", "critical",
          "Silver's job ends and is started again: a merge fails", "0"),
    _over("silver", "MergeTooSlow", "silver_growth", 10, "10m", "warning",
          "Events arrive faster than silver merges them", "about 0"),
    _over("silver", "BatchStuck", "batch_age", 120, "1m", "critical",
          "No micro-batch has ended for minutes", "below 15 seconds: probes make batches"),
    _over("silver", "DeltaLogGrows", "log_share", 0.5, "30m", "warning",
          "Delta's logs take more than half of silver's space", "below 0.2"),
    _over("silver", "MaintenanceBehind", "uncheckpointed", 200, "15m", "warning",
          "The log of {{ $labels.table }} gets no checkpoints", "below 50"),
    _over("silver", "MaintenanceFailing", "maintenance_failing", 0, "15m", "warning",
          "Maintenance of {{ $labels.table }} fails: old files and small files stay", "0"),
    _over("silver", "MaintenanceStuck", "maintenance_waiting", 1800, "5m", "warning",
          "Maintenance of silver's tables is overdue: a run waits or lasts for half an hour",
          "0 to 5 seconds"),
    _over("silver", "StreamStopped", "streams_stopped", 0, "1m", "critical",
          "Events of stream {{ $labels.stream }} are not written, after a failure", "0",
          may_be_absent=True),
    # -- query layer
    _under("query", "TrinoDown", "trino_up", 1, "1m", "critical", "Trino does not answer", "1"),
    _over("query", "TrinoFailing", "trino_failing", 0.02, "2m", "warning",
          "Queries fail in Trino itself, not by the user's mistake", "0"),
    # -- quality
    _over("quality", "VerifyDiffers", "verify_differences", 0, "0s", "critical",
          "Silver's {{ $labels.table }} is not equal to the source", "0", may_be_absent=True),
    _over("quality", "QuarantineRate", "quarantine_share", 0.01, "2m", "warning",
          "More than one in a hundred events of {{ $labels.table }} goes to quarantine", "0",
          team=DATA_ENGINEERING),
    _over("quality", "ExpectationBreached", "expectations_breached", 0, "0s", "warning",
          "Rows of {{ $labels.table }} break expectation {{ $labels.rule }}", "0",
          team=DATA_ENGINEERING, may_be_absent=True),
    _over("quality", "DataCondition", "conditions_breached", 0, "0s", "warning",
          "Condition {{ $labels.condition }} of {{ $labels.table }} does not hold", "0",
          team=DATA_ENGINEERING, may_be_absent=True),
    _under("quality", "ConditionUnanswered", "conditions_answered", 1, "10m", "warning",
           "Condition {{ $labels.condition }} of {{ $labels.table }} cannot be computed", "1",
           team=DATA_ENGINEERING, may_be_absent=True),
    _over("quality", "TableStopped", "tables_stopped", 0, "1m", "critical",
          "Table {{ $labels.table }} is stopped after a failure; the others go on", "0",
          may_be_absent=True),
    _over("quality", "SchemaChangePending", "schema_pending", 0, "1m", "critical",
          "Table {{ $labels.table }} is not merged: a change of its schema or key needs a decision",
          "0", team=DATA_ENGINEERING),
    # -- resources
    _under("resources", "ServiceDown", "service_up", 1, "2m", "critical",
           "Service {{ $labels.service }} does not run", "1"),
    _over("resources", "ServiceRestarting", "service_restarts", 3, "0s", "warning",
          "Service {{ $labels.service }} is restarted again and again", "0"),
    _over("resources", "CpuBusy", "machine_cpu", 0.95, "15m", "warning",
          "The machine's processors are busy all the time", "below 0.6"),
    _under("resources", "MemoryLow", "machine_memory_free", 0.05, "5m", "critical",
           "Less than a twentieth of the memory can still be taken", "above 0.3"),
    _over("resources", "FilesExhausted", "service_files_share", 0.8, "5m", "warning",
          "Service {{ $labels.service }} is near its limit of open files", "below 0.1"),
    _over("resources", "DiskLow", "disk_state", 0.5, "1m", "warning",
          "The disk under {{ $labels.folder }} has little room left", "0"),
    _over("resources", "DiskFull", "disk_state", 1.5, "0s", "critical",
          "The disk under {{ $labels.folder }} is full: what writes there stands still", "0"),
    _under("resources", "DiskFillsSoon", "disk_hours_left", 6, "15m", "warning",
           "At this rate the disk is full within six hours", "years"),
    _under("resources", "ExporterDown", "exporter_up", 1, "1m", "critical",
           "The exporter does not answer: most other alerts are blind", "1"),
    _under("resources", "CollectorFailing", "collector_up", 1, "5m", "warning",
           "The exporter's collector {{ $labels.collector }} fails", "1"),
)  # fmt: skip
