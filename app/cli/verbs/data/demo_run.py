"""The demo: the whole chain on the movie store, an edited row shown at every hop, a proof.

1. Start every service and wait until it is ready (running services are left alone).
2. Run the store's workload at a steady rate, seeded.
3. Edit one row, and show when each hop saw it.
4. Verify that silver equals the source while the workload continues.
5. Start the dashboards if they are requested; last, so that users need not wait for them to see the chain.
6. Show the URLs and what to try; end on Ctrl-C, or at once (without 5) with `--once`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.artefacts.lazy import LazyArtefacts
from app.cli.needs import silver_state
from app.environment.settings import ROOT, Settings, load
from app.errors import HeadwaterError
from app.hops import BY_NAME
from app.launcher.control import Stack
from app.printing import Steps, print_rows
from app.processes.interrupts import terminated_like_interrupted
from app.services.service import dashboard_services
from app.store.edit import edit_movie
from app.store.tables.store_connection import engine_for
from app.store.workload.operations import OPERATIONS
from app.store.workload.store_workload import Workload
from app.verify.table_verification import run_verify
from app.watch.edit_hops import Edit, EditObserver, Sighting

RATE = 20.0
SEED = 2026
# As many orders an hour as in the store's newest days, so that hourly reports continue evenly.
SALES = {
    "place_order": 1,
    "advance_order": 3,
    "cancel_order": 1,
    "remove_line": 1,
    "renumber_invoice": 1,
}
MIX = {operation.name: operation.weight * 10 for operation in OPERATIONS} | SALES
WARM_UP_EDITS = 1
HOPS_DEADLINE_S = 120.0
IDLE_POLL_S = 1.0
EXIT_INTERRUPTED = 130


def run_demo(once: bool, dashboards: bool | None = None) -> int:
    """Run the demo; returns the exit code.

    Args:
        once: end after the proof with everything stopped; 0 only if every hop was seen and
            verify is green.
        dashboards: whether Superset comes last; None keeps the home's value.
    """
    settings = load(dashboards=dashboards)
    if not settings.profile.embedded_source:
        raise HeadwaterError(
            "the demo edits its own movie store, and this stack captures your database",
            hint="run it in a home of its own: HEADWATER_HOME=~/demo ./headwater demo",
        )
    stack = Stack(settings)
    was_up = bool(stack.running())
    started = time.monotonic()
    with terminated_like_interrupted(), Steps() as steps:
        try:
            stack.up(_chain(stack), LazyArtefacts(ROOT, show=True), steps)
            steps.rest()
            steps.note(f"the chain is ready after {time.monotonic() - started:.0f} s")
            return _show(stack, steps, once, started)
        except KeyboardInterrupt:
            steps.rest()
            steps.note("stopping")
            return EXIT_INTERRUPTED if once else 0
        finally:
            if once or not was_up:
                stack.down(steps)
                steps.rest()
                steps.note("stopped; the data is kept, `./headwater down --wipe` removes it")
            else:
                steps.note("the stack was up before the demo and stays up")


def _chain(stack: Stack) -> list[str]:
    """All services but the dashboards'."""
    later = dashboard_services(stack.services)
    return [name for name in stack.select([]) if name not in later]


def show_demo(once: bool) -> int:
    """The demo on a stack that is up already; returns the exit code as `run_demo` does."""
    stack = Stack(load())
    with terminated_like_interrupted(), Steps() as steps:
        try:
            return _show(stack, steps, once, time.monotonic())
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED if once else 0


