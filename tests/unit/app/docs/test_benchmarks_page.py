"""The page of benchmarks: what it takes from reports, and what it says without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from app.docs.benchmarks import benchmarks_page as page
from app.docs.benchmarks.bar_picture import bars_svg
from app.docs.benchmarks.reports import goals, proven, read_reports

SEEN = {"p50": 0.3, "p95": 0.5, "p99": 0.6, "max": 0.7, "n": 60}
FRESH: dict[str, Any] = {
    "changes_per_s": 0,
    "seconds": dict.fromkeys(("kafka", "bronze", "silver", "trino"), SEEN),
    "cores": {"silver": 0.4},
    "cores_without_probe": {"silver": 0.1},
    "stack_cores_without_probe": 0.1,
    "probe_cores": {"own": 0.02, "in_services": 0.05},
    "questions_an_edit": 1.1,
    "memory_mib": 2_000,
    "load_made": {},
    "verdicts": {"bench_1": "equal"},
}


def written(folder: Path, **reports: dict[str, Any]) -> Path:
    """A folder with these reports."""
    for name, report in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(report))
    return folder


def test_a_goal_without_a_report_is_not_measured() -> None:
    assert {goal.measured for goal in goals({})} == {"not measured"}


def test_a_goal_is_reached_only_where_each_of_its_figures_reaches_it() -> None:
    slow = {**FRESH, "seconds": {**FRESH["seconds"], "trino": {**SEEN, "p95": 1.2}}}
    rest, loaded, *_ = goals(
        {"freshness_0x8": FRESH, "freshness_50x8": FRESH, "freshness_500x8": slow}
    )
    assert rest.reached is True
    assert loaded.cells()[1:] == [
        "p50 0.30 s, p95 0.50 s; p50 0.30 s, p95 1.20 s",
        "p50 ≤ 0.6 s, p95 ≤ 1.0 s",
        "not reached",
    ]


def test_a_report_is_proven_only_by_verdicts_that_are_all_equal() -> None:
    assert proven(FRESH)
    assert not proven({})
    assert not proven({"verdicts": {"a": "equal", "b": "differs"}})


def test_the_page_has_a_chapter_for_each_kind_of_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path, freshness_0x8=FRESH)
    monkeypatch.setattr(page, "read_reports", lambda: read_reports(folder))
    text = page.benchmarks_page()
    assert "| 0x8 | kafka | 0.30 | 0.50 | 0.60 | 0.70 | 60 |" in text
    assert "## Queries" not in text
    assert "`freshness_0x8.json` | equal |" in text
    assert set(page.benchmark_pictures()) == {"freshness.svg", "hops.svg", "cpu.svg"}


def test_a_picture_of_bars_is_xml_with_each_value_beside_its_bar() -> None:
    picture = bars_svg("a < b", [("50x8", {"p50": 0.5, "p95": 1.0}), ("500x8", {"p50": 0.25})], "s")
    texts = [
        node.text for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("}text")
    ]
    assert texts == ["a < b", "50x8", "0.50 s", "1.00 s", "500x8", "0.25 s", "p50", "p95"]
