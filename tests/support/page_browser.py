"""The page in a real browser: windows of the machine's Chromium, controlled by playwright."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from app.hops import BY_NAME
from tests.support.browser import chromium
from tests.support.stack import Stack
from tests.support.waiting import until

# Long, because the machine may be busy; tests assert nothing about time.
PATIENCE_MS = 90_000
TABS_MAX = 400
HOPS = tuple(BY_NAME)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextmanager
def table_to_edit(stack: Stack, table: str) -> Iterator[str]:
    """The page's address, and a table with rows 1 to 8 in the source, dropped at the end."""
    url = stack.urls()["app"]
    until(lambda: requests.get(url, timeout=5).ok, within_s=PATIENCE_MS / 1_000, what="the page")
    with stack.source() as source:
        source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v text, n int, at timestamptz)")
        source.execute(f"INSERT INTO {table} SELECT i, 'row ' || i, i FROM generate_series(1, 8) i")
    try:
        yield url
    finally:
        with stack.source() as source:
            source.execute(f"DROP TABLE {table}")


@contextmanager
def running() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, url: str = "", **options: Any) -> Iterator[Page]:
    """A window with its own profile, at `url`.

    A script error or a dialog of the page fails the test: so a script in a value would be noticed.
    """
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def on_dialog(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", on_dialog)
    try:
        if url:
            page.goto(url)
        yield page
        assert wrong == []
    finally:
        keep_last(page)
        context.close()


def await_true(
    page: Page, script: str, argument: Any = None, within_s: float = PATIENCE_MS / 1_000
) -> Any:
    """Wait until a script gives a value. Returns: the value.

    It is evaluated from outside, because the page's own policy forbids scripts from text.
    """
    return until(
        lambda: page.evaluate(script, argument),
        within_s=within_s,
        what=script,
    )


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element of `selector` has the focus."""
    for _ in range(TABS_MAX):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    focus = page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    raise AssertionError(f"{selector} was not reached by {TABS_MAX} tabs; the focus is on {focus}")


def keep_last(page: Page) -> None:
    """Save a window's last picture and document if `HEADWATER_TEST_WINDOWS` names a folder: they show more
    about a failed test than its error."""
    folder = os.environ.get("HEADWATER_TEST_WINDOWS")
    if not folder or page.is_closed():
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split("::")[-1].partition(" ")[0]
    name = re.sub(r"\W+", "_", test)[:80] or "window"
    page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    (Path(folder) / f"{name}.html").write_text(page.content(), encoding="utf-8")


def show(page: Page, table: str) -> None:
    """Open the table's rows and wait for the observer, which sees all later edits."""
    page.locator(f'#table option[value="public.{table}"]').wait_for(state="attached")
    page.locator("#table").select_option(f"public.{table}")
    # The rows of another table may still be shown, with keys of the same names.
    page.locator(f'#rows[data-table="public.{table}"]').wait_for()
    await_observer(page)


def await_observer(page: Page) -> None:
    """Wait until the observer of the hops works."""
    ready = re.compile(r"^(?!starting|the observer ended|$)")
    page.locator("#note", has_text=ready).wait_for(state="attached")


def open_tab(page: Page, name: str) -> None:
    """Open a tab's panel, which loads its data."""
    page.locator(f"#tab-{name}").click()
    page.locator(f"#{name}").wait_for()


def describe(page: Page, table: str) -> None:
    """Open a table, `schema.name`, in the catalogue, once the registrar has described it."""
    found = page.get_by_role("button", name=table, exact=True)

    def is_there() -> bool:
        page.locator("#described tbody tr").first.wait_for()
        if not found.count():
            page.locator("#search button").click()  # reads the catalogue again
            page.wait_for_timeout(1_000)
        return found.count() > 0

    until(is_there, within_s=PATIENCE_MS / 1_000, what=f"{table} in the catalogue")
    found.first.click()
    page.locator("svg.lineage").wait_for()


def edit(page: Page, key: int, **values: str) -> None:
    """Add a change of a row to the transaction."""
    page.get_by_role("button", name=f"Edit {key}", exact=True).click()
    for name, value in values.items():
        page.locator("#fields").get_by_label(name, exact=True).fill(value)
    page.locator("#editor-add").click()


def own(page: Page) -> Locator:
    return page.locator("#tokens tr.own")


def await_hops(page: Page, changes: int) -> list[dict[str, int]]:
    """Wait until all hops have shown this many changes of this browser. Returns: the times, newest first."""
    await_true(
        page,
        "wanted => document.querySelectorAll('#tokens tr.own td.hop[data-hop]').length >= wanted",
        changes * len(HOPS),
    )
    return list(
        own(page).evaluate_all(
            "rows => rows.map(row => Object.fromEntries([...row.querySelectorAll('[data-hop]')]"
            ".map(cell => [cell.dataset.hop, Number(cell.dataset.at)])))"
        )
    )


def ask(page: Page, statement: str) -> Locator:
    open_tab(page, "ask")
    page.locator("#asked").fill(statement)
    page.locator("#asked").press("Control+Enter")
    return page.locator("#ask-answer")


def await_cell(page: Page, place: str, text: str) -> None:
    page.locator(f"{place} td").get_by_text(text, exact=True).first.wait_for()
