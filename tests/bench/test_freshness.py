"""Freshness at each hop: from the commit in Postgres to Kafka, bronze, silver and a Trino answer.

Each second a light probe in a process of its own edits one row (`hop_probe.py`). The same load runs first without the
probe, so that its share of the CPU is known. Figures count only if all loaded tables equal the source's.

HEADWATER_BENCH_CASES chooses: names with commas, or `all`. A name is `<changes a second>x<tables>`, `young` (50x8 from
the moment when the stack is ready) or `maintenance` (50x8 with the shortest retention, so that each table is vacuumed
every minute beside its checkpoints and joined files).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.bench_load import SEED, Load, loaded
from tests.support.circumstances import content_hash, verdicts
from tests.support.measure import percentiles, report, watched
from tests.support.stack import ROOT, Stack, fresh_stack

EDITS = int(os.environ.get("HEADWATER_BENCH_EDITS", "60"))
# A fresh stack is slower by half, because five JVMs compile their code on the same two cores.
WARM_UP_S = float(os.environ.get("HEADWATER_BENCH_WARM_UP_S", "60"))
WITHOUT_PROBE_S = float(os.environ.get("HEADWATER_BENCH_WITHOUT_PROBE_S", "20"))
ROWS = 2_000
MEMORY_EVERY_S = 5.0  # reading a JVM's memory takes some ten milliseconds of CPU
HOPS = ("kafka", "bronze", "silver", "trino")
STEPS = (("committed", "kafka"), ("kafka", "bronze"), ("kafka", "silver"), ("silver", "trino"))
HARNESS = ("load", "probe")
RETENTION = "silver_retention_minutes = 1\n"


@dataclass(frozen=True)
class Case:
    """A load, and on which stack: the common one, or one of its own that is young or kept busy by maintenance."""

    rate: int
    tables: int
    own: str = ""


RATES, TABLES = (0, 5, 50, 500, 2_000), (1, 8, 50)
ALL = {f"{rate}x{tables}": Case(rate, tables) for tables in TABLES for rate in RATES} | {
    "young": Case(50, 8, "young"),
    "maintenance": Case(50, 8, "maintenance"),
}
DEFAULT = "0x8,50x8,500x8"


def chosen(names: str) -> list[str]:
    """The cases that a text names."""
    found = list(ALL) if names == "all" else names.split(",")
    unknown = [name for name in found if name not in ALL]
    assert not unknown, f"HEADWATER_BENCH_CASES: no case {unknown[0]}; there are {', '.join(ALL)}"
    return found


CASES = chosen(os.environ.get("HEADWATER_BENCH_CASES", DEFAULT))
pytestmark = pytest.mark.timeout(1_800)


@pytest.mark.parametrize("name", CASES)
def test_freshness_at_each_hop(name: str, request: pytest.FixtureRequest) -> None:
    case = ALL[name]
    with ExitStack() as own:
        if case.own:
            stack = own.enter_context(fresh_stack())
            if case.own == "maintenance":
                (stack.home / "settings.toml").write_text(RETENTION)
            stack.up()
        else:
            stack = request.getfixturevalue("stack")
        with loaded(stack, case.rate, tables=case.tables, rows=ROWS) as load:
            figures = measured(stack, load, warm_up_s=0 if case.own == "young" else WARM_UP_S)
            seen = verdicts(stack.verify(*load.tables))
        with stack.source() as source:
            rows = content_hash(source, load.tables, SEED, "id, v, note")
    found = {"changes_per_s": case.rate, "tables": case.tables, "stack": case.own or "common"}
    about = {"seed": SEED, "workload": rows, "verdicts": seen, "load_made": load.report}
    report(f"freshness_{name}", found | figures | about)


def measured(stack: Stack, load: Load, *, warm_up_s: float) -> dict[str, Any]:
    """The hops' seconds under a load, and the CPU of each process with and without the probe."""
    stack.verify(*load.tables)
    if warm_up_s:
        probed(stack, load, int(warm_up_s))
    beside = {"load": load.pid} if load.pid else {}
    without, without_s = {}, WITHOUT_PROBE_S if warm_up_s else 0.0
    if without_s:
        with watched(stack, also=beside, uncounted=HARNESS, every_s=MEMORY_EVERY_S) as resources:
            time.sleep(without_s)
        without = shares(resources.cpu_s, without_s)
    with watched(stack, also=beside, uncounted=HARNESS, every_s=MEMORY_EVERY_S) as resources:
        began, changes = time.monotonic(), changes_of(stack, load)
        probe = probed(stack, load, EDITS)
        took, changes = time.monotonic() - began, changes_of(stack, load) - changes
    cpu = shares(resources.cpu_s | {"probe": probe["cpu_s"]}, took)
    whole = sum(share for name, share in cpu.items() if name not in HARNESS)
    least = sum(share for name, share in without.items() if name not in HARNESS)
    edits = probe["edits"]
    return {
        "seconds": {hop: percentiles(between(edits, "committed", hop)) for hop in HOPS},
        "steps": {f"{a} to {b}": percentiles(between(edits, a, b)) for a, b in STEPS},
        "trino_answer_s": percentiles([e["answer_s"] for e in edits if e["answer_s"]]),
        "questions_an_edit": round(sum(e["questions"] for e in edits) / len(edits), 2),
        "edits": len(edits),
        "made_per_s": round((changes - len(edits)) / took, 1),
        "unseen": {hop: sum(e[f"{hop}_at"] is None for e in edits) for hop in HOPS},
        "cores": cpu,
        "cores_without_probe": without,
        "stack_cores": round(whole, 3),
        "stack_cores_without_probe": round(least, 3) if without else None,
        "probe_cores": {
            "own": cpu["probe"],
            "in_services": round(whole - least, 3) if without else None,
        },
        "memory_mib": resources.total_mib,
        "peak_mib": dict(sorted(resources.peak_mib.items())),
        "lasted_s": round(took, 1),
    }


def changes_of(stack: Stack, load: Load) -> int:
    """The rows that were inserted, updated and deleted in the loaded tables, by Postgres' own statistics."""
    with stack.source() as source:
        [(changes,)] = source.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables "
            "WHERE schemaname = 'public' AND relname = ANY(%s)",
            [load.tables],
        ).fetchall()
    return int(changes)


def probed(stack: Stack, load: Load, edits: int) -> dict[str, Any]:
    """The report of the probe."""
    options = json.dumps({"tables": load.tables, "edits": edits})
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.hop_probe", options],
        cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True, timeout=edits + 180, check=True,
    )  # fmt: skip
    return dict(json.loads(ended.stdout))


def between(edits: list[dict[str, Any]], begin: str, end: str) -> list[float]:
    """Seconds between two hops, of the edits that both have shown."""
    pairs = ((edit[f"{begin}_at"], edit[f"{end}_at"]) for edit in edits)
    return [later - earlier for earlier, later in pairs if earlier and later]


def shares(cpu_s: dict[str, float], lasted_s: float) -> dict[str, float]:
    """Cores of each process."""
    return {name: round(spent / lasted_s, 3) for name, spent in sorted(cpu_s.items())}