def _show(stack: Stack, steps: Steps, once: bool, started: float) -> int:
    settings = stack.settings
    with _workload(settings):
        steps.note(f"the store's workload runs: {RATE:g} changes a second, seed {SEED}")
        for _ in range(WARM_UP_EDITS):
            # The first query and the first merge pay for class loading; the next are the rule.
            _edit(settings, steps, quiet=True)
        steps.note(f"first edited row in Trino {time.monotonic() - started:.0f} s after the start")
        _edit(settings, steps, quiet=False)
        steps.rest()
        verdict = run_verify([], "table", silver=silver_state)
        steps.note("verify: silver equals the source" if verdict == 0 else "verify: NOT equal")
        if once:
            return verdict
        _start_dashboards(stack, steps)
        _print_what_to_try(settings, steps)
        while True:
            time.sleep(IDLE_POLL_S)


def _start_dashboards(stack: Stack, steps: Steps) -> None:
    if not stack.settings.profile.dashboards or stack.settings.profile.in_containers:
        return
    steps.note("starting the dashboards; the chain keeps running")
    try:
        dashboards = dashboard_services(stack.services)
        stack.up(stack.select([]), LazyArtefacts(ROOT, show=True), steps, named=dashboards)
    except HeadwaterError as error:
        steps.rest()
        steps.note(f"the dashboards did not start, all else runs on: {error}")
        return
    steps.rest()
    url = f"http://127.0.0.1:{stack.settings.ports.number('superset')}/superset/dashboard/store/"
    steps.note(f"dashboards: {url} (the password: ./headwater superset login)")


def _edit(settings: Settings, steps: Steps, *, quiet: bool) -> None:
    engine = engine_for(settings.store_dsn, application="headwater-demo")
    where = "Kafka, bronze, silver and Trino"

    def seen(sighting: Sighting) -> None:
        seen_at = f"seen in {sighting.hop} after {sighting.milliseconds:.0f} ms"
        steps.waiting(f"waiting for the edited row in {where}: {seen_at}")

    try:
        steps.waiting("connecting to Kafka, bronze, silver and Trino, to see an edited row at each")
        with EditObserver(settings, "public", "movies") as observer:
            made = edit_movie(engine)
            committed_at = made.committed_at.timestamp()
            steps.waiting(f"waiting for the edited row in {where}")
            edit = Edit("public", made.table, dict(made.key), made.column, made.new, committed_at)
            sightings = observer.sightings(edit, deadline_s=HOPS_DEADLINE_S, on_seen=seen)
    finally:
        engine.dispose()
    if quiet:
        return
    steps.rest()
    row = ", ".join(f"{name} = {value}" for name, value in edit.key.items())
    steps.note(f"edited: movies, {row}: {edit.column} = {edit.value!r}")
    rows = [("Postgres: COMMIT returned", 0.0, f"transaction {made.xid}")]
    rows += [(BY_NAME[s.hop].arrived, round(s.milliseconds), s.where) for s in sightings]
    print_rows(["hop", "ms after commit", "where"], rows)
    sys.stdout.flush()


@contextmanager
def _workload(settings: Settings) -> Iterator[None]:
    engine = engine_for(settings.store_dsn, application="headwater-workload")
    stop = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        try:
            Workload(engine, seed=SEED, rate=RATE, mix=MIX).run(stop=stop)
        except Exception as error:  # noqa: BLE001 - raised in the main thread
            failed.append(error)

    thread = threading.Thread(target=run, name="workload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        engine.dispose()
    if failed:
        raise failed[0]


def _print_what_to_try(settings: Settings, steps: Steps) -> None:
    headwater = "./headwater"
    if settings.profile.in_containers:
        headwater += " --docker"
        steps.note(f"where each part is: {headwater} urls")
    else:
        print_rows(["service", "url"], sorted(Stack(settings).urls(LazyArtefacts(ROOT)).items()))
        sys.stdout.flush()
    steps.note("")
    steps.note("Three things to try, in another terminal:")
    steps.note(f"  {headwater} watch                      every change, with the time of each hop")
    steps.note(f"  {headwater} sql 'SELECT * FROM reports.best_rated_movies LIMIT 10'")
    steps.note(f"  {headwater} verify                     the proof again, whenever you like")
    steps.note("")
    steps.note("Ctrl-C stops everything.")
