"""Trino, which tells its own metrics."""

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
    stat("Rules not applied", RULES_NOT_APPLIED),
))  # fmt: skip

ALERTS = (
    Alert("TrinoDown", TRINO_UP, "<", 1, "1m", "critical", "Trino does not answer", "1"),
    Alert("TrinoFailing", TRINO_FAILING, ">", 0.02, "2m", "warning",
          "Queries fail in Trino itself, not by the user's mistake", "0"),
    Alert("RulesNotApplied", RULES_NOT_APPLIED, ">", 0, "0s", "warning",
          "access.toml has a mistake: who sees what stays as it was", "0", may_be_absent=True),
)  # fmt: skip
