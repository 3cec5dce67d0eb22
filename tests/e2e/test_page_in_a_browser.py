"""The page in a browser, on the whole chain."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.connectors import Connectors
from tests.support.stack import Stack
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

browsers = pytest.importorskip("tests.support.page_browser", reason="playwright is not installed")
pytestmark = pytest.importorskip("tests.support.browser").needs_chromium

SOON_S = 120.0
WICKED = "<script>alert(1)</script><img src=x onerror=alert(2)>'\""
TABLE, FAST = "browsed", "browsed_fast"
BURST, BURST_ROWS = 50, 200  # transactions, and rows of each


@pytest.fixture(scope="module")
def url(stack: Stack) -> Iterator[str]:
    with browsers.table_to_edit(stack, TABLE) as found, stack.source() as source:
        source.execute(f"CREATE TABLE {FAST} (id int PRIMARY KEY, n int)")
        source.execute(f"INSERT INTO {FAST} VALUES (0, 0)")
        stack.await_tables(TABLE, FAST)
        yield found
        source.execute(f"DROP TABLE {FAST}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as found:
        yield found


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with browsers.window(browser, url) as found:
        browsers.show(found, TABLE)
        yield found


def test_an_edit_is_seen_at_each_hop_in_order_then_compare_agrees_and_trino_answers(
    page: Page,
) -> None:
    browsers.edit(page, 1, v=WICKED, n="10")
    page.get_by_role("button", name="Delete 2", exact=True).click()
    page.locator("#insert").click()
    page.locator("#fields").get_by_label("id", exact=True).fill("9")
    page.locator("#editor-add").click()
    assert page.locator("#changes li").count() == 3
    page.locator("#commit").click()
    browsers.await_cell(page, "#rows", WICKED)
    for seen in browsers.await_hops(page, 3):
        assert seen["debezium"] <= seen["kafka"] <= min(seen["bronze"], seen["silver"])
        assert seen["silver"] <= seen["trino"]
    browsers.await_true(page, "document.querySelectorAll('#journey li.there').length === 6")
    assert "Yours" in page.locator("#journey-title").inner_text()
    assert re.search(r"batch \d+, version \d+", page.locator("#journey").inner_text())
    page.locator("#compare-answer", has_text="all equal").wait_for()
    browsers.await_cell(page, "#sides", WICKED)
    assert page.locator("#sides tr.source").count() == 3, "those that were changed here, no others"
    browsers.open_tab(page, "propagation")
    assert page.locator("#sides td.differs").count() == 0
    answer = browsers.ask(page, f"SELECT v, n FROM {TABLE} WHERE id IN (1, 2, 9) ORDER BY id")
    browsers.await_cell(page, "#ask-answer", WICKED)
    assert answer.locator("tbody tr").count() == 2, "row 2 is deleted"
    assert page.locator("main script, main img").count() == 0, "no value became HTML"
    browsers.open_tab(page, "propagation")
    for hop in browsers.HOPS:
        figure = page.locator(f'figure[data-hop="{hop}"]')
        figure.filter(has_text=re.compile(r"p50 \d+ ms, p95 \d+ ms")).wait_for()
        assert int(figure.locator("svg").get_attribute("data-bars") or 0) >= 1


def test_a_page_that_is_loaded_again_goes_on_where_it_was(stack: Stack, page: Page) -> None:
    browsers.edit(page, 3, v="uncommitted")
    page.reload()
    browsers.show(page, TABLE)
    page.locator("#changes li", has_text="uncommitted").wait_for()
    page.locator("#commit").click()
    page.locator("#edit-answer", has_text="committed as transaction").wait_for()
    page.reload()
    browsers.await_hops(page, 1)
    # Its server may also restart: the page connects again by itself to the new process.
    pid = stack.status()["app"]["pid"]
    os.kill(pid, signal.SIGKILL)
    page.locator('#link[data-state="lost"]').wait_for()
    page.locator('#link[data-state="live"]').wait_for()
    # Its observer is still starting: it does not miss what is committed now.
    browsers.edit(page, 3, v="after all")
    page.locator("#commit").click()
    browsers.await_hops(page, 2)


def test_the_databases_words_are_shown_where_they_belong(page: Page) -> None:
    browsers.edit(page, 4, v="kept out")
    browsers.edit(page, 5, n="many")
    page.locator("#commit").click()
    told = page.locator("#edit-answer")
    told.get_by_text(
        'change 2: ERROR: invalid input syntax for type integer: "many"', exact=True
    ).wait_for()
    assert page.locator("#changes li.wrong").inner_text().startswith("update public.browsed")
    assert page.locator("#changes li").count() == 2, "nothing is lost, and nothing is committed"
    page.locator("#discard").click()
    browsers.open_tab(page, "sql-box")
    page.locator("#statement").fill("UPDATE browsed SET v = 'x' WHERE id = 4;\nSELEC 1")
    page.locator("#statement").press("Control+Enter")
    page.locator("#sql-answer", has_text='ERROR: syntax error at or near "SELEC"').wait_for()
    assert page.locator("#sql-answer .pointed").inner_text() == "LINE 2: SELEC 1\n        ^"
    page.locator("#statement").fill("SELECT v FROM browsed WHERE id = 4")
    page.locator("#statement").press("Control+Enter")
    browsers.await_cell(page, "#sql-answer", "row 4")
    browsers.ask(page, "SELECT nothing FROM movies").get_by_text("COLUMN_NOT_FOUND").wait_for()


def test_an_older_version_is_asked_for_and_an_answer_is_drawn_as_bars(page: Page) -> None:
    browsers.open_tab(page, "ask")
    page.locator(f'#travelled option[value="{TABLE}"]').wait_for(state="attached")
    page.locator("#travelled").select_option(TABLE)
    browsers.await_true(page, "!document.getElementById('version').disabled")
    page.locator("#ask-answer tbody tr").first.wait_for()
    told = page.locator("#version-told")
    told.filter(has_text=re.compile(r"version (\d+) of \1, 20")).wait_for()
    newest = page.locator("#asked").input_value()
    page.locator("#version").press("Home")
    told.filter(has_text=re.compile(r"version (\d+) of (?!\1,)\d+, 20")).wait_for()
    assert re.search(r"FOR VERSION AS OF \d+", page.locator("#asked").input_value())
    # The first version may be the empty table.
    page.locator("#ask-told", has_text=re.compile(r"^\d+ rows, ")).wait_for()
    assert page.locator("#ask-answer th").first.inner_text() == "id"
    page.locator("#version").press("End")
    page.locator("#ask-answer tbody tr").first.wait_for()
    assert page.locator("#asked").input_value() == newest
    page.locator("#as-chart").check()
    browsers.ask(page, "SELECT * FROM (VALUES ('a', 3), ('b', 1)) AS t (name, number)")
    page.locator("#ask-answer .bar", has_text="b").wait_for()
    bars = page.locator("#ask-answer meter").evaluate_all("all => all.map(one => one.value)")
    assert bars == [3, 1]


def test_a_table_is_found_in_the_catalogue_by_a_column_and_its_way_leads_on(page: Page) -> None:
    browsers.open_tab(page, "catalogue")
    page.locator("#described tbody tr").first.wait_for()
    page.locator("#sought").fill("silver.customers EMAIL")
    page.locator("#described tr", has_text="columns: email (personal)").wait_for()
    browsers.describe(page, "silver.customers")
    row = page.locator("#one-columns tr", has_text="email")
    assert row.locator("td").nth(2).inner_text() == "personal"
    page.locator("#one-askers", has_text="audit = true").wait_for()
    assert page.locator("#one-facts").get_by_text("customer_id", exact=True).count() == 1
    page.get_by_role("button", name="Lineage of full_name", exact=True).click()
    page.locator("svg.lineage .start title", has_text="silver.customers.full_name").wait_for(
        state="attached"
    )
    page.locator("#one-list summary").click()
    page.locator("#one-list").get_by_role("button", name="reports.top_customers.").first.click()
    page.locator("#one-title").get_by_text("reports.top_customers", exact=True).wait_for()
    page.locator("#one-versions", has_text="only tables of silver").wait_for()
    assert page.locator("main script, main img").count() == 0, "no value became HTML"


def test_a_broken_connector_is_shown_and_what_waits_for_it(stack: Stack, page: Page) -> None:
    connectors = Connectors(stack.settings.connect_url)
    [sink] = [name for name in names(stack) if "bronze" in name]
    config = dict(requests.get(f"{stack.settings.connect_url}/connectors/{sink}/config", timeout=30).json())  # fmt: skip
    # It cannot read Debezium's records with this setting: its task fails at the next record.
    broken = config | {
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
    }
    connectors.put(sink, broken)
    try:
        browsers.edit(page, 6, v="waits")
        page.locator("#commit").click()
        page.locator("#pulse", has_text=f"connector {sink} is FAILED").wait_for()
        page.locator("#pulse").click()
        row = page.locator("#health-connectors tr.bad", has_text=sink)
        row.get_by_text(re.compile("Exception")).wait_for()
        browsers.await_true(page, "document.querySelector('tr.own [data-hop=trino]') !== null")
        assert page.locator('tr.own [data-hop="bronze"]').count() == 0
    finally:
        connectors.put(sink, config)
        connectors.restart(sink)
    connectors.await_state(sink, "RUNNING")
    page.locator("#pulse").wait_for(state="hidden")
    browsers.edit(page, 6, v="comes")
    page.locator("#commit").click()
    browsers.await_true(page, "document.querySelector('tr.own [data-hop=bronze]') !== null")


def names(stack: Stack) -> list[str]:
    found = requests.get(f"{stack.settings.connect_url}/connectors", timeout=30).json()
    return [str(name) for name in found]


@pytest.mark.slow  # e2e/test_page.py repairs and replays a row
def test_a_row_in_quarantine_is_edited_and_replayed_and_its_event_is_kept(
    stack: Stack, page: Page
) -> None:
    folder = stack.settings.contracts_dir
    folder.mkdir(exist_ok=True)
    file = folder / f"public.{TABLE}.toml"
    file.write_text("[columns.n]\nmin = 0\n")
    number = 100

    def entries() -> Locator:
        return page.locator("#entries tbody tr", has_text=TABLE)

    def one_more() -> int:
        """Write a row that the contract file does not allow; silver reads the file every two seconds."""
        nonlocal number
        number += 1
        with stack.source() as source:
            source.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, -1)", [number, WICKED])
        silver = f"SELECT 1 FROM silver.{TABLE} WHERE id = {number}"
        held = f"SELECT 1 FROM ops.quarantine WHERE table_name = '{TABLE}' AND status = 'open'"
        until(
            lambda: stack.query(silver) or stack.query(held),
            within_s=SOON_S,
            what=f"row {number} in silver or in quarantine",
        )
        return len(stack.query(held))

    try:
        until(one_more, within_s=SOON_S, what="an entry")
        browsers.open_tab(page, "quarantine")
        page.locator("#entries-look").click()
        entries().first.wait_for()
        repair(page, entries(), n="-7")
        page.locator("#quarantine-answer td", has_text="n_range").first.wait_for()
        repair(page, entries(), n="77", v="repaired")
        page.locator("#quarantine-answer td").get_by_text("replayed", exact=True).wait_for()
    finally:
        file.unlink()
    entries().first.wait_for(state="detached")  # the list is checked again after the answer
    stack.await_answer(
        f"SELECT v, n FROM silver.{TABLE} WHERE id = {number}", [("repaired", 77)], within_s=SOON_S
    )
    page.locator("#resolved").check()
    entries().first.get_by_role("button", name="Show the whole entry").click()
    browsers.await_cell(page, "#entry", '{"v": "repaired", "n": "77"}')
    raw = page.locator("#entry tr", has_text="raw_value").locator("td").last.inner_text()
    assert json.loads(raw)["after"]["n"] == -1, "the event stays as it came"
    # Silver differs from the source now, and quarantine has the reason.
    [verdict] = stack.answer("verify", TABLE, "--allow-quarantined")
    assert verdict["verdict"] == "explained"
    with stack.source() as source:  # the row's next event repairs it
        source.execute(f"UPDATE {TABLE} SET n = 5 WHERE id = {number}")
    stack.verify(TABLE)


def repair(page: Page, entries: Locator, **values: str) -> None:
    entries.first.get_by_role("button", name="Edit and replay").click()
    assert page.locator("#fields").get_by_label("id", exact=True).is_disabled()
    for name, value in values.items():
        page.locator("#fields").get_by_label(name, exact=True).fill(value)
    page.locator("#editor-add").click()


def test_ten_thousand_changes_are_sampled_and_said_so_and_yours_are_seen_among_them(
    stack: Stack, page: Page
) -> None:
    failures: list[BaseException] = []

    def burst() -> None:
        try:
            with stack.source() as source:
                for number in range(BURST):
                    first = number * BURST_ROWS + 1
                    source.execute(
                        f"INSERT INTO {FAST} SELECT i, {number} "
                        f"FROM generate_series({first}, {first + BURST_ROWS - 1}) i"
                    )
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread below
            failures.append(error)

    writer = threading.Thread(target=burst)
    writer.start()
    browsers.edit(page, 4, v="among many")
    page.locator("#commit").click()
    browsers.await_hops(page, 1)
    writer.join(timeout=SOON_S)
    assert failures == [] and not writer.is_alive()
    browsers.open_tab(page, "propagation")
    page.locator("#sampled", has_text=re.compile(r"[1-9]\d* changes so far were not shown")).wait_for()  # fmt: skip
    stack.await_answer(
        f"SELECT count(*) FROM silver.{FAST}", [(BURST * BURST_ROWS + 1,)], within_s=SOON_S
    )
    assert page.locator("#tokens tbody tr").count() <= 150
    browsers.edit(page, 4, v="behind them")
    page.locator("#commit").click()
    browsers.await_hops(page, 2)
