"""Lineage of 200 tables with 20 columns and of 50 views: the first round, an unchanged round, an answer; no stack.

The lake is a folder of this machine, because the edges are measured and not the store. An answer is a
separate process with its imports, like the command.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.environment.settings import ROOT
from app.lineage.edge import FILTER, LAKE, UNKNOWN
from app.lineage.keeper import LineageKeeper, ViewQuery
from app.lineage.lineage_table import LineageTable
from app.lineage.run_reader import RunReader
from app.lineage.table_edges import Column, Table
from tests.support.disk_lake import DiskLake
from tests.support.measure import report

TABLES, COLUMNS, VIEWS = 200, 20, 50
ANSWERS = 5
_ASK = """
import sys, time
from pathlib import Path
from tests.support.disk_lake import DiskLake
from app.lineage.lineage_table import LineageTable
from app.lineage.walk import find, walk
edges = LineageTable(DiskLake(Path(sys.argv[1]))).read()
start = find(edges, sys.argv[2])
print(sum(len(walk(edges, start, up=up)) for up in (True, False)))
"""


def test_two_hundred_tables_and_fifty_views(tmp_path: Path) -> None:
    tables = [_table(number) for number in range(TABLES)]
    views = [_view(number) for number in range(VIEWS)]
    lake, now = DiskLake(tmp_path), [0.0]
    keeper = LineageKeeper(
        LineageTable(lake), RunReader(lake), "hw", str, tmp_path / "none", clock=lambda: now[0]
    )

    def round_of_keeper() -> None:
        now[0] += 60
        keeper.update(tables, views, {})
        keeper.await_round()

    cpu = time.process_time()
    first = _seconds(round_of_keeper)
    first_cpu = time.process_time() - cpu
    unchanged = _seconds(round_of_keeper)
    edges = LineageTable(lake).read()
    assert not [edge for edge in edges if edge.kind == UNKNOWN]
    # Every view has the edges of the columns in its statement, and no others.
    for number in range(VIEWS):
        made = {str(e.origin) for e in edges if e.target == (LAKE, f"reports.v{number}", "total")}
        assert made == _expected(number), number
    views[0] = _view(0, "count")
    changed = _seconds(round_of_keeper)
    answers = [_seconds(lambda: _ask(tmp_path, "reports.v49.total")) for _ in range(ANSWERS)]
    report(
        "lineage_200_tables_50_views",
        {
            "edges": len(edges),
            "filters": sum(edge.kind == FILTER for edge in edges),
            "first_round_s": round(first, 2),
            "first_round_cpu_s": round(first_cpu, 2),
            "unchanged_round_s": round(unchanged, 2),
            "one_view_changed_s": round(changed, 2),
            "answer_s_max": round(max(answers), 2),
        },
    )


def _table(number: int) -> Table:
    columns = (Column("id", "bigint"), *(Column(f"c{i}", "bigint") for i in range(1, COLUMNS)))
    return Table(f"silver.t{number}", columns, ("public", f"t{number}"))


def _view(number: int, function: str = "sum") -> ViewQuery:
    """A view of three tables; from the tenth on also of the previous view."""
    base = f"silver.t{number * 4}"
    other, third = f"silver.t{number * 4 + 1}", f"silver.t{number * 4 + 2}"
    last = f"reports.v{number - 1}" if number % 10 else third
    joined = f"JOIN {last} AS l ON l.id = a.id"
    total = "l.total" if number % 10 else "l.c3"
    shown = ", ".join(f"max(a.c{i}) AS m{i}" for i in range(1, 10))
    select = (
        f"WITH busy AS (SELECT id, c1 AS one, c2 FROM {other} WHERE c4 > 3 UNION ALL "
        f"SELECT id, c5, c6 FROM {third}) "
        f"SELECT a.id, {shown}, {function}(CASE WHEN b.one > 1 THEN {total} END) AS total "
        f"FROM {base} AS a JOIN busy AS b ON b.id = a.id {joined} GROUP BY a.id"
    )
    columns = ("id", *(f"m{i}" for i in range(1, 10)), "total")
    return ViewQuery(
        f"reports.v{number}",
        select,
        tuple((name, "bigint") for name in columns),
        (base, other, third, last),
    )


def _expected(number: int) -> set[str]:
    third = f"silver.t{number * 4 + 2}"
    last = f"reports.v{number - 1}.total" if number % 10 else f"{third}.c3"
    return {f"silver.t{number * 4 + 1}.c1", f"{third}.c5", last}


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _ask(lake: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(lake), name], cwd=ROOT, capture_output=True, text=True
    )
    assert int(done.stdout) > 10, done.stderr
