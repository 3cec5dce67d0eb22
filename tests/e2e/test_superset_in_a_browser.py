"""The dashboards in a browser: they are drawn without errors and follow the source; SQL Lab works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from app.dashboards.assets import chart_uuids, read_assets
from app.dashboards.load import ADMIN, FOLDER, admin, superset_url
from tests.support.charts import something_to_see
from tests.support.stack import Stack
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser = pytest.importorskip("tests.support.browser", reason="playwright is not installed")
pytestmark = [
    browser.needs_chromium,
    pytest.mark.timeout(900),  # several waits of SOON_S and of the browser's patience in one test
]

SOON_S = 300.0
BOARDS = {Path(a.path).stem: a for a in read_assets(FOLDER).values() if a.kind == "dashboards"}
SQL = """SELECT title, count(*) AS ratings, round(avg(stars), 2) AS average_stars
FROM lake.silver.ratings
JOIN lake.silver.movies USING (movie_id)
GROUP BY title
ORDER BY ratings DESC, title
LIMIT 10"""
CHART_DATA = re.compile(r"/api/v1/chart/data")


@pytest.fixture(scope="module")
def url(stack: Stack) -> Iterator[str]:
    stack.up(dashboards=True)
    with something_to_see(stack):
        yield superset_url(stack.settings)


@pytest.fixture(scope="module")
def page(stack: Stack, url: str) -> Iterator[Page]:
    password = stack.settings.secret("superset_admin_password")
    with browser.logged_in(url, ADMIN, password) as found:
        yield found


@pytest.mark.parametrize("slug", sorted(BOARDS))
def test_every_chart_of_a_dashboard_is_drawn_with_data_and_without_an_error(
    url: str, page: Page, slug: str
) -> None:
    charts = browser.open_dashboard(page, url, slug)
    browser.keep_picture(page, slug)
    assert [chart for chart in charts if chart["error"] or chart["empty"]] == []
    assert len(charts) == len(chart_uuids(BOARDS[slug].content))


def test_a_chart_whose_question_fails_is_told_by_what_looks_at_the_page(
    url: str, page: Page
) -> None:
    answer = json.dumps(
        {"errors": [{"message": "not today", "error_type": "GENERIC_BACKEND_ERROR"}]}
    )
    page.route(
        CHART_DATA,
        lambda route: route.fulfill(status=500, content_type="application/json", body=answer),
    )
    charts = browser.open_dashboard(page, url, "ratings")
    page.unroute(CHART_DATA)
    assert [chart["title"] for chart in charts if not chart["error"]] == []


@pytest.mark.slow  # e2e/test_superset.py has an order in a chart
def test_an_edit_in_the_source_changes_the_number_on_the_open_dashboard(
    stack: Stack, url: str, page: Page
) -> None:
    browser.open_dashboard(page, url, "store")
    before = until(
        lambda: browser.number_of(page, "Orders"), within_s=SOON_S, what="the number of orders"
    )
    with stack.source() as source:
        source.execute(
            "INSERT INTO orders (customer_id, total, shipping) "
            "SELECT min(customer_id), 12.50, '{}' FROM customers"
        )
    expected = f"{int(before.replace(',', '')) + 1:,}"
    # The page refreshes by itself, without any input.
    until(
        lambda: browser.number_of(page, "Orders"),
        lambda shown: shown == expected,
        within_s=SOON_S,
        what=f"{expected} orders on the dashboard",
        every_s=1.0,
    )


def test_a_number_drills_to_its_rows(stack: Stack, url: str, page: Page) -> None:
    browser.open_dashboard(page, url, "store")
    browser.holder(page, "Orders").locator(".header-line").click(button="right")
    page.get_by_text("Drill to detail", exact=True).first.click()
    rows = page.get_by_role("dialog")
    statuses = {status for (status,) in stack.query("SELECT DISTINCT status FROM orders")}
    until(
        rows.inner_text,
        lambda text: not statuses.isdisjoint(text.split()),
        within_s=SOON_S,
        what="rows of orders, with their status",
        every_s=1.0,
    )


def test_sql_labs_page_shows_what_a_question_to_silver_answers(
    stack: Stack, url: str, page: Page
) -> None:
    [trino] = admin(stack.settings).all("/api/v1/database/")
    query = {"dbid": trino["id"], "schema": "silver", "sql": SQL, "autorun": "true"}
    page.set_viewport_size({"width": browser.WIDTH, "height": 900})
    browser.visit(page, f"{url}/sqllab/?{urlencode(query)}")
    page.get_by_text("10 rows", exact=True).first.wait_for()
    for title, *_ in stack.query(SQL):
        page.get_by_text(title, exact=True).first.wait_for()
    browser.keep_picture(page, "sql-lab")
