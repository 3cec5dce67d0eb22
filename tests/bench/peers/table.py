"""Prints the reports of a run as Markdown tables: `python -m tests.bench.peers.table FOLDER`.

FOLDER is what HEADWATER_BENCH_OUT named. A contender that did not keep all rows equal has its verdict and no figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Report = Mapping[str, Any]
Cell = tuple[str, Callable[[Report], str]]


def main(arguments: Sequence[str]) -> None:
    print(tables(read(Path(arguments[0]))))


def read(folder: Path) -> list[Report]:
    """The reports in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("peers_*.json"))]


def tables(reports: Iterable[Report]) -> str:
    """Three tables: the measured contenders by changes a CPU-second, the sinks of raw events, and the verdicts alone.

    Those without a report are left out, and tables without rows.
    """
    found = list(reports)
    measured, sinks, checked = (
        [report for report in found if report.get("kind", "tables") == kind]
        for kind in ("tables", "bronze", "verdict")
    )
    parts = [
        _table(_MEASURED, sorted(measured, key=_rank("changes_per_cpu_s"))),
        _table(_SINKS, sorted(sinks, key=_rank("events_per_cpu_s"))),
        _table(_CHECKED, sorted(checked, key=lambda report: str(report["name"]))),
    ]
    return "\n\n".join(part for part in parts if part)


def _figure(key: str, unit: str = "") -> Callable[[Report], str]:
    return lambda report: f"{report[key]:,}{unit}" if key in report else "–"


def _freshness(report: Report) -> str:
    seconds = report.get("freshness_s")
    if not seconds:
        return "–"
    text = f"{seconds['p50']:.2f} s / {seconds['p95']:.2f} s"
    return text if report.get("freshness_equal", True) else f"{text}, then rows differed"


def _verdict(report: Report) -> str:
    text = str(report["verdict"])
    return (
        text if text == report.get("expected", text) else f"{text} (expected {report['expected']})"
    )


def _how(report: Report) -> str:
    how = report.get("how", "")
    first = how if isinstance(how, str) else how[0]
    return " ".join(str(first).replace("|", "\\|").split())


def _rank(key: str) -> Callable[[Report], float]:
    return lambda report: -float(report.get(key, 0))


def _table(cells: Sequence[Cell], reports: Sequence[Report]) -> str:
    if not reports:
        return ""
    rows = [[title for title, _ in cells], ["---"] * len(cells)]
    rows += [[text(report) for _, text in cells] for report in reports]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_NAME: Cell = ("contender", lambda report: f"`{report['name']}`")
_MEASURED: tuple[Cell, ...] = (
    _NAME,
    ("all rows", _verdict),
    ("changes a second", _figure("changes_per_s")),
    ("changes a CPU-second", _figure("changes_per_cpu_s")),
    ("without Postgres", _figure("changes_per_cpu_s_without_source")),
    ("freshness p50 / p95", _freshness),
    ("first rows", _figure("first_rows_s", " s")),
    ("memory of all", _figure("total_mib", " MiB")),
)
_SINKS: tuple[Cell, ...] = (
    _NAME,
    ("each event once", _verdict),
    ("events a second", _figure("events_per_s")),
    ("events a CPU-second", _figure("events_per_cpu_s")),
    ("of the sink's own", _figure("events_per_cpu_s_of_the_sink")),
    ("files", _figure("files")),
    ("bytes an event", _figure("bytes_per_event")),
    ("memory of the sink", _figure("sink_mib", " MiB")),
)
_CHECKED: tuple[Cell, ...] = (
    _NAME,
    ("replica identity", lambda report: str(report.get("replica_identity", "–"))),
    ("all rows", _verdict),
    ("how", _how),
)

if __name__ == "__main__":
    main(sys.argv[1:])
