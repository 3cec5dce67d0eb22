"""`python -m app.metrics.monitoring.write_files`: writes `grafana/generated` and `grafana/provisioning`.

Every file is made from `expressions`, `alerts` and `panels`; a test checks that they are up to
date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from app.metrics.monitoring import runbook
from app.metrics.monitoring.alerts import ALERTS, Alert
from app.metrics.monitoring.expressions import EXPRESSIONS
from app.metrics.monitoring.panels import DASHBOARDS, Dashboard, Panel, place_of
from app.metrics.monitoring.yaml import dump

FOLDER = Path(__file__).resolve().parents[3] / "grafana"
DATASOURCE = "headwater-prometheus"
# The runbook of a stack without a port offset; a start writes the URL of its own stack.
RUNBOOK = f"http://127.0.0.1:19090{runbook.PATH}"
FOLDER_TITLE = "Headwater"
# Grafana loads rules before dashboards, and a rule file cannot give its folder a uid. With the same
# title, the dashboards' folder would be refused, or there would be two.
RULES_FOLDER_TITLE = "Headwater alerts"
EVALUATE_S = 10
_HEADER = "# Written by `python -m app.metrics.monitoring.write_files`; not edited by hand.\n"
_PANEL_HEIGHT = {"stat": 4, "timeseries": 8, "table": 8}
_COLOURS = {"critical": "red", "warning": "orange"}


def files() -> dict[str, str]:
    """Return path below `grafana/` → content, for every generated file."""
    found = {
        "generated/rules.yml": _HEADER + dump(prometheus_rules()),
        "provisioning/datasources/headwater.yaml": _HEADER + dump(_datasources()),
        "provisioning/dashboards/headwater.yaml": _HEADER + dump(dashboard_providers()),
        "provisioning/alerting/rules.yaml": _HEADER + dump(grafana_rules()),
    }
    for dashboard in DASHBOARDS:
        text = json.dumps(_dashboard(dashboard), indent=1, ensure_ascii=False)
        found[f"dashboards/{dashboard.name}.json"] = text + "\n"
    return found


def groups() -> dict[str, list[Alert]]:
    """Return group → its alerts, in order."""
    found: dict[str, list[Alert]] = {}
    for alert in ALERTS:
        found.setdefault(alert.group, []).append(alert)
    return found


# -- Prometheus


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
            for name, alerts in groups().items()
        ]
    }


def _prometheus_rule(alert: Alert, wait_factor: float, page: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.condition,
        "for": waiting(alert.wait, wait_factor),
        "labels": {"severity": alert.severity, "team": alert.team},
        "annotations": _annotations(alert, page),
    }


def _annotations(alert: Alert, page: str) -> dict[str, str]:
    return {
        "summary": alert.symptom,
        "description": f"Now {{{{ $value }}}}. Normal: {alert.normal}.",
        "runbook_url": f"{page}#{alert.section}",
    }


# -- Grafana: alerting


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
            for name, alerts in groups().items()
        ],
    }


def _grafana_rule(alert: Alert, wait_factor: float, page: str) -> dict[str, Any]:
    board, panel = place_of(alert.expression)
    # In these files Grafana replaces no variables in annotations: `$` is not doubled here.
    annotations = _annotations(alert, page)
    annotations["description"] = f"Now {{{{ $values.A.Value }}}}. Normal: {alert.normal}."
    return {
        "uid": f"headwater-{alert.name.lower()}",
        "title": alert.name,
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": DATASOURCE,
                "model": {
                    "refId": "A",
                    "expr": EXPRESSIONS[alert.expression].promql,
                    "instant": True,
                    "range": False,
                    "intervalMs": 10_000,
                    "maxDataPoints": 43_200,
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 0, "to": 0},
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "B",
                    "type": "threshold",
                    "expression": "A",
                    "conditions": [
                        {
                            "evaluator": {
                                "type": "gt" if alert.above else "lt",
                                "params": [alert.threshold],
                            }
                        }
                    ],
                },
            },
        ],
        "dashboardUid": board,
        "panelId": panel,
        # A missing exporter has an alert of its own; the others do not repeat it.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": waiting(alert.wait, wait_factor),
        "annotations": annotations,
        "labels": {"severity": alert.severity, "team": alert.team},
        "isPaused": False,
    }


# -- Grafana: data source and dashboards


def _datasources() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Headwater Prometheus",
                "uid": DATASOURCE,
                "type": "prometheus",
                "access": "proxy",
                "url": "$HEADWATER_PROMETHEUS_URL",
                "isDefault": True,
                "editable": False,
                "jsonData": {"timeInterval": f"{EVALUATE_S}s", "httpMethod": "POST"},
            }
        ],
    }


def dashboard_providers() -> dict[str, Any]:
    """Say where Grafana finds the dashboards, and in which of its folders it shows them."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "headwater",
                "orgId": 1,
                "folder": FOLDER_TITLE,
                "folderUid": "headwater",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": "$HEADWATER_DASHBOARDS"},
            }
        ],
    }


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    panels, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(dashboard.panels, start=1):
        height = _PANEL_HEIGHT[panel.kind]
        if x + panel.width > 24:
            x, y, row = 0, y + row, 0
        grid = {"x": x, "y": y, "w": panel.width, "h": height}
        panels.append(_panel(number, panel, grid))
        x, row = x + panel.width, max(row, height)
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["headwater"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["headwater"],
                "title": "Headwater",
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def _panel(number: int, panel: Panel, grid: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": DATASOURCE}
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.help,
        "type": panel.kind,
        "datasource": source,
        "gridPos": grid,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": EXPRESSIONS[name].promql,
                "legendFormat": EXPRESSIONS[name].legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for index, name in enumerate(panel.expressions)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": EXPRESSIONS[panel.expressions[0]].unit,
                "thresholds": _thresholds(panel),
            },
            "overrides": [],
        },
        "options": options,
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    """Colour values green where no alert fires, else in the colour of the alert's severity."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    for alert in ALERTS:
        if alert.expression == panel.expressions[0]:
            colour = _COLOURS[alert.severity]
            if alert.above:
                # Grafana's threshold includes its value; the alert fires only beyond it.
                steps.append({"color": colour, "value": alert.threshold or 1e-9})
            else:
                steps = [{"color": colour, "value": None}]
                steps.append({"color": "green", "value": alert.threshold})
    return {"mode": "absolute", "steps": steps}


def main() -> int:
    """Write all files; remove the files of dashboards that no longer exist."""
    made = files()
    for old in (FOLDER / "dashboards").glob("*.json"):
        if f"dashboards/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(made)} files under {FOLDER.name}/", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
