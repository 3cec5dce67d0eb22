"""The page with the keyboard alone, on a phone, in light and dark, and attacked by another site."""

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
pytestmark = pytest.importorskip("tests.support.browser").needs_chromium

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
    browsers.tab_to(page, '.skip[href="#rows"]')
    keys.press("Enter")
    browsers.tab_to(page, '[aria-label="Edit 7"]')
    assert_focus_is_seen(page)
    # Escape closes a dialog without a change, and the focus is where it was before.
    keys.press("Enter")
    keys.press("Escape")
    assert not page.locator("#editor").is_visible() and page.locator("#changes li").count() == 0
    assert focused(page) == "Edit 7"
    keys.press("Enter")
    browsers.tab_to(page, "#field-1")
    keys.press("Control+A")
    keys.type("by keyboard")
    keys.press("Enter")  # commits: no other edit is pending
    browsers.await_hops(page, 1)
    page.locator("#compare-answer", has_text="all equal").wait_for()
    assert focused(page) == "Edit 7", "the rows were read again meanwhile"
    # Tab moves to the chosen tab and then into its panel; arrows move to other tabs, Enter opens one.
    browsers.tab_to(page, '[role="tab"][aria-selected="true"]')
    assert_focus_is_seen(page)
    keys.press("End")
    assert focused(page) == "Trace a row"
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    assert focused(page) == "SQL on the lake" and page.locator("#ask").is_hidden()
    keys.press("Enter")
    assert (
        page.locator("#ask").is_visible() and page.locator('[role="tabpanel"]:visible').count() == 1
    )
    browsers.tab_to(page, "#asked")
    keys.type(f"SELECT v FROM {TABLE} WHERE id = 7")
    keys.press("Control+Enter")
    browsers.await_cell(page, "#ask-answer", "by keyboard")


def test_the_catalogue_goes_by_keyboard_from_the_search_to_a_tables_columns(page: Page) -> None:
    keys = page.keyboard
    browsers.open_tab(page, "catalogue")
    page.locator("#described tbody tr").first.wait_for()
    browsers.tab_to(page, "#sought")
    keys.type(f"{TABLE} v")
    page.locator("#found", has_text=re.compile("^1 of ")).wait_for()
    browsers.tab_to(page, "#described button")
    assert_focus_is_seen(page)
    keys.press("Enter")
    assert focused(page) == f"silver.{TABLE}", "its title has the focus"
    browsers.tab_to(page, '[aria-label="Lineage of v"]')
    keys.press("Enter")
    page.locator("#one-way").get_by_text(f"Lineage of silver.{TABLE}.v", exact=True).wait_for()
    browsers.tab_to(page, "#one-list summary")
    keys.press("Enter")
    page.locator("#one-list li", has_text=f"source: public.{TABLE}.v").wait_for()


def focused(page: Page) -> str:
    """The name of the focused element."""
    script = "(one => one.getAttribute('aria-label') || one.textContent)(document.activeElement)"
    return str(page.evaluate(script))


def assert_focus_is_seen(page: Page) -> None:
    style = page.evaluate("(({outlineStyle, outlineWidth}) => outlineStyle + ' ' + outlineWidth)"
                          "(getComputedStyle(document.activeElement))")  # fmt: skip
    assert style == "solid 2px"


