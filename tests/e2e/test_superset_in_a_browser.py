"""The dashboards as people see them: drawn without an error, following the source, SQL Lab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from app.dashboards.assets import chart_uuids, read_assets
from app.dashboards.load import ADMIN, FOLDER, superset_url
from app.store.connection import engine_for
from app.store.workload import Workload
from tests.support.charts import only_where_asked_for
from tests.support.stack import Stack
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser = pytest.importorskip("tests.support.browser", reason="playwright is not installed")
pytestmark = [
    only_where_asked_for,
    pytest.mark.skipif(
        browser.chromium() is None, reason="no Chromium here: apt-get install chromium"
    ),
]

SOON_S = 300.0
BOARDS = {Path(a.path).stem: a for a in read_assets(FOLDER).values() if a.kind == "dashboards"}


@pytest.fixture(scope="module")
def url(stack: Stack) -> str:
    stack.up(dashboards=True)
    stack.await_tables("ratings", "payments", "orders")
    # For the charts of the last hour.
    Workload(engine_for(stack.settings.source_dsn), rate=0).run(changes_max=300)
    with stack.source() as source:
        [(placed,)] = source.execute("SELECT count(*) FROM orders").fetchall()
    until(
        lambda: stack.query("SELECT count(*) FROM silver.orders"),
        lambda rows: rows == [(placed,)],
        within_s=SOON_S,
        what=f"{placed} orders in silver",
        every_s=0.5,
    )
    return superset_url(stack.settings)


@pytest.fixture(scope="module")
def page(stack: Stack, url: str) -> Iterator[Page]:
    password = stack.settings.secret("superset_admin_password")
    with browser.logged_in(url, ADMIN, password) as found:
        yield found


@pytest.mark.parametrize("slug", sorted(BOARDS))
def test_every_chart_of_a_dashboard_is_drawn_without_an_error(
    url: str, page: Page, slug: str
) -> None:
    charts = browser.open_dashboard(page, url, slug)
    browser.keep_picture(page, slug)
    assert [chart for chart in charts if chart["error"]] == []
    assert len(charts) == len(chart_uuids(BOARDS[slug].content))


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
    # Nobody touches the page: it asks again by itself.
    until(
        lambda: browser.number_of(page, "Orders"),
        lambda shown: shown == expected,
        within_s=SOON_S,
        what=f"{expected} orders on the dashboard",
        every_s=1.0,
    )


def test_sql_lab_answers_in_the_browser(url: str, page: Page) -> None:
    sql = "SELECT 'rows: ' || cast(count(*) AS varchar) AS answer FROM lake.silver.genres"
    query = urlencode({"dbid": 1, "schema": "silver", "sql": sql, "autorun": "true"})
    page.goto(f"{url}/sqllab?{query}")
    page.get_by_text(re.compile(r"^rows: \d+$")).first.wait_for()
    browser.keep_picture(page, "sql-lab")
