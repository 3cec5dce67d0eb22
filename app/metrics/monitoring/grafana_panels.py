"""The dashboards as Grafana reads them."""

from __future__ import annotations

import re
from typing import Any

from app.metrics.declarations.declaration import Dashboard, Panel, Query
from app.metrics.metric_list import ALERTS, METRICS

DATASOURCE = "headwater-prometheus"
_PANEL_HEIGHT = {"stat": 4, "timeseries": 8, "table": 8}
_COLOURS = {"critical": "red", "warning": "orange"}
# Grafana's unit, by the suffix of a metric's name.
_UNITS = {"_seconds": "s", "_bytes": "bytes", "_share": "percentunit"}
_LABELS = {metric.sample: metric.labels for metric in METRICS}
# A query of the values of one metric as they are, and one that groups by labels.
_ONE_METRIC = re.compile(r"(?:\w+ by \([^)]*\) \()?(\w+)(?:{[^}]*})?\)?")
_GROUPED = re.compile(r"\w+ by \(([^)]*)\) ")


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """Make a dashboard; its panels are side by side in their order, in rows of 24 columns."""
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
                "expr": query.promql,
                "legendFormat": _legend(query),
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {"unit": _unit(panel.queries[0]), "thresholds": _thresholds(panel)},
            "overrides": [],
        },
        "options": options,
    }


def _unit(query: Query) -> str:
    one = _ONE_METRIC.fullmatch(query.promql)
    named = [unit for part, unit in _UNITS.items() if one and part in one[1]]
    return query.unit or (named[0] if named else "short")


def _legend(query: Query) -> str:
    """The given one, else the labels that the query groups by, or all that its one metric has."""
    grouped = _GROUPED.match(query.promql)
    labels = grouped[1].split(", ") if grouped else _LABELS.get(query.promql, ())
    return query.legend or " ".join(f"{{{{{label}}}}}" for label in labels) or "__auto"


def _thresholds(panel: Panel) -> dict[str, Any]:
    """Colour values green if no alert fires, otherwise in the colour of the alert's severity."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    for alert in ALERTS:
        if alert.promql == panel.queries[0].promql:
            colour = _COLOURS[alert.severity]
            if alert.compare == ">":
                # Grafana's threshold includes its value; the alert fires only beyond it.
                steps.append({"color": colour, "value": alert.threshold or 1e-9})
            else:
                steps = [{"color": colour, "value": None}]
                steps.append({"color": "green", "value": alert.threshold})
    return {"mode": "absolute", "steps": steps}
