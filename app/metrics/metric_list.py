"""Everything that `declarations/` declares: all metrics, dashboards and alerts, in order.

Names follow Prometheus' conventions: base units, the unit in the name, counters end in `_total`.
The files under `grafana/` and `docs/reference/metrics.md` are written from this.
"""

from __future__ import annotations

from app.metrics.declarations import (
    capture_metrics,
    carriage_metrics,
    freshness_metrics,
    overview_metrics,
    quality_metrics,
    resource_metrics,
    runs_metrics,
    silver_metrics,
    trino_metrics,
)
from app.metrics.declarations.declaration import Alert, Dashboard, Metric

METRICS: tuple[Metric, ...] = (
    *resource_metrics.EXPORTER,
    *freshness_metrics.METRICS,
    *capture_metrics.METRICS,
    *carriage_metrics.METRICS,
    *silver_metrics.METRICS,
    *resource_metrics.INCIDENTS,
    *trino_metrics.METRICS,
    *quality_metrics.METRICS,
    *runs_metrics.METRICS,
    *resource_metrics.METRICS,
)
BY_NAME = {metric.name: metric for metric in METRICS}

DASHBOARDS: tuple[Dashboard, ...] = (
    overview_metrics.DASHBOARD,
    capture_metrics.DASHBOARD,
    carriage_metrics.DASHBOARD,
    silver_metrics.DASHBOARD,
    trino_metrics.DASHBOARD,
    quality_metrics.DASHBOARD,
    runs_metrics.DASHBOARD,
    resource_metrics.DASHBOARD,
)

# Group of rules → its alerts.
ALERT_GROUPS: dict[str, tuple[Alert, ...]] = {
    "freshness": freshness_metrics.ALERTS,
    "capture": capture_metrics.ALERTS,
    "carriage": carriage_metrics.ALERTS,
    "silver": silver_metrics.ALERTS,
    "query": trino_metrics.ALERTS,
    "quality": quality_metrics.ALERTS,
    "jobs": runs_metrics.ALERTS,
    "resources": resource_metrics.ALERTS,
}
ALERTS = tuple(alert for alerts in ALERT_GROUPS.values() for alert in alerts)


def place_of(alert: Alert) -> tuple[Dashboard, int]:
    """Return the first (dashboard, panel id) that shows an alert's query; the overview comes last.

    Raises: KeyError for an alert whose query is on no panel.
    """
    for dashboard in (*DASHBOARDS[1:], DASHBOARDS[0]):
        for number, panel in enumerate(dashboard.panels, start=1):
            if alert.promql in (query.promql for query in panel.queries):
                return dashboard, number
    raise KeyError(f"no panel shows the query of alert {alert.name}: {alert.promql}")