def test_each_tab_has_its_panel_and_loads_when_it_is_opened(page: Page, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    names = page.locator("#tabs [role=tab]").evaluate_all(
        "tabs => tabs.map(tab => tab.getAttribute('aria-controls'))"
    )
    page.reload()
    browsers.show(page, TABLE)
    for part in ("/api/ask", "/api/quarantine", "/api/health", "/api/trace", "/api/catalogue"):
        assert not [url for url in asked if part in url], "nobody has looked yet"
    for name in names:
        browsers.open_tab(page, name)
        assert page.locator("#tabs [aria-selected=true]").get_attribute("aria-controls") == name
        assert (
            page.locator("[role=tabpanel]:visible").get_attribute("aria-labelledby")
            == f"tab-{name}"
        )
    for part in ("/api/ask", "/api/quarantine", "/api/health", "/api/catalogue"):
        browsers.await_true(page, "true")
        assert [url for url in asked if part in url]
    page.reload()
    page.locator(f"#{names[-1]}").wait_for()  # the same tab is open again


def test_health_shows_something_from_the_first_look_on(page: Page) -> None:
    parts = ("alerts", "connectors", "freshness", "verification", "services")
    held: list[Route] = []
    released: list[bool] = []

    def hold(route: Route) -> None:
        if released:
            route.continue_()
        else:
            held.append(route)

    page.route(re.compile(r"/api/health"), hold)
    with page.expect_request(re.compile(r"/api/health\?within_s=")):
        browsers.open_tab(page, "health")
    for part in parts:
        assert page.locator(f"#health-{part}").inner_text() == "asking …"
    released.append(True)
    for route in held:
        route.continue_()
    page.locator("#health-services tr", has_text="kafka").wait_for()
    for part in parts:
        assert page.locator(f"#health-{part}").inner_text().strip()
    page.locator("#health-freshness tr", has_text=TABLE).wait_for()


def test_without_its_token_the_page_says_where_to_find_it(browser: Browser, url: str) -> None:
    base, _, token = url.partition("#")
    for address in (base, f"{base}#token=wrong"):
        with browsers.window(browser, address) as page:
            page.locator("#locked").wait_for()
            assert "./headwater urls" in page.locator("#locked").inner_text()
            assert page.locator("main").is_hidden()
            page.goto(f"{base}#{token}")  # the right address, in the same tab
            browsers.show(page, TABLE)
            assert token not in page.url and page.locator("#locked").is_hidden()
            page.reload()
            browsers.show(page, TABLE)


def test_a_source_that_is_only_shown_has_nothing_to_edit(browser: Browser, url: str) -> None:
    with browsers.window(browser) as page:
        page.route(
            re.compile(r"/api/source"),
            lambda route: route.fulfill(
                json={"read_only": "the page can only read here: a superuser"}
            ),
        )
        page.goto(url)
        browsers.show(page, TABLE)
        page.locator("#read-only", has_text="can only read here").wait_for()
        assert page.get_by_role("button", name="Edit 7", exact=True).count() == 0
        assert page.locator("#insert").is_disabled() and page.locator("#tab-sql-box").is_disabled()
        assert page.get_by_role("button", name="Trace 7", exact=True).is_visible()


# The contrast of each text and the first opaque background behind it: the ratio of their
# luminances, as WCAG 2 defines it.
_CONTRAST = """selector => [...document.querySelectorAll(selector)].filter(one => one.offsetParent).map(one => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  let ground = one;
  while (ground && rgb(getComputedStyle(ground).backgroundColor)[3] < 255) ground = ground.parentElement;
  const light = colour => {
    const [r, g, b] = rgb(colour).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const both = [light(getComputedStyle(one).color), light(getComputedStyle(ground ?? document.body).backgroundColor)];
  return [(Math.max(...both) + .05) / (Math.min(...both) + .05), one.outerHTML.slice(0, 80)];
})"""
READ = "h1, h2, h3, h4, p, label, th, td, dt, dd, summary, button:enabled, #journey li > *, code, a, small"


def luminance(page: Page, property_: str) -> float:
    """The lightness of the body's colour: 0 is black, 255 is white."""
    text = page.evaluate(f"getComputedStyle(document.body).{property_}")
    return sum(float(part) for part in re.findall(r"[\d.]+", text)[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_text_is_readable_in_light_and_in_dark(
    browser: Browser, url: str, scheme: str
) -> None:
    with browsers.window(browser, url, color_scheme=scheme) as page:
        browsers.show(page, TABLE)
        browsers.edit(page, 5, v=f"read in {scheme}")
        page.locator("#commit").click()
        browsers.await_hops(page, 1)
        ground, ink = luminance(page, "backgroundColor"), luminance(page, "color")
        assert ground > 200 > 90 > ink if scheme == "light" else ground < 60 < 200 < ink
        for name in ("propagation", "sql-box", "catalogue", "health", "quarantine", "trace"):
            browsers.open_tab(page, name)
            if name == "catalogue":
                browsers.describe(page, f"silver.{TABLE}")
            found = page.evaluate(_CONTRAST, READ)
            assert len(found) > 20
            assert [(ratio, what) for ratio, what in found if ratio < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, url: str, scheme: str) -> None:
    options = {"viewport": browsers.PHONE, "color_scheme": scheme, "is_mobile": True}
    screen = browsers.PHONE["width"]
    with browsers.window(browser, url, **options) as page:
        browsers.show(page, TABLE)
        browsers.edit(page, 8, v=f"by phone in {scheme} {'x' * 300}")
        page.locator("#commit").click()
        browsers.await_hops(page, 1)
        for name in ("propagation", "sql-box", "ask", "health", "quarantine", "trace", "catalogue"):
            browsers.open_tab(page, name)
            if name == "catalogue":
                browsers.describe(page, f"silver.{TABLE}")
            wide = page.evaluate("document.scrollingElement.scrollWidth")
            assert wide <= screen, f"nothing of {name} makes the page wider than the screen"
        small = page.locator("button:visible").evaluate_all(
            "all => all.filter(one => one.offsetHeight < 32).map(one => one.outerHTML)"
        )
        assert small == [], "each button is large enough for a finger"
        page.get_by_role("button", name="Edit 8", exact=True).click()
        box = page.locator("#editor").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= screen
        page.keyboard.press("Escape")


def test_rows_that_come_late_do_not_replace_those_of_the_table_chosen_now(page: Page) -> None:
    slow = re.compile(r"/api/rows\?table=public\.movies&")
    held: list[Route] = []

    # Not the list's own `append`: playwright sets an attribute on the function, which a built-in does not allow.
    def hold(route: Route) -> None:
        held.append(route)

    page.route(slow, hold)
    with page.expect_request(slow):
        page.locator("#table").select_option("public.movies")
    browsers.show(page, TABLE)
    [late] = held
    with page.expect_response(slow):
        late.continue_()
    # The page has handled that answer before it gets another one.
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
    # Requests that a site could try: with its own headers, like a form, under each name of the page.
    attempt = """async ([address, body, options]) => {
      try {
        const answer = await fetch(address, {method: 'POST', body, ...options});
        return answer.type === 'opaque' ? 'opaque' : answer.status;
      } catch (error) { return error.name; }
    }"""
    with browsers.window(browser, other_site) as page:
        base, _, token = url.partition("/#token=")
        for host in (base, base.replace("127.0.0.1", "localhost")):
            address = f"{host}/api/sql"
            typed = {"headers": {"content-type": "application/json"}}
            assert page.evaluate(attempt, [address, body, typed]) == "TypeError"
            simple = {"mode": "no-cors", "headers": {"content-type": "text/plain"}}
            assert page.evaluate(attempt, [address, body, simple]) in ("opaque", "TypeError")
            read = "address => fetch(address).then(a => a.text()).catch(e => e.name)"
            assert page.evaluate(read, f"{host}/api/tables") == "TypeError"
            # Even with the token: the browser sends a preflight request first, and the page refuses it.
            typed["headers"]["x-headwater-token"] = token
            assert page.evaluate(attempt, [address, body, typed]) == "TypeError"
        page.set_content(
            f"<iframe src='{url}'></iframe><form method=post enctype=text/plain "
            f"action='{base}/api/sql'><input name='{body}'></form>"
        )
        with page.expect_navigation():
            page.evaluate("document.forms[0].submit()")
        assert "another site's request is refused" in page.content()
    with stack.source() as source:
        [(rows,)] = source.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
    assert rows > 0
