"""The page by keyboard alone, on a phone, in light and dark; and beside another site."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

browsers = pytest.importorskip("tests.support.page_browser", reason="playwright is not installed")
pytestmark = browsers.MARKS

TABLE = "roamed"


@pytest.fixture(scope="module")
def url(stack: Stack) -> Iterator[str]:
    with browsers.table_to_edit(stack, TABLE) as found:
        stack.await_tables(TABLE)
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as found:
        yield found


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with browsers.window(browser, url) as found:
        browsers.show(found, TABLE)
        yield found


def test_all_of_it_goes_by_keyboard_alone(page: Page) -> None:
    keys = page.keyboard
    browsers.tab_to(page, '[aria-label="Edit 7"]')
    keys.press("Enter")
    browsers.tab_to(page, "#field-1")
    keys.press("Control+A")
    keys.type("by keyboard")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "commit"
    keys.press("Enter")
    browsers.await_hops(page, 1)
    browsers.tab_to(page, "#commit, a[href='#ask'], #statement")
    page.evaluate("document.activeElement.blur()")
    browsers.tab_to(page, 'nav a[href="#ask"]')
    keys.press("Enter")
    browsers.tab_to(page, "#asked")
    keys.type(f"SELECT v FROM {TABLE} WHERE id = 7")
    keys.press("Control+Enter")
    browsers.await_cell(page, "#ask-answer", "by keyboard")
    # A dialog is left by Escape, and nothing is changed.
    page.evaluate("document.activeElement.blur()")
    browsers.tab_to(page, '[aria-label="Edit 7"]')
    keys.press("Enter")
    keys.press("Escape")
    assert not page.locator("#editor").is_visible() and page.locator("#changes li").count() == 0


def luminance(page: Page, property_: str) -> float:
    """Of the body's colour, 0 is black and 255 is white."""
    text = page.evaluate(f"getComputedStyle(document.body).{property_}")
    return sum(float(part) for part in re.findall(r"[\d.]+", text)[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_in_dark(browser: Browser, url: str, scheme: str) -> None:
    options = {"viewport": browsers.PHONE, "color_scheme": scheme, "is_mobile": True}
    with browsers.window(browser, url, **options) as page:
        browsers.show(page, TABLE)
        browsers.edit(page, 8, v=f"by phone in {scheme} {'x' * 300}")
        page.locator("#commit").click()
        browsers.await_hops(page, 1)
        ground, ink = luminance(page, "backgroundColor"), luminance(page, "color")
        assert ground > 200 > 90 > ink if scheme == "light" else ground < 60 < 200 < ink
        screen = browsers.PHONE["width"]
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= screen, "nothing makes the page wider than the screen"
        page.get_by_role("button", name="Edit 8", exact=True).click()
        box = page.locator("#editor").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= screen
        page.keyboard.press("Escape")


def test_rows_that_come_late_do_not_replace_those_of_the_table_chosen_now(page: Page) -> None:
    slow = re.compile(r"/api/rows\?table=public\.movies&")
    held: list[Route] = []

    # Not the list's own `append`: playwright marks what it calls, and a built-in takes no mark.
    def hold(route: Route) -> None:
        held.append(route)

    page.route(slow, hold)
    with page.expect_request(slow):
        page.locator("#table").select_option("public.movies")
    browsers.show(page, TABLE)
    [late] = held
    with page.expect_response(slow):
        late.continue_()
    # What the page makes of that answer is done before it has another one.
    page.evaluate("fetch('/api/tables').then(answer => answer.json())")
    assert page.locator("#rows").get_attribute("data-table") == f"public.{TABLE}"
    assert page.get_by_role("button", name="Edit 7", exact=True).is_visible()


class _OtherSite(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def other_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OtherSite) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()
        thread.join(timeout=10)


def test_another_site_in_the_same_browser_changes_and_reads_nothing(
    stack: Stack, browser: Browser, url: str, other_site: str
) -> None:
    body = json.dumps({"sql": f"DELETE FROM {TABLE}"})
    # What a site could try: with its own headers, as a form would, by each of the page's names.
    attempt = """async ([address, body, options]) => {
      try {
        const answer = await fetch(address, {method: 'POST', body, ...options});
        return answer.type === 'opaque' ? 'opaque' : answer.status;
      } catch (error) { return error.name; }
    }"""
    with browsers.window(browser, other_site) as page:
        for host in (url, url.replace("127.0.0.1", "localhost")):
            address = f"{host.rstrip('/')}/api/sql"
            typed = {"headers": {"content-type": "application/json"}}
            assert page.evaluate(attempt, [address, body, typed]) == "TypeError"
            simple = {"mode": "no-cors", "headers": {"content-type": "text/plain"}}
            assert page.evaluate(attempt, [address, body, simple]) in ("opaque", "TypeError")
            read = "address => fetch(address).then(a => a.text()).catch(e => e.name)"
            assert page.evaluate(read, f"{host.rstrip('/')}/api/tables") == "TypeError"
            assert page.evaluate(read, host) == "TypeError", "nor the token"
        page.set_content(
            f"<iframe src='{url}'></iframe><form method=post enctype=text/plain "
            f"action='{url.rstrip('/')}/api/sql'><input name='{body}'></form>"
        )
        with page.expect_navigation():
            page.evaluate("document.forms[0].submit()")
        assert "another site's request is refused" in page.content()
    with stack.source() as source:
        [(rows,)] = source.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
    assert rows > 0
