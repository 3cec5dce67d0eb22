"""How long a stack takes to start from a filled cache, with and without the JVMs' AOT caches."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from app.launcher.aot import SWITCH
from tests.support.measure import cpu_of, report
from tests.support.stack import fresh_stack
from tests.support.waiting import until

ROUNDS = 2
WAYS = {"without": "off", "with": "on"}
pytestmark = pytest.mark.timeout(3_600)  # five stacks, one after the other


def test_a_start_with_and_without_what_jvms_have_learned() -> None:
    with fresh_stack() as teacher:
        teacher.up()  # its stop writes the caches if there are none yet
        teacher.verify("movies")
    seen: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, value in WAYS.items():
            seen[way].append(started(value))
    figures = {way: middle(rounds) for way, rounds in seen.items()}
    proven = {"verdicts": {"all tables after each start": "equal"}}
    report("start", {"rounds": ROUNDS, **figures, **proven})


def started(aot: str) -> dict[str, Any]:
    """Seconds from the command to a ready chain and to an edited row in Trino, and the CPU used until then."""
    with fresh_stack() as stack:
        stack.environment[SWITCH] = aot
        began = time.monotonic()
        stack.up()
        ready_s = time.monotonic() - began
        with stack.source() as source:
            source.execute("UPDATE movies SET tagline = 'edited' WHERE movie_id = 1")
        until(
            lambda: stack.query("SELECT tagline FROM silver.movies WHERE movie_id = 1"),
            lambda rows: rows == [("edited",)],
            within_s=120,
            what="the edited row",
            every_s=0.2,
        )
        row_s = time.monotonic() - began
        pids = {name: int(row["pid"]) for name, row in stack.status().items() if row["pid"]}
        cpu = cpu_of(pids)
        assert all(row["verdict"] == "equal" for row in stack.verify())
    return {"ready_s": ready_s, "edited_row_s": row_s, **{f"cpu_{n}_s": s for n, s in cpu.items()}}


def middle(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each figure, and of all services' CPU."""
    names = [name for name in rounds[0] if all(name in one for one in rounds)]
    found = {n: round(statistics.mean(one[n] for one in rounds), 1) for n in names}
    total = sum(value for name, value in found.items() if name.startswith("cpu_"))
    return {**found, "cpu_total_s": round(total, 1)}
