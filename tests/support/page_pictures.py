"""`./headwater screenshots`: pictures of the page, and a recording of an edit and its hops.

A browser edits a rating of the running stack's demo store, and restores its stars at the end.
Meanwhile customers rate movies, so that the page shows changes.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from app.environment.settings import ROOT, Settings, load
from app.errors import HeadwaterError
from app.store.workload.store_workload import Workload
from tests.support import page_browser as browsers
from tests.support.browser import chromium
from tests.support.pictures import Frame, save_moving, save_still

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = ROOT / "app" / "page" / "pictures"
SIZES_MAX = {".png": 200_000, ".gif": 1_500_000}
TABLE = "ratings"
RATE_PER_S = 0.5  # low, because a small machine also carries the observers' requests
LIVELY_S = 25.0
DESKTOP = {"width": 1280, "height": 900}
RECORDED = {"width": 960, "height": 720}
TRAVELS_S_MAX = 60.0
FRAME_EVERY_S = 0.7
LOOK_MS = 40
READ_MS = 1_500  # to read the hops' times, before both sides are shown
ARRIVED_MIN = 8  # the changes in a still picture that have all their times
STATIONS = 6
REACHED = "document.querySelectorAll('#journey li.there').length"
FIGURE = 'figure[data-hop="trino"] svg:not([data-bars="0"])'
FIRST_ROW = "#rows tbody tr:first-child"
REPORT = "SELECT stars, ratings FROM reports.rating_distribution ORDER BY stars"


def main(arguments: list[str]) -> int:
    """Take all pictures, and print each file with its size."""
    parser = argparse.ArgumentParser(prog="headwater screenshots")
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args(arguments).out
    settings = load()
    if not settings.profile.embedded_source:
        raise HeadwaterError(
            "pictures are taken of the demo store only",
            detail="this stack captures another source, and taking pictures edits rows",
            hint="HEADWATER_HOME=FOLDER ./headwater up --port-offset 100, and there",
        )
    if chromium() is None:
        raise HeadwaterError("no Chromium was found", hint="apt-get install chromium")
    url = f"{settings.ports.published_url('app')}/#token={settings.secret('page_token')}"
    sizes: dict[str, int] = {}
    with raters(settings), browsers.running() as browser:
        with browsers.window(browser, url, viewport=RECORDED) as page:
            sizes["edit.gif"] = save_moving(recording(page), out / "edit.gif")
        for name, pngs in stills(browser, url).items():
            sizes[name] = save_still(pngs, out / name)
    for name, size in sizes.items():
        print(f"{out / name}\t{size}")
    large = [name for name, size in sizes.items() if size > SIZES_MAX[Path(name).suffix]]
    if large:
        print(f"too large for the repository: {', '.join(large)}", file=sys.stderr)
    return 1 if large else 0


@contextmanager
def raters(settings: Settings) -> Iterator[None]:
    """Let customers rate movies, from some time before the block to its end."""
    engine = create_engine(settings.store_dsn.replace("postgresql://", "postgresql+psycopg://"))
    stop = threading.Event()
    job = Workload(engine, int(time.time()), RATE_PER_S, tables=[TABLE])
    runner = threading.Thread(target=job.run, args=(None, stop), daemon=True)
    runner.start()
    try:
        yield
    finally:
        stop.set()
        runner.join(timeout=30)
        engine.dispose()


def recording(page: Page) -> list[Frame]:
    """Record one edit from the form to Trino, until both sides are equal, as frames."""
    frames: list[Frame] = []

    def take() -> None:
        frames.append(Frame(page.screenshot(type="png"), time.monotonic()))

    page.emulate_media(reduced_motion="reduce")  # an unfinished animation would take many frames
    browsers.show(page, TABLE)
    page.wait_for_timeout(LIVELY_S * 1_000)
    # The comparing process is then running; its start takes seconds of CPU.
    show_all_sides(page)
    page.locator("#all-sides").uncheck()
    page.evaluate("scrollTo(0, 0)")
    before = page.locator(f"{FIRST_ROW} td").nth(3).inner_text()
    after = "5.0" if before != "5.0" else "1.5"
    try:
        take()
        page.locator(FIRST_ROW).get_by_role("button", name="Edit").click()
        field = page.locator("#fields").get_by_label("stars", exact=True)
        field.focus()
        take()
        for typed in range(1, len(after) + 1):
            field.fill(after[:typed])
            take()
        page.locator("#editor-commit").click()
        arrives(page, take)
        page.locator("#compare-answer", has_text="all equal").wait_for()
        page.wait_for_timeout(READ_MS)
        page.locator("#compare").evaluate("one => one.scrollIntoView({block: 'end'})")
        take()
    finally:
        change_stars(page, before)
    return frames


def arrives(page: Page, take: object) -> None:
    """Take a frame at each hop, and sometimes between, until the change is in Trino.

    Continuous frames would take a whole CPU from the stack.
    Raises: HeadwaterError if it takes longer than TRAVELS_S_MAX, because the recording would show only
    waiting.
    """
    assert callable(take)
    limit = time.monotonic() + TRAVELS_S_MAX
    there = "document.querySelectorAll('#journey.own li.there').length"
    reached, taken = -1, 0.0
    while time.monotonic() < limit:
        now = page.evaluate(there)
        if now != reached or time.monotonic() - taken > FRAME_EVERY_S:
            reached, taken = now, time.monotonic()
            take()
        if now == STATIONS:
            return
        page.wait_for_timeout(LOOK_MS)
    raise HeadwaterError(
        f"the edit was not in Trino within {TRAVELS_S_MAX:.0f} s",
        hint="take pictures on a machine with little else to do",
    )


def change_stars(page: Page, stars: str) -> None:
    page.locator(FIRST_ROW).get_by_role("button", name="Edit").click()
    page.locator("#fields").get_by_label("stars", exact=True).fill(stars)
    page.locator("#editor-commit").click()
    page.locator("#edit-answer", has_text="committed as transaction").wait_for()


def show_all_sides(page: Page) -> None:
    page.locator("#all-sides").check()
    page.locator("#compare-answer", has_text="rows, ").wait_for()


def stills(browser: Browser, url: str) -> dict[str, list[bytes]]:
    """The pictures by file name, each of one or more windows."""
    found = {}
    for scheme, file in (("light", "page.png"), ("dark", "page-dark.png")):
        with browsers.window(browser, url, viewport=DESKTOP, color_scheme=scheme) as page:
            browsers.show(page, TABLE)
            arrived = "document.querySelectorAll('#tokens [data-hop=trino]').length"
            browsers.await_true(page, f"{arrived} >= {ARRIVED_MIN}")
            page.locator(FIGURE).wait_for(state="attached")
            show_all_sides(page)
            page.evaluate("scrollTo(0, 0)")
            browsers.await_true(page, f"{REACHED} === {STATIONS}")
            found[file] = [page.screenshot(type="png")]
            if scheme == "light":
                found["ask.png"] = [asked(page)]
                found["health.png"] = [healthy(page)]
    found["phone.png"] = [phone(browser, url, scheme) for scheme in ("light", "dark")]
    return found


def asked(page: Page) -> bytes:
    browsers.open_tab(page, "ask")
    page.locator("#as-chart").check()
    browsers.ask(page, REPORT)
    page.locator("#ask-answer .bar").first.wait_for()
    page.locator(f'#travelled option[value="{TABLE}"]').wait_for(state="attached")
    return bytes(page.locator("#ask").screenshot(type="png"))


def healthy(page: Page) -> bytes:
    browsers.open_tab(page, "health")
    page.locator("#health-freshness td").first.wait_for()
    return bytes(page.locator("#health").screenshot(type="png"))


def phone(browser: Browser, url: str, scheme: str) -> bytes:
    options = {"viewport": browsers.PHONE, "color_scheme": scheme, "is_mobile": True}
    with browsers.window(browser, url, **options) as page:
        browsers.show(page, TABLE)
        page.locator("#journey li.there").nth(5).wait_for()
        page.locator(FIGURE).wait_for(state="attached")
        section = "#store" if scheme == "light" else "#way"
        page.locator(section).evaluate("one => one.scrollIntoView()")
        return bytes(page.screenshot(type="png"))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
