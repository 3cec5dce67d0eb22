"""The alerts as rules of Prometheus, and as rules of Grafana."""

from __future__ import annotations

from typing import Any

from app.metrics.declarations.declaration import Alert
from app.metrics.metric_list import ALERT_GROUPS, place_of
from app.metrics.monitoring import runbook
from app.metrics.monitoring.grafana_panels import DATASOURCE

# The runbook of a stack without a port offset; a start writes the URL of its own stack.
RUNBOOK = f"http://127.0.0.1:19090{runbook.PATH}"
# Grafana loads rules before dashboards, and a rule file cannot give its folder a uid. With the same
# title, the dashboards' folder would be refused, or there would be two.
RULES_FOLDER_TITLE = "Headwater alerts"
EVALUATE_S = 10


def waiting(wait: str, factor: float) -> str:
    """Multiply a time such as `30s` or `5m` by `factor`."""
    if factor == 1:
        return wait
    seconds = int(wait[:-1]) * {"s": 1, "m": 60, "h": 3600}[wait[-1]]
    return f"{round(seconds * factor)}s"


def prometheus_rules(wait_factor: float = 1, page: str = RUNBOOK) -> dict[str, Any]:
    """Make a Prometheus rule file; each alert waits `wait_factor` times as long as it says.

    `page`: the URL of the page that has the runbook's sections.
    """
    return {
        "groups": [
            {
                "name": f"headwater-{name}",
                "rules": [_prometheus_rule(a, wait_factor, page) for a in alerts],
            }
            for name, alerts in ALERT_GROUPS.items()
        ]
    }


def _prometheus_rule(alert: Alert, wait_factor: float, page: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.condition,
        "for": waiting(alert.wait, wait_factor),
        "labels": {"severity": alert.severity, "team": alert.team},
        "annotations": _annotations(alert, page, "$value"),
    }


def _annotations(alert: Alert, page: str, value: str) -> dict[str, str]:
    return {
        "summary": alert.symptom,
        "description": f"Now {{{{ {value} }}}}. Normal: {alert.normal}.",
        "runbook_url": f"{page}#{alert.section}",
    }


def grafana_rules(wait_factor: float = 1, page: str = RUNBOOK) -> dict[str, Any]:
    """Make Grafana-managed rules, in Grafana's provisioning format; see `prometheus_rules`."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": f"headwater-{name}",
                "folder": RULES_FOLDER_TITLE,
                "interval": f"{EVALUATE_S}s",
                "rules": [_grafana_rule(alert, wait_factor, page) for alert in alerts],
            }
            for name, alerts in ALERT_GROUPS.items()
        ],
    }


def _grafana_rule(alert: Alert, wait_factor: float, page: str) -> dict[str, Any]:
    dashboard, panel = place_of(alert)
    return {
        "uid": f"headwater-{alert.name.lower()}",
        "title": alert.name,
        "condition": "B",
        "data": [_question(alert), _comparison(alert)],
        "dashboardUid": dashboard.uid,
        "panelId": panel,
        # A missing exporter has an alert of its own; the others do not repeat it.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": waiting(alert.wait, wait_factor),
        # Grafana does not expand variables in the annotations of these files, so `$` is not doubled.
        "annotations": _annotations(alert, page, "$values.A.Value"),
        "labels": {"severity": alert.severity, "team": alert.team},
        "isPaused": False,
    }


def _question(alert: Alert) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": DATASOURCE,
        "model": {
            "refId": "A",
            "expr": alert.promql,
            "instant": True,
            "range": False,
            "intervalMs": 10_000,
            "maxDataPoints": 43_200,
        },
    }


def _comparison(alert: Alert) -> dict[str, Any]:
    kind = {">": "gt", "<": "lt"}[alert.compare]
    return {
        "refId": "B",
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": {
            "refId": "B",
            "type": "threshold",
            "expression": "A",
            "conditions": [{"evaluator": {"type": kind, "params": [alert.threshold]}}],
        },
    }
