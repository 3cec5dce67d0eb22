"""The reports of benchmarks that are in the repository, and the goals beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.docs.benchmarks.bar_picture import number

RESULTS = Path(__file__).resolve().parents[3] / "tests" / "bench" / "results"
BATCH_FLOOR = "peers_dlt"
Report = dict[str, Any]
Reports = dict[str, Report]


def read_reports(folder: Path = RESULTS) -> Reports:
    """Name → report, of all JSON files of a folder."""
    paths = sorted(folder.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def proven(report: Report) -> bool:
    """Whether the report says that all rows were equal."""
    found = [*report.get("verdicts", {}).values(), *filter(None, [report.get("verdict")])]
    return bool(found) and all(verdict == "equal" for verdict in found)


@dataclass(frozen=True)
class Goal:
    """A goal of the project: what was measured for it, in words, and whether that reaches it."""

    work: str
    goal: str
    measured: str = "not measured"
    reached: bool | None = None

    def cells(self) -> list[str]:
        """The row of the table."""
        verdict = {True: "reached", False: "not reached", None: ""}[self.reached]
        return [self.work, self.measured, self.goal, verdict]


def goals(reports: Reports) -> list[Goal]:
    """All goals, in their order."""
    return [
        _freshness(reports, "at rest", ["freshness_0x8"], 0.35, 0.6),
        _freshness(
            reports, "at 50 and at 500 changes/s on 8 tables", ["freshness_50x8", "freshness_500x8"], 0.6, 1.0,
        ),
        _sustained(reports, 12_000),
        _rate(reports, "one transaction of a million updates", "throughput_transaction", "changes_per_s", 20_000),
        _rate(reports, "first snapshot, a narrow table", "snapshot_initial_narrow", "rows_per_s", 40_000),
        _beside_peers(reports),
        _at_rest(reports),
        _ratio(reports),
        _start(reports),
    ]  # fmt: skip


def _freshness(reports: Reports, where: str, names: list[str], p50: float, p95: float) -> Goal:
    goal = Goal(f"commit → Trino answer {where}", f"p50 ≤ {p50} s, p95 ≤ {p95} s")
    found = [reports[name]["seconds"]["trino"] for name in names if name in reports]
    if len(found) < len(names):
        return goal
    reached = all(one["p50"] <= p50 and one["p95"] <= p95 for one in found)
    text = "; ".join(f"p50 {one['p50']:.2f} s, p95 {one['p95']:.2f} s" for one in found)
    return Goal(goal.work, goal.goal, text, reached)


def _rate(reports: Reports, work: str, name: str, key: str, least: int) -> Goal:
    goal = Goal(work, f"≥ {least:,}/s")
    value = reports.get(name, {}).get(key)
    if value is None:
        return goal
    of = reports[name].get("rows") or reports[name].get("changes")
    size = f" (of {of:,})" if of else ""
    return Goal(work, goal.goal, f"{number(value)}/s{size}", value >= least)


def _sustained(reports: Reports, least: int) -> Goal:
    work, goal = "sustained mixed changes", f"≥ {least:,}/s"
    if (report := reports.get("throughput_sustained")) is None:
        return Goal(work, goal)
    final = report["final"]
    made = final["made_per_s"]
    text = f"{number(made)}/s for {final['lasted_s']:.0f} s, lag p50 {final['lag_s']['p50']:.1f} s"
    if not final["flat"]:
        text += f"; {number(final['rate'])}/s were tried"
    return Goal(work, goal, text, bool(final["flat"]) and made >= least)


def _beside_peers(reports: Reports) -> Goal:
    work, goal = (
        "events a CPU-second of the whole stack",
        "≥ 2 × the best peer that passes equality",
    )
    # dlt-replace copies whole tables again and again; it does not apply changes, so it is no peer here.
    figures = {n: r["changes_per_cpu_s"] for n, r in reports.items() if n.startswith("peers_") and not n.startswith(BATCH_FLOOR) and proven(r) and "changes_per_cpu_s" in r}  # fmt: skip
    own = figures.pop("peers_headwater", None)
    if own is None or not figures:
        return Goal(work, goal)
    name, best = max(figures.items(), key=lambda item: item[1])
    text = f"{number(own)} beside {number(best)} ({name.removeprefix('peers_')})"
    return Goal(work, goal, text, own >= 2 * best)


def _at_rest(reports: Reports) -> Goal:
    goal = Goal("at rest", "≤ 0.12 core, ≤ 2.2 GB")
    report = reports.get("freshness_0x8")
    if report is None or report["stack_cores_without_probe"] is None:
        return goal
    cores, memory = report["stack_cores_without_probe"], report["memory_mib"] * 1.048576 / 1_000
    text = f"{cores:.2f} core (without the probe), {memory:.1f} GB"
    return Goal(goal.work, goal.goal, text, cores <= 0.12 and memory <= 2.2)


def _ratio(reports: Reports) -> Goal:
    report = reports.get("growth_ratio")
    if report is None:
        return Goal("100,000 recent changes into 10M rows against into 1M", "≤ 1.2 ×")
    rows, ratio = report["rows"], report["large_by_small"]["seconds"]
    work = f"{report['changes']:,} recent changes into {rows['large']:,} rows against into {rows['small']:,}"
    return Goal(work, "≤ 1.2 ×", f"{ratio:.2f} ×", ratio <= 1.2)


def _start(reports: Reports) -> Goal:
    goal = Goal("filled cache → first edited row in Trino", "≤ 60 s; again ≤ 25 s")
    report = reports.get("start")
    if report is None:
        return goal
    first, again = report["without"]["edited_row_s"], report["with"]["edited_row_s"]
    text = f"{first:.0f} s without AOT caches, {again:.0f} s with them"
    return Goal(goal.work, goal.goal, text, first <= 60 and again <= 25)
