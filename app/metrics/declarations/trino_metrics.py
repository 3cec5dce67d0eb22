"""Trino's own metrics."""

from __future__ import annotations

from app.metrics.declarations.declaration import Alert, Dashboard, Query, gauge, graph, stat
from app.metrics.declarations.freshness_metrics import PROBE_P95

METRICS = (
    gauge("rules_not_applied", "1: Trino's rules do not follow access.toml, which has a mistake"),
)

TRINO_UP = 'min(up{job="trino"})'
TRINO_FAILING = Query(
    "rate(trino_InternalFailures_total[5m]) + rate(trino_ExternalFailures_total[5m])"
    " + rate(trino_InsufficientResourcesFailures_total[5m])",
    "cps",
    "failed by Trino",
)
AUDIT_MISSING = Query("increase(headwater_audit_missing_total[15m])", legend="missing")
AUDIT_DENIED = Query(
    'increase(headwater_audit_questions_total{outcome="denied"}[5m])', legend="denied"
)

RULES_NOT_APPLIED = "max(headwater_rules_not_applied)"

DASHBOARD = Dashboard("query", "Query layer: Trino", (
    stat("Trino answers", TRINO_UP),
    stat("Running", Query("trino_RunningQueries", legend="running")),
    stat("Queued", Query("trino_QueuedQueries", legend="queued")),
    stat("Memory", Query('headwater_service_resident_bytes{service="trino"}', legend="resident")),
    graph("Queries", Query("rate(trino_CompletedQueries_total[5m])", "cps", "completed"),
          Query("rate(trino_UserErrorFailures_total[5m])", "cps", "refused"), TRINO_FAILING),
    graph("Time of a query, 95 of 100",
          Query('trino_ExecutionTime_milliseconds{quantile="0.95"} / 1000', "s", "p95")),
    graph("Commit to a Trino answer, 95 of 100", PROBE_P95),
    graph("Audit: questions", Query("sum by (outcome) (rate(headwater_audit_questions_total[5m]))",
                                    "cps"),
          help="Empty without `audit = true` in the profile"),
    graph("Audit: denied, last 5 min", AUDIT_DENIED),
    graph("Audit: missing, last 15 min", AUDIT_MISSING),
    stat("Rules not applied", RULES_NOT_APPLIED),
))  # fmt: skip

ALERTS = (
    Alert("TrinoDown", TRINO_UP, "<", 1, "1m", "critical", "Trino does not answer", "1"),
    Alert("TrinoFailing", TRINO_FAILING, ">", 0.02, "2m", "warning",
          "Queries fail in Trino itself, not by the user's mistake", "0"),
    Alert("AuditGap", AUDIT_MISSING, ">", 0, "0s", "warning",
          "Questions to Trino are missing in the audit", "0", may_be_absent=True),
    Alert("AccessDeniedBurst", AUDIT_DENIED, ">", 20, "0s", "warning",
          "Trino refuses many questions, for lack of rights, or sign-ins", "0 to 5", may_be_absent=True),
    Alert("RulesNotApplied", RULES_NOT_APPLIED, ">", 0, "0s", "warning",
          "access.toml has a mistake: who sees what stays as it was", "0", may_be_absent=True),
)  # fmt: skip
