"""Superset in a real browser: the Chromium that the machine has, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Error, Locator, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 240_000  # long, because the machine may be busy; tests assert nothing about time
SHOTS_MAX = 10
VISITS_MAX = 5
PICTURE_BYTES_MAX = 150_000  # each is in the repository
QUALITIES = (75, 60, 45, 30)
HOLDER = ".dashboard-component-chart-holder"
WIDTH = 1440
# For each chart of a dashboard: its title, its error, whether it has drawn something, and
# whether that only says that there is no data.
_CHARTS = """() => [...document.querySelectorAll('HOLDER')].map(holder => {
  const text = selector => (holder.querySelector(selector) || {}).innerText || ''
  const empty = !!holder.querySelector('.ant-empty') || text('.header-line') === 'No data'
  return {
    title: text('.header-title'),
    error: text('.ant-alert-error'),
    drawn: empty || !!holder.querySelector('canvas, table, .header-line'),
    empty,
  }
})""".replace("HOLDER", HOLDER)
# The bottom of the lowest chart, because the page is taller than most dashboards.
_BOTTOM = """() => Math.ceil(Math.max(0, ...[...document.querySelectorAll('HOLDER')].map(
  holder => holder.getBoundingClientRect().bottom + 16)))""".replace("HOLDER", HOLDER)


def chromium() -> str | None:
    """The browser's path; None if the machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


needs_chromium = pytest.mark.skipif(
    chromium() is None, reason="no Chromium here: apt-get install chromium"
)


@contextmanager
def logged_in(url: str, user: str, password: str) -> Iterator[Page]:
    """A page of a fresh browser, logged in at the Superset of `url`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
            page.set_default_timeout(PATIENCE_MS)
            visit(page, f"{url}/login/")
            page.wait_for_load_state("networkidle")  # earlier input is lost when the form is built
            page.fill("input#username", user)
            page.fill("input#password", password)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda address: "/login" not in address)
            yield page
        finally:
            browser.close()


def visit(page: Page, url: str) -> None:
    """Load a page; retry once if the machine's network has changed meanwhile.

    Chromium then aborts all its loads, even from loopback. The start of a container suffices for that.
    """
    for visits_left in reversed(range(VISITS_MAX)):
        try:
            page.goto(url)
            return
        except Error as error:
            if not visits_left or "ERR_NETWORK_CHANGED" not in error.message:
                raise


def open_dashboard(page: Page, url: str, slug: str) -> list[dict[str, Any]]:
    """Show a dashboard until each of its charts has drawn or failed.

    The page is made as tall as the dashboard, because only visible charts are drawn.
    Returns: for each chart its `title`, `error` (empty: none), and whether it is `empty`.
    """
    page.set_viewport_size({"width": WIDTH, "height": 2300})
    visit(page, f"{url}/superset/dashboard/{slug}/")
    page.wait_for_selector(HOLDER)
    page.wait_for_function(
        f"() => {{ const all = ({_CHARTS})();"
        " return all.length && all.every(one => one.error || one.drawn) }"
    )
    return list(page.evaluate(_CHARTS))


def holder(page: Page, title: str) -> Locator:
    """The chart with this title on the current dashboard."""
    return page.locator(HOLDER).filter(has=page.get_by_text(title, exact=True))


def number_of(page: Page, title: str) -> str:
    """The current text of the big number with this title; empty while it loads."""
    line = holder(page, title).locator(".header-line")
    return line.inner_text().strip() if line.count() else ""


def cpu_s() -> float:
    """The CPU seconds of all processes of this process's browsers."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                used = process.cpu_times()
                total += used.user + used.system
        except psutil.NoSuchProcess:
            continue
    return total


def keep_picture(page: Page, name: str) -> None:
    """Save a picture of the page if `HEADWATER_SCREENSHOTS` names a folder."""
    folder = os.environ.get("HEADWATER_SCREENSHOTS")
    if not folder:
        return
    before = b""
    for _ in range(SHOTS_MAX):  # charts still move for a moment after they are drawn
        shot = page.screenshot(type="png")
        if shot == before:
            break
        before = shot
    width, bottom = page.viewport_size["width"], page.evaluate(_BOTTOM)  # type: ignore[index]
    clip = {"clip": {"x": 0, "y": 0, "width": width, "height": bottom}} if bottom else {}
    for quality in QUALITIES:
        picture = page.screenshot(type="jpeg", quality=quality, **clip)  # type: ignore[arg-type]
        if len(picture) <= PICTURE_BYTES_MAX:
            break
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{name}.jpg").write_bytes(picture)
