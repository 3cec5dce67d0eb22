"""Quarantine, expectations, conditions, verification, schema changes."""

from __future__ import annotations

from app.metrics.declarations.declaration import (
    DATA_ENGINEERING,
    Alert,
    Dashboard,
    Query,
    gauge,
    graph,
)
from app.metrics.declarations.silver_metrics import TABLES_REFUSED

METRICS = (
    gauge("quarantine_rows", "Events in quarantine that are not resolved", "table", "rule"),
    gauge("expectation_broken_rows", "Rows that broke the rule in the last 15 minutes", "table",
          "rule", "action"),
    gauge("verification_passed", "1: the table's last verification found it equal", "table"),
    gauge("verification_differences", "Rows that the last verification found to differ", "table"),
    gauge("verification_timestamp_seconds", "When the table was last verified", "table"),
    gauge("condition_value", "What the condition's value was last", "table", "condition"),
    gauge("condition_breached", "1: it is beyond the condition's bounds", "table", "condition"),
    gauge("condition_answered", "1: Trino could tell the value", "table", "condition"),
)  # fmt: skip

QUARANTINE_SHARE = Query(
    'sum by (table) (rate(headwater_silver_rows_total{outcome="quarantined"}[5m]))'
    " / clamp_min(sum by (table) (rate(headwater_silver_rows_total[5m])), 0.001)",
    "percentunit",
)
EXPECTATIONS_BREACHED = 'sum by (table, rule) (headwater_expectation_broken_rows{action="warn"})'
CONDITIONS_BREACHED = "max by (table, condition) (headwater_condition_breached)"
CONDITIONS_ANSWERED = "min by (table, condition) (headwater_condition_answered)"
SCHEMA_PENDING = (
    # Two reasons side by side: a table that cannot be kept, or one that a change has stopped.
    'max by (table) (label_replace(headwater_silver_refused, "why", "refused", "", "")'
    " or label_replace(max by (table) (headwater_silver_stopped) * on (table)"
    ' (sum by (table) (headwater_silver_schema_changes_total{outcome="stopped"}) > bool 0),'
    ' "why", "changed", "", ""))'
)
SCHEMA_CHANGES = (
    "sum by (table, kind, outcome) (increase(headwater_silver_schema_changes_total[1h]))"
)
TABLES_STOPPED = "max by (table) (headwater_silver_stopped)"

DASHBOARD = Dashboard("quality", "Data quality: quarantine, expectations, verification, schema", (
    graph("Share of events in quarantine", QUARANTINE_SHARE),
    graph("Events in quarantine, by rule", "sum by (table, rule) (headwater_quarantine_rows)"),
    graph("Expectations broken, last 15 min", EXPECTATIONS_BREACHED),
    graph("Conditions that do not hold", CONDITIONS_BREACHED, CONDITIONS_ANSWERED,
          help="Conditions of contracts on whole tables: 1 where one is breached"),
    graph("Values of conditions", "headwater_condition_value"),
    graph("Schema changes, last hour", SCHEMA_CHANGES),
    graph("Schema changes that wait", SCHEMA_PENDING,
          help="1: the table waits for a decision on a change of its schema or key"),
    graph("Rows that verification found to differ", "headwater_verification_differences"),
    graph("Since the last verification",
          Query("time() - headwater_verification_timestamp_seconds", "s", "{{table}}")),
    graph("Tables refused", TABLES_REFUSED),
    graph("Tables stopped", TABLES_STOPPED),
    graph("Contract versions", "headwater_contract_version"),
))  # fmt: skip

ALERTS = (
    Alert("VerifyDiffers", "headwater_verification_differences", ">", 0, "0s", "critical",
          "Silver's {{ $labels.table }} is not equal to the source", "0", may_be_absent=True),
    Alert("QuarantineRate", QUARANTINE_SHARE, ">", 0.01, "2m", "warning",
          "More than one in a hundred events of {{ $labels.table }} goes to quarantine", "0",
          team=DATA_ENGINEERING),
    Alert("ExpectationBreached", EXPECTATIONS_BREACHED, ">", 0, "0s", "warning",
          "Rows of {{ $labels.table }} break expectation {{ $labels.rule }}", "0",
          team=DATA_ENGINEERING, may_be_absent=True),
    Alert("DataCondition", CONDITIONS_BREACHED, ">", 0, "0s", "warning",
          "Condition {{ $labels.condition }} of {{ $labels.table }} does not hold", "0",
          team=DATA_ENGINEERING, may_be_absent=True),
    Alert("ConditionUnanswered", CONDITIONS_ANSWERED, "<", 1, "10m", "warning",
          "Condition {{ $labels.condition }} of {{ $labels.table }} cannot be computed", "1",
          team=DATA_ENGINEERING, may_be_absent=True),
    Alert("TableStopped", TABLES_STOPPED, ">", 0, "1m", "critical",
          "Table {{ $labels.table }} is stopped after a failure; the others go on", "0",
          may_be_absent=True),
    Alert("SchemaChangePending", SCHEMA_PENDING, ">", 0, "1m", "critical",
          "Table {{ $labels.table }} is not merged: a change of its schema or key needs a decision",
          "0", team=DATA_ENGINEERING),
)  # fmt: skip
