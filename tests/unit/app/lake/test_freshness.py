"""Which tables miss the freshness target of their contract."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

from app.lake.freshness import Late, late
from spark_streaming.rules.contract_folder import ContractFolder

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
MERGED_AT = map(NOW.__add__, map(timedelta, count()))  # each row is newer than the previous one


def row(table: str, behind_s: float | None, **more: Any) -> dict[str, Any]:
    time = None if behind_s is None else NOW - timedelta(seconds=behind_s)
    columns = {
        "merged_at": next(MERGED_AT), "state": "running", "refusal": None, "freshness_targets": None,
    }  # fmt: skip
    return {"table_name": table, "source_time": time, **columns, **more}


def test_a_table_that_is_behind_its_target_by_more_than_a_heartbeat_is_late() -> None:
    targets = '{"films": 5, "orders": 600, "not_there_yet": 1}'
    rows = [
        row("films", 50),
        row("orders", 50),
        row("quiet", 50),
        row("", 42, freshness_targets=targets),
    ]
    [found] = late(rows, NOW)
    assert found == Late("films", 5, 42.0, "running")
    assert found.summary() == "films 42 s (target 5 s)"
    assert late([*rows, row("", 9.9, freshness_targets=targets)], NOW) == []


def test_a_table_that_does_not_run_misses_its_target() -> None:
    targets = '{"films": 1e9, "bag": 1e9}'
    rows = [
        row("films", 0, state="stopped"),
        row("bag", None, refusal="it has no key"),
        row("", 1, freshness_targets=targets),
    ]
    assert [one.summary() for one in late(rows, NOW)] == [
        "bag refused (target 1e+09 s)",
        "films stopped (target 1e+09 s)",
    ]


def test_a_target_that_was_removed_does_not_count_any_more() -> None:
    rows = [row("films", 50), row("", 50, freshness_targets='{"films": 1}')]
    assert len(late(rows, NOW)) == 1
    assert late([*rows, row("", 50, freshness_targets="{}")], NOW) == []


def test_the_targets_are_those_of_the_files_that_are_right(tmp_path: Path) -> None:
    (tmp_path / "public.films.toml").write_text('freshness = "1.5s"\n')
    (tmp_path / "sales.orders.toml").write_text('freshness = "2 min"\n')
    (tmp_path / "public.tags.toml").write_text("[columns.tag]\nnot_null = true\n")
    (tmp_path / "public.wrong.toml").write_text('freshness = "soon"\n')
    folder = ContractFolder([tmp_path])
    assert folder.freshness_targets() == {"films": 1.5, "sales__orders": 120.0}
