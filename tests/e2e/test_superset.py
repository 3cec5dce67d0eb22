"""Superset over the running stack shows Trino's answers, and follows the source."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from app.dashboards.assets import Asset, archive, closure, for_source, read_assets
from app.dashboards.export import export_assets
from app.dashboards.load import ANALYST, FOLDER, admin, import_assets, superset_url
from app.dashboards.superset_client import Superset
from app.errors import HeadwaterError
from tests.support.charts import Charts, something_to_see
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 180.0
ASSETS = read_assets(FOLDER)
CHARTS = {Path(a.path).stem: a for a in ASSETS.values() if a.kind == "charts"}
GENRES = (
    "LEFT JOIN movie_genres USING (movie_id) "
    "LEFT JOIN genres ON genres.genre_id = movie_genres.genre_id"
)
# Each chart of the store as SQL, without Superset. The columns are in the
# chart's order, the rows in any order.
SQL = {
    "revenue": "SELECT sum(revenue) FROM reports.revenue_by_hour",
    "orders": "SELECT count(*) FROM orders",
    "ratings": "SELECT count(*) FROM ratings",
    "revenue-by-hour": "SELECT format_datetime(hour, 'yyyy-MM-dd HH:00'), revenue "
    "FROM reports.revenue_by_hour ORDER BY hour DESC LIMIT 72",
    "orders-by-status": "SELECT status, count(*) FROM orders GROUP BY status",
    "rating-distribution": "SELECT stars, ratings FROM reports.rating_distribution",
    "ratings-by-genre": f"SELECT coalesce(name, 'none'), count(*) FROM ratings {GENRES} GROUP BY 1",
    "sales-by-genre": "SELECT coalesce(name, 'none'), sum(quantity * unit_price) "
    f"FROM order_lines JOIN orders USING (order_id) {GENRES} "
    "WHERE status <> 'cancelled' GROUP BY 1",
    "most-rated-movies": "SELECT rank, title, release_year, ratings, average_stars "
    "FROM reports.most_rated_movies WHERE rank <= 100",
    "best-rated-movies": "SELECT rank, title, release_year, weighted_stars, average_stars, ratings "
    "FROM reports.best_rated_movies",
    "top-customers": "SELECT rank, full_name, country, orders, revenue, "
    "cast(to_unixtime(last_paid_at) * 1000 AS bigint) FROM reports.top_customers",
    "catalogue-completeness": "SELECT attribute, percent FROM reports.catalogue_completeness",
}


@pytest.fixture(scope="module")
def superset(stack: Stack) -> Iterator[Superset]:
    """The shared stack with its dashboards, each with data, and an administrator logged in."""
    stack.up(dashboards=True)
    with something_to_see(stack):
        yield admin(stack.settings)


@pytest.fixture(scope="module")
def charts(superset: Superset) -> Charts:
    """The imported charts; each lookup takes a request."""
    return Charts(superset)


def comparable(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """JSON has no decimals, so numbers are compared as floats with nine digits."""

    def value(found: Any) -> Any:
        return float(f"{found:.9g}") if isinstance(found, (int, float, Decimal)) else found

    return sorted(tuple(value(cell) for cell in row) for row in rows)


def shown(charts: Charts, name: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in charts.rows(CHARTS[name].uuid)]


@pytest.mark.parametrize("name", sorted(set(CHARTS) - set(SQL)))
def test_every_other_chart_has_something_to_show(charts: Charts, name: str) -> None:
    rows = shown(charts, name)
    assert rows
    assert any(value is not None for row in rows for value in row)


@pytest.mark.parametrize("name", sorted(SQL))
def test_a_chart_of_the_store_shows_what_sql_answers(
    stack: Stack, charts: Charts, name: str
) -> None:
    expected = comparable(stack.query(SQL[name]))
    assert expected
    assert comparable(shown(charts, name)) == expected


def test_an_order_placed_in_the_source_is_in_the_chart_soon_after(
    stack: Stack, charts: Charts
) -> None:
    [(before,)] = shown(charts, "orders")
    with stack.source() as source:
        source.execute(
            "INSERT INTO orders (customer_id, total, shipping) "
            "SELECT min(customer_id), 12.50, '{}' FROM customers"
        )
    until(
        lambda: shown(charts, "orders"),
        lambda rows: rows == [(before + 1,)],
        within_s=SOON_S,
        what="the new order in the chart",
        every_s=1.0,
    )


def test_the_same_assets_again_change_nothing_and_a_start_does_not_import_them(
    stack: Stack, superset: Superset, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    before = sorted(board["id"] for board in superset.dashboards())
    assert import_assets(stack.settings, mark) == len(ASSETS)
    assert import_assets(stack.settings, mark) == 0
    assert sorted(board["id"] for board in superset.dashboards()) == before
    assert len(superset.charts()) == len(CHARTS)


def test_an_export_of_what_was_imported_changes_no_file(
    stack: Stack, superset: Superset, tmp_path: Path
) -> None:
    import_assets(stack.settings)
    folder = tmp_path / "assets"
    shutil.copytree(FOLDER, folder)
    assert export_assets(superset, folder) == []
    with pytest.raises(HeadwaterError, match="no dashboard with the slug `nowhere`"):
        export_assets(superset, folder, ["nowhere"])


def test_an_edited_asset_is_updated_and_peoples_own_charts_stay(
    stack: Stack, superset: Superset, charts: Charts
) -> None:
    chart = CHARTS["orders"]
    known = f"/api/v1/chart/{charts.by_uuid[chart.uuid]['id']}"
    own = superset.post("/api/v1/dashboard/", {"dashboard_title": "My own", "slug": "my-own"})["id"]
    try:
        superset.import_assets(archive(edited(chart), trino=trino(stack)))
        assert superset.get(known)["slice_name"] == "Orders, edited"
        import_assets(stack.settings)
        assert superset.get(known)["slice_name"] == "Orders"
        assert superset.get(f"/api/v1/dashboard/{own}")["slug"] == "my-own"
    finally:
        superset.delete(f"/api/v1/dashboard/{own}")


def edited(chart: Asset) -> list[Asset]:
    content = {**chart.content, "slice_name": "Orders, edited"}
    others = [a for a in closure(ASSETS, [chart.uuid]) if a is not chart]
    return [*others, Asset(chart.path, chart.kind, content)]


def trino(stack: Stack) -> str:
    return f"127.0.0.1:{stack.settings.ports.number('trino')}"


def test_an_analyst_sees_the_dashboards_asks_sql_and_changes_nothing(
    stack: Stack, superset: Superset, charts: Charts
) -> None:
    settings = stack.settings
    password = settings.secret("superset_analyst_password")
    analyst = Superset(superset_url(settings), ANALYST, password)
    boards = {board["slug"]: board["id"] for board in analyst.dashboards()}
    assert {"store", "freshness", "ratings"} <= set(boards)
    assert charts.seen_by(analyst).rows(CHARTS["orders"].uuid) == charts.rows(CHARTS["orders"].uuid)
    assert asked(analyst, "SELECT count(*) AS n FROM lake.silver.movies")
    with pytest.raises(HeadwaterError, match=r"40[134]"):
        analyst.put(f"/api/v1/dashboard/{boards['store']}", {"dashboard_title": "Mine"})
    with pytest.raises(HeadwaterError, match=r"40[134]"):
        analyst.import_assets(archive(for_source(ASSETS, demo_store=True), trino=trino(stack)))


@pytest.mark.parametrize("schema", ["silver.movies", "reports.top_customers", "ops.freshness"])
def test_sql_lab_answers_on_each_schema(superset: Superset, schema: str) -> None:
    [row] = asked(superset, f"SELECT count(*) AS n FROM lake.{schema}")
    assert row["n"] > 0


def test_sql_lab_keeps_to_the_limit_that_a_question_has_itself(superset: Superset) -> None:
    assert len(asked(superset, "SELECT movie_id FROM lake.silver.movies LIMIT 3")) == 3


def test_sql_lab_cannot_change_the_lake(superset: Superset) -> None:
    with pytest.raises(HeadwaterError, match=r"(?i)only `SELECT`|not allowed|DML"):
        asked(superset, "DELETE FROM lake.silver.movies")


def asked(superset: Superset, sql: str) -> list[dict[str, Any]]:
    databases = superset.all("/api/v1/database/")
    [database] = [each["id"] for each in databases if each["database_name"] == "Trino"]
    body = {"database_id": database, "sql": sql, "schema": "silver", "runAsync": False}
    return list(superset.post("/api/v1/sqllab/execute/", body)["data"])


def test_nobody_sees_anything_without_logging_in(superset: Superset) -> None:
    for path in ("/api/v1/dashboard/store", "/api/v1/chart/1/data/", "/api/v1/database/"):
        answer = requests.get(superset.url + path, timeout=30, allow_redirects=False)
        assert answer.status_code in (302, 401, 403, 404), path


def test_the_log_in_is_told_by_a_command_and_the_address_by_urls(
    stack: Stack, superset: Superset
) -> None:
    told = stack.answer("superset", "login")
    assert told["url"] == superset.url
    assert told["user"] == "admin"
    assert told["password"] == stack.settings.secret("superset_admin_password")
    urls = stack.urls()
    assert urls["superset"] == superset.url
