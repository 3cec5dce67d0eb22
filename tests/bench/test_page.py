"""The page: its delay behind the hops, and its cost, at rest and at 10,000 changes a minute.

The benchmark's own observers check each hop every 20 ms for one edit at a time (Trino from the
moment when silver has it). The page's time is the moment when a browser has drawn that hop. Lag
is the page's time minus the observer's. Results count only if the loaded table equals
the source's.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from app.hops import HOPS
from app.watch.edit_hops import WATCHED, Edit, EditObserver
from tests.support.bench_load import loaded
from tests.support.measure import percentiles, report, watched
from tests.support.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

chromium = pytest.importorskip("tests.support.browser", reason="playwright is not installed")
browsers = pytest.importorskip("tests.support.page_browser")
pytestmark = chromium.needs_chromium

# This many edits at each rate, or as many as fit into the time, so that all end within ten minutes.
PROBES = 40
LASTS_S = 150.0
WARM_UP_S = 45.0
LIMIT_S = 30.0
RATE_PER_S = 167  # 10,000 a minute
ROWS = 2_000
TABLE, LOADED = "page_probe", "bench_1"
# The time at which each hop of the newest change of the probe's table was drawn.
_DRAWN = f"""value => {{
  const rows = [...document.querySelectorAll('#tokens tbody tr')]
    .filter(row => row.cells[1].textContent === '{TABLE}' && row.cells[3].textContent.includes(value));
  const cells = rows.length ? [...rows[0].querySelectorAll('[data-hop]')] : [];
  return cells.length < {len(HOPS)} ? null
    : Object.fromEntries(cells.map(cell => [cell.dataset.hop, Number(cell.dataset.at)]));
}}"""


@pytest.mark.parametrize("rate", [0, RATE_PER_S])
def test_lag_of_the_page_behind_the_hops(stack: Stack, rate: int) -> None:
    url = stack.urls()["app"]
    with stack.source() as source:
        source.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id int PRIMARY KEY, v text)")
        source.execute(f"INSERT INTO {TABLE} VALUES (0, 'first') ON CONFLICT DO NOTHING")
    stack.await_tables(TABLE)
    lags: list[dict[str, float]] = []
    missed: list[str] = []
    with loaded(stack, rate, rows=ROWS) as load:
        with browsers.running() as browser, browsers.window(browser, url) as page:
            browsers.await_observer(page)
            probe_for(WARM_UP_S, stack, page, [], [])
            cpu = chromium.cpu_s()
            with watched(stack, only=("app",)) as resources:
                began = time.monotonic()
                probe_for(LASTS_S, stack, page, lags, missed)
                lasted = time.monotonic() - began
            cpu = chromium.cpu_s() - cpu
            sampled = page.locator("#sampled").text_content()
    stack.verify(TABLE, *([LOADED] if rate else []))
    report(
        f"page_{rate}",
        {
            "changes_per_s": load.report.get("achieved", 0),
            "lag_ms": percentiles([lag for one in lags for lag in one.values()]),
            "lag_ms_by_hop": {hop: percentiles([one[hop] for one in lags]) for hop in WATCHED},
            "lasted_s": round(lasted, 1),
            "page_cpu_share": round(resources.cpu_s["app"] / lasted, 3),
            "page_mib": resources.peak_mib["app"],
            "browser_cpu_share": round(cpu / lasted, 3),
            "said": sampled,
            "missed": missed,
        },
    )


def probe_for(
    seconds: float, stack: Stack, page: Page, lags: list[dict[str, float]], missed: list[str]
) -> None:
    """Make up to PROBES edits, one after the other, until the time is over; at least one must be seen.

    An edit that a hop does not show within LIMIT_S, or whose observers failed, is listed under `missed`.
    """
    limit = time.monotonic() + seconds
    for _ in range(PROBES):
        try:
            lags.append(probe(stack, page))
        except Exception as error:  # noqa: BLE001 - told in the report, beside what was seen
            missed.append(f"{type(error).__name__}: {error}"[:200])
        if time.monotonic() > limit:
            break
    assert lags, missed


def probe(stack: Stack, page: Page) -> dict[str, float]:
    """The delay in ms between the observation of a change at each hop and the page's drawing of it."""
    value = uuid.uuid4().hex
    with EditObserver(stack.settings, "public", TABLE) as observer:
        with stack.source() as source:
            [(number,)] = source.execute(
                f"INSERT INTO {TABLE} SELECT max(id) + 1, %s FROM {TABLE} RETURNING id", [value]
            ).fetchall()
            committed_at = time.time()
        edit = Edit("public", TABLE, {"id": number}, "v", value, committed_at)
        seen = observer.sightings(edit, deadline_s=LIMIT_S, on_seen=lambda _: None)
    drawn: dict[str, Any] = browsers.await_true(page, _DRAWN, f'"id": {number}}}', LIMIT_S)
    at = {one.hop: edit.committed_at * 1_000 + one.milliseconds for one in seen}
    return {hop: drawn[hop] - at[hop] for hop in WATCHED}
