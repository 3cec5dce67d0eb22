"""The cost of Superset without users, and with each dashboard open in a browser.

CPU is each service's own by the kernel's accounting, as a share of one core; a question is a request
for the data of one chart. The measurement of a dashboard begins when all its charts have been drawn
without an error, so that it covers only refreshes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from app.dashboards.load import ADMIN, superset_url
from tests.support.charts import something_to_see
from tests.support.measure import Resources, report, watched
from tests.support.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

browser = pytest.importorskip("tests.support.browser", reason="playwright is not installed")
pytestmark = browser.needs_chromium

LASTS_S = 80.0  # two rounds of the slowest dashboards
BOARDS = ("store", "freshness", "ratings")
# The services that work for a dashboard. The CPU of the others is in the sum.
SERVICES = ("superset", "superset-db", "trino", "s3")


def test_cost_of_an_open_dashboard(stack: Stack) -> None:
    stack.up(dashboards=True)
    url, password = superset_url(stack.settings), stack.settings.secret("superset_admin_password")
    with something_to_see(stack):
        figures = {"closed": measured(stack, time.sleep)}
        with browser.logged_in(url, ADMIN, password) as page:
            for slug in BOARDS:
                figures[slug] = opened(stack, page, url, slug)
    report("dashboards", figures)


def opened(stack: Stack, page: Page, url: str, slug: str) -> dict[str, Any]:
    """Measure one dashboard, from the moment when it has been drawn."""
    questions: list[str] = []

    def note(request: Request) -> None:
        if "/api/v1/chart/data" in request.url:
            questions.append(request.url)

    began = time.monotonic()
    charts = browser.open_dashboard(page, url, slug)
    drawn_s = time.monotonic() - began
    assert [chart for chart in charts if chart["error"]] == []
    page.on("request", note)
    used = browser.cpu_s()
    figures = measured(stack, lambda seconds: page.wait_for_timeout(seconds * 1_000))
    used = browser.cpu_s() - used
    page.remove_listener("request", note)
    return {
        "charts": len(charts),
        "drawn_s": round(drawn_s, 1),
        "questions_a_minute": round(len(questions) * 60 / figures["lasted_s"], 1),
        "browser_cpu_share": round(used / figures["lasted_s"], 3),
        **figures,
    }


def measured(stack: Stack, wait: Callable[[float], None]) -> dict[str, Any]:
    """CPU shares and memory while `wait` lasts."""
    with watched(stack) as resources:
        began = time.monotonic()
        wait(LASTS_S)
        lasted_s = time.monotonic() - began
    return {"lasted_s": round(lasted_s, 1), **shares(resources, lasted_s)}


def shares(resources: Resources, lasted_s: float) -> dict[str, Any]:
    cpu = {name: round(resources.cpu_s[name] / lasted_s, 3) for name in SERVICES}
    return {
        "cpu_share": cpu,
        "cpu_share_of_all": round(sum(resources.cpu_s.values()) / lasted_s, 2),
        "peak_mib": {name: resources.peak_mib[name] for name in SERVICES},
        "total_mib": resources.total_mib,
    }
