"""The page: how far it is behind the hops, and what it costs, at rest and at 10,000 changes a minute.

Observers of the test's own look at each hop every 20 ms for one edit at a time; the page's time is
the moment at which a browser has drawn that hop. Lag is the page's time less the observer's. Before
any figure counts, the loaded table must be equal to the source's.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine

from app.lake.hops import HOPS, Edit, EditObserver
from app.store.bench import BenchWorkload
from tests.support.measure import percentiles, report, watched
from tests.support.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

chromium = pytest.importorskip("tests.support.browser", reason="playwright is not installed")
browsers = pytest.importorskip("tests.support.page_browser")
pytestmark = pytest.mark.skipif(
    chromium.chromium() is None, reason="no Chromium here: apt-get install chromium"
)

PROBES = 40
WARM_UP = 5
LIMIT_S = 60.0
RATE_PER_S = 167  # 10,000 a minute
ROWS = 2_000
TABLE = "page_probe"
# When each hop of the newest change of the probe's table was drawn, by hop.
_DRAWN = f"""value => {{
  const rows = [...document.querySelectorAll('#tokens tbody tr')]
    .filter(row => row.cells[1].textContent === '{TABLE}' && row.cells[3].textContent.includes(value));
  const cells = rows.length ? [...rows[0].querySelectorAll('[data-hop]')] : [];
  return cells.length < {len(HOPS) + 1} ? null
    : Object.fromEntries(cells.map(cell => [cell.dataset.hop, Number(cell.dataset.at)]));
}}"""


@pytest.mark.parametrize("rate", [0, RATE_PER_S])
def test_lag_of_the_page_behind_the_hops(stack: Stack, rate: int) -> None:
    url = json.loads(stack.run("urls", "--format", "json").stdout)["app"]
    engine = create_engine(
        stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    )
    load = BenchWorkload(engine, tables=1, rate=max(rate, 1), rows=ROWS)
    load.create()
    [loaded] = [table.name for table in load.tables]
    with stack.source() as source:
        source.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id int PRIMARY KEY, v text)")
        source.execute(f"INSERT INTO {TABLE} VALUES (0, 'first') ON CONFLICT DO NOTHING")
    stack.await_tables(loaded, TABLE)
    stop = threading.Event()
    runner = threading.Thread(target=load.run, kwargs={"stop": stop}, daemon=True)
    if rate:
        runner.start()
    lags: dict[str, list[float]] = {hop: [] for hop in HOPS}
    try:
        with browsers.running() as browser, browsers.window(browser, url) as page:
            browsers.await_observer(page)
            for number in range(WARM_UP):
                probe(stack, page, rate * 1_000 + number + 1)
            cpu = chromium.cpu_s()
            with watched(stack) as resources:
                began = time.monotonic()
                for number in range(PROBES):
                    for hop, lag in probe(stack, page, rate * 1_000 + 100 + number).items():
                        lags[hop].append(lag)
                lasted = time.monotonic() - began
            cpu = chromium.cpu_s() - cpu
            sampled = page.locator("#sampled").text_content()
    finally:
        stop.set()
        if rate:
            runner.join(timeout=30)
        engine.dispose()
    stack.verify(loaded, TABLE)
    every = [lag for some in lags.values() for lag in some]
    report(
        f"page_{rate}",
        {
            "changes_per_s": rate,
            "lag_ms": percentiles(every),
            "lag_ms_by_hop": {hop: percentiles(some) for hop, some in lags.items()},
            "lasted_s": round(lasted, 1),
            "page_cpu_share": round(resources.cpu_s["app"] / lasted, 3),
            "page_mib": resources.peak_mib["app"],
            "browser_cpu_share": round(cpu / lasted, 3),
            "said": sampled,
        },
    )


def probe(stack: Stack, page: Page, number: int) -> dict[str, float]:
    """Milliseconds by which the page drew each hop of one change later than it was seen there."""
    value = uuid.uuid4().hex
    with EditObserver(stack.settings, "public", TABLE) as observer:
        with stack.source() as source:
            source.execute(f"INSERT INTO {TABLE} VALUES (%s, %s)", [number, value])
        edit = Edit("public", TABLE, {"id": number}, "v", value, time.time())
        seen = observer.sightings(edit, deadline_s=LIMIT_S, on_seen=lambda _: None)
    drawn: dict[str, Any] = browsers.await_true(page, _DRAWN, f'"id": {number}}}')
    at = {one.hop: edit.committed_at * 1_000 + one.milliseconds for one in seen}
    return {hop: drawn[hop] - at[hop] for hop in HOPS}
