"""The edges of Superset's datasets, charts and dashboards, read from the files of `superset/assets/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.dashboards.assets import Asset, chart_uuids
from app.lineage.edge import (
    CHART,
    COPY,
    DASHBOARD,
    DATASET,
    DERIVED,
    FILTER,
    LAKE,
    SHOWN,
    Edge,
    Place,
)
from app.lineage.query_edges import Schemas, expression_columns, view_edges

# A chart's parameters that list columns, that name one column, and that list metrics.
_LISTS = ("groupby", "columns", "all_columns", "groupbyRows", "groupbyColumns")
_SINGLE = ("x_axis", "granularity_sqla", "series", "entity")
_METRICS = ("metrics", "metric", "metrics_b", "secondary_metric", "timeseries_limit_metric")


def asset_edges(assets: Mapping[str, Asset], schemas: Schemas) -> Iterator[Edge]:
    """Yield the edges of the assets whose tables exist: table → dataset → chart → dashboard.

    Args:
        assets: by uuid.
        schemas: the lake's tables and views with their columns.
    """
    known: set[str] = set()
    for uuid, asset in assets.items():
        if asset.kind == "datasets" and (found := list(_dataset_edges(asset, schemas))):
            known.add(uuid)
            yield from found
    for uuid, asset in assets.items():
        if asset.kind == "charts" and asset.content["dataset_uuid"] in known:
            known.add(uuid)
            yield from _chart_edges(asset, assets[asset.content["dataset_uuid"]])
    for asset in assets.values():
        if asset.kind == "dashboards":
            board = Place(DASHBOARD, str(asset.content["dashboard_title"]))
            for uuid in chart_uuids(asset.content):
                if uuid in known:
                    yield Edge(_chart(assets[uuid]), board, SHOWN)


def _dataset_edges(asset: Asset, schemas: Schemas) -> Iterator[Edge]:
    """Yield a dataset's edges: from a table's columns or its own SQL to its columns, from columns to metrics."""
    content = asset.content
    dataset = _dataset(asset)
    columns = [str(one["column_name"]) for one in content.get("columns") or ()]
    table = schemas.get(content["schema"], {}).get(content["table_name"], {})
    if content.get("sql"):
        made = view_edges(dataset.name, content["sql"], None, _tables(content, schemas), schemas)
        if not made:
            return
        for edge in made:
            yield edge._replace(target=edge.target._replace(namespace=DATASET), made_by="dataset")
    elif table:
        whole = Place(LAKE, dataset.name)
        for column in columns:
            if column in table:
                yield Edge(whole._replace(column=column), dataset._replace(column=column), COPY)
    else:
        return
    for metric in content.get("metrics") or ():
        for column in sorted(expression_columns(metric["expression"]) & set(columns)):
            target = dataset._replace(column=str(metric["metric_name"]))
            yield Edge(dataset._replace(column=column), target, DERIVED, "metric")


def _chart_edges(asset: Asset, of: Asset) -> Iterator[Edge]:
    dataset, chart = _dataset(of), _chart(asset)
    params: Mapping[str, Any] = asset.content.get("params") or {}
    shown: set[str] = set()
    for key in (*_LISTS, *_SINGLE):
        for one in _listed(params.get(key)):
            shown |= {one} if isinstance(one, str) else expression_columns(one["sqlExpression"])
    for key in _METRICS:
        for one in _listed(params.get(key)):
            shown |= {one} if isinstance(one, str) else _of_metric(one)
    for column in sorted(shown):
        yield Edge(dataset._replace(column=column), chart, SHOWN)
    subjects = {one.get("subject") for one in params.get("adhoc_filters") or ()}
    for column in sorted(one for one in subjects if one and one not in shown):
        yield Edge(dataset._replace(column=column), chart, FILTER)
    if not shown:
        yield Edge(dataset, chart, SHOWN)


def _of_metric(metric: Mapping[str, Any]) -> set[str]:
    if metric.get("expressionType") == "SIMPLE":
        return {str(metric["column"]["column_name"])}
    return expression_columns(metric.get("sqlExpression") or "")


def _listed(value: Any) -> Iterable[Any]:
    """The columns or metrics of a parameter; one with an expression of its own is a mapping."""
    given = value if isinstance(value, list) else [value]
    return [
        one
        for one in given
        if isinstance(one, str)
        or (isinstance(one, dict) and ("sqlExpression" in one or "column" in one))
    ]


def _dataset(asset: Asset) -> Place:
    return Place(DATASET, f"{asset.content['schema']}.{asset.content['table_name']}")


def _chart(asset: Asset) -> Place:
    return Place(CHART, str(asset.content["slice_name"]))


def _names(schemas: Schemas) -> set[str]:
    return {f"{schema}.{table}" for schema, tables in schemas.items() for table in tables}


def _tables(content: Mapping[str, Any], schemas: Schemas) -> list[str]:
    """The tables of the lake that a text names as `schema.table`."""
    text = str(content["sql"]).lower()
    return [name for name in sorted(_names(schemas)) if name in text]
