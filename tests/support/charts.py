"""Asks Superset for a chart's data as its page in the browser does."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from app.dashboards.client import Superset

# Superset is off by default, and its start takes minutes on a busy machine.
only_where_asked_for = pytest.mark.skipif(
    os.environ.get("HEADWATER_TEST_DASHBOARDS") != "1",
    reason="Superset's tests run with HEADWATER_TEST_DASHBOARDS=1",
)


class Charts:
    """The charts of one Superset, by uuid."""

    def __init__(self, superset: Superset) -> None:
        self._superset = superset
        found = (superset.get(f"/api/v1/chart/{chart['id']}") for chart in superset.charts())
        self.by_uuid: dict[str, dict[str, Any]] = {chart["uuid"]: chart for chart in found}

    def seen_by(self, other: Superset) -> Charts:
        """The same charts, asked for by another user."""
        found = copy.copy(self)
        found._superset = other
        return found

    def rows(self, uuid: str) -> list[dict[str, Any]]:
        """What the chart shows now; AssertionError where its question fails."""
        chart = self.by_uuid[uuid]
        params = json.loads(chart["params"])
        body = {
            "datasource": {"id": int(params["datasource"].split("__")[0]), "type": "table"},
            "queries": [query_of(params)],
            "result_format": "json",
            "result_type": "full",
        }
        [answer] = self._superset.post("/api/v1/chart/data", body)["result"]
        assert not answer["error"], f"{chart['slice_name']}: {answer['error']}"
        assert not answer["is_cached"], f"{chart['slice_name']} is cached"
        return list(answer["data"])


def query_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The query that Superset's page makes of a chart's parameters, for the kinds that we use."""
    columns: list[Any] = list(params.get("groupby") or [])
    metrics = list(params.get("metrics") or [])
    order: list[Any] = []
    if "metric" in params:
        metrics = [params["metric"]]
    if params.get("query_mode") == "raw":
        columns, metrics = list(params["all_columns"]), []
        order = [json.loads(text) for text in params["order_by_cols"]]
    if "x_axis" in params:
        axis = params["x_axis"]
        columns.insert(
            0,
            {
                "columnType": "BASE_AXIS",
                "expressionType": "SQL",
                "sqlExpression": axis,
                "label": axis,
                "timeGrain": params.get("time_grain_sqla"),
            },
        )
    filters = [
        {"col": each["subject"], "op": each["operator"], "val": each["comparator"]}
        for each in params.get("adhoc_filters", [])
    ]
    return {
        "columns": columns,
        "metrics": metrics if metrics or params.get("query_mode") != "raw" else None,
        "orderby": order,
        "filters": filters,
        "row_limit": params.get("row_limit", 1_000),
        "extras": {"having": "", "where": ""},
    }
