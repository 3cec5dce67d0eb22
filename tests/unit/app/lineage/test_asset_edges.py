"""Superset's shipped assets: the table columns that each chart shows, and its dashboards."""

from __future__ import annotations

import pytest

from app.dashboards.assets import chart_uuids, read_assets
from app.environment.settings import ROOT
from app.lineage.asset_edges import asset_edges
from app.lineage.edge import CHART, DASHBOARD, DATASET, UNKNOWN, Edge

ASSETS = read_assets(ROOT / "superset" / "assets")


def schemas() -> dict[str, dict[str, dict[str, str]]]:
    """The tables of datasets and of their SQL, with the columns of the datasets."""
    found: dict[str, dict[str, dict[str, str]]] = {
        "silver": {
            "order_lines": dict.fromkeys(("order_id", "movie_id", "quantity", "unit_price"), "bigint"),
            "orders": dict.fromkeys(("order_id", "status", "placed_at"), "varchar"),
            "movies": dict.fromkeys(("movie_id", "title"), "varchar"),
            "movie_genres": dict.fromkeys(("movie_id", "genre_id"), "bigint"),
            "genres": dict.fromkeys(("genre_id", "name"), "varchar"),
            "customers": dict.fromkeys(("customer_id", "full_name", "country"), "varchar"),
            "ratings": dict.fromkeys(("customer_id", "movie_id", "stars", "review", "rated_at"), "varchar"),
        }
    }  # fmt: skip
    for asset in ASSETS.values():
        if asset.kind == "datasets" and not asset.content.get("sql"):
            columns = [one["column_name"] for one in asset.content["columns"]]
            tables = found.setdefault(asset.content["schema"], {})
            known = tables.setdefault(asset.content["table_name"], {})
            known.update(dict.fromkeys(columns, "varchar"))
    return found


@pytest.fixture(scope="module")
def edges() -> list[Edge]:
    return list(asset_edges(ASSETS, schemas()))


def test_every_chart_of_every_dashboard_is_reached_from_a_dataset(edges: list[Edge]) -> None:
    charts = {e.target.name for e in edges if e.target.namespace == CHART}
    on_boards = {(e.origin.name, e.target.name) for e in edges if e.target.namespace == DASHBOARD}
    for asset in ASSETS.values():
        if asset.kind == "dashboards":
            for uuid in chart_uuids(asset.content):
                title = ASSETS[uuid].content["slice_name"]
                assert title in charts
                assert (title, asset.content["dashboard_title"]) in on_boards


def test_a_dataset_of_its_own_sql_is_made_of_the_columns_that_it_names(edges: list[Edge]) -> None:
    amount = {
        str(e.origin) for e in edges if str(e.target) == "dataset:silver.sales_by_genre.amount"
    }
    assert amount == {"silver.order_lines.quantity", "silver.order_lines.unit_price"}
    assert not [e for e in edges if e.kind == UNKNOWN and e.target.namespace == DATASET]


def test_a_metric_is_made_of_the_columns_of_its_expression_and_shown_by_its_chart(
    edges: list[Edge],
) -> None:
    pairs = {(str(e.origin), str(e.target)) for e in edges}
    assert ("dataset:ops.freshness.source_time", "dataset:ops.freshness.data_as_of") in pairs
    assert ("dataset:ops.freshness.data_as_of", "chart:Data as of") in pairs


def test_what_a_chart_filters_by_is_a_filter(edges: list[Edge]) -> None:
    kinds = {
        e.origin.column: e.kind for e in edges if str(e.target) == "chart:Batch duration by minute, p95 ms"
    }  # fmt: skip
    assert kinds["table_name"] == "filter"
    assert kinds["merged_at"] == kinds["duration_p95_ms"] == "shown"


def test_assets_over_tables_that_are_not_there_have_no_edges() -> None:
    found = list(asset_edges(ASSETS, {"ops": schemas()["ops"]}))
    assert {e.target.name.split(".")[0] for e in found if e.target.namespace == DATASET} == {"ops"}
    assert "Revenue" not in {e.target.name for e in found if e.target.namespace == CHART}
