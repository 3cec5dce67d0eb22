"""One contender, once through the workload: first rows, warming up, a burst, equality, freshness.

The seconds run from the first write of the burst until the contender's own reader shows the burst's
last change in all tables. They count only if then all rows equal the source's.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from tests.bench.peers.contender import READER, Arena, Contender
from tests.bench.peers.equality import unequal
from tests.bench.peers.workload import MARKER, PeersWorkload
from tests.support.circumstances import content_hash
from tests.support.measure import Resources, percentiles, watched
from tests.support.stack import fresh_stack

FIRST_ROWS_S = 300.0
POLL_S = 0.25
FRESH_POLL_S = 0.05
# What is not there yet when the marker is gets this long; then the tables count as different.
SETTLE_S = 20.0
FRESH_RATE = 50
FRESH_LIMIT_S = 60.0


class Unfinished(Exception):
    """The contender's process ended, or a table did not show the marker row in time."""


def trial(contender: Contender, *, changes: int, fresh_s: float, seed: int = 1) -> dict[str, Any]:
    """Run a contender on a stack of its own. Returns: the verdict, and the figures if it is `equal`.

    Args:
        changes: of the burst; a tenth of them warm up before it.
        fresh_s: how long freshness is measured at FRESH_RATE changes a second; 0 leaves it out.
    """
    found: dict[str, Any] = {
        "contender": contender.name,
        "replica_identity": contender.identity,
        **contender.facts(),
        "changes": changes,
        "seed": seed,
    }
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        with stack.source() as source:
            load = PeersWorkload(source, rows=max(changes // 10, 500), seed=seed)
            load.create(contender.identity)
            stack.up(*(("--only", *contender.services) if contender.services else ()))
            folder = stack.home / "peers"
            folder.mkdir()
            arena = Arena(stack, folder, load.tables)
            began = time.monotonic()
            try:
                contender.start(arena)
                found |= _measured(contender, arena, load, changes, fresh_s, began)
            except Unfinished as error:
                found |= {"verdict": "unfinished", "how": str(error)}
            finally:
                if found.get("verdict") != "equal":
                    print(contender.log_tail())
                contender.stop()
    return found


def _measured(
    contender: Contender,
    arena: Arena,
    load: PeersWorkload,
    changes: int,
    fresh_s: float,
    began: float,
) -> dict[str, Any]:
    _await_marker(contender, load, 0, FIRST_ROWS_S)
    first_rows_s = time.monotonic() - began
    limit_s = 300 + changes / 200
    load.burst(changes // 10)
    load.mark(1)
    _await_marker(contender, load, 1, limit_s)
    with watched(arena.stack, also=contender.pids(), uncounted=(READER,)) as resources:
        probe = time.process_time()
        began = time.monotonic()
        load.burst(changes)
        load.mark(2)
        written_s = time.monotonic() - began
        _await_marker(contender, load, 2, limit_s)
        seconds = time.monotonic() - began
        probe = time.process_time() - probe
    workload = content_hash(load.connection, load.tables, load.seed)
    how = _differences(contender, arena)
    if how:
        return {"verdict": "differs", "how": how, "workload": workload}
    found = {
        "verdict": "equal",
        "workload": workload,
        "first_rows_s": round(first_rows_s, 1),
        "written_s": round(written_s, 1),
        "seconds": round(seconds, 1),
        "changes_per_s": round(changes / seconds),
        **_cost(resources, changes),
        "probe_cpu_s": round(probe + resources.cpu_s.get(READER, 0.0), 1),
    }
    if fresh_s:
        found["freshness_s"] = _freshness(contender, arena, load, fresh_s)
        found["freshness_equal"] = not _differences(contender, arena)
    return found


def _cost(resources: Resources, changes: int) -> dict[str, Any]:
    cpu = {name: spent for name, spent in resources.cpu_s.items() if name != READER}
    source = cpu.get("postgres", 0.0)
    return {
        "changes_per_cpu_s": round(changes / max(sum(cpu.values()), 0.1)),
        "changes_per_cpu_s_without_source": round(changes / max(sum(cpu.values()) - source, 0.1)),
        **resources.as_dict(),
        "cpu_total_s": round(sum(cpu.values()), 1),
    }


def _await_marker(contender: Contender, load: PeersWorkload, value: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    for table in load.tables:
        while (seen := contender.value(table, MARKER)) != value:
            if contender.ended():
                raise Unfinished(f"its process ended: {contender.log_tail()}")
            if time.monotonic() > deadline:
                raise Unfinished(f"{table} showed mark {seen}, not {value}, after {within_s:.0f} s")
            time.sleep(POLL_S)


def _differences(contender: Contender, arena: Arena) -> list[str]:
    scratch = arena.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = unequal(arena.dsn, arena.tables, contender.rows, scratch)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _freshness(
    contender: Contender, arena: Arena, load: PeersWorkload, lasts_s: float
) -> dict[str, float]:
    """Seconds from a commit until the contender's reader shows it, beside FRESH_RATE changes a second."""
    stop = threading.Event()
    runner = threading.Thread(target=load.paced, args=(FRESH_RATE, stop), daemon=True)
    seconds = []
    runner.start()
    try:
        with psycopg.connect(arena.dsn, autocommit=True) as connection:
            end = time.monotonic() + lasts_s
            value = 2
            while time.monotonic() < end:
                value += 1
                table = load.tables[value % len(load.tables)]
                committed = load.mark(value, connection, table)
                while contender.value(table, MARKER) != value:
                    if time.monotonic() - committed > FRESH_LIMIT_S:
                        raise Unfinished(f"a change of {table} was not seen in {FRESH_LIMIT_S} s")
                    time.sleep(FRESH_POLL_S)
                seconds.append(time.monotonic() - committed)
    finally:
        stop.set()
        runner.join(timeout=30)
    # All that was written meanwhile must be there before the rows are compared.
    load.mark(value + 1)
    _await_marker(contender, load, value + 1, FRESH_LIMIT_S)
    return percentiles(seconds)
