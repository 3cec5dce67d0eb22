"""Jobs' edges are the tables that their newest successful runs have read and written."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from app.jobs.job_runs_table import SCHEMA, JobRunsTable
from app.lineage.edge import Edge
from app.lineage.run_reader import RunReader
from tests.support.disk_lake import DiskLake

PATHS = {"ops.job_runs": "ops/job_runs", "ml.lists": "ml/lists", "ml.other": "ml/other"}


def attempt(day: int, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    at = datetime(2026, 11, day, tzinfo=timezone.utc)
    return {
        "run_id": f"r{day}",
        "job": "suggest",
        "task": "learn",
        "kind": "python",
        "attempt": 1,
        "state": state,
        "queued_at": at,
        "ended_at": at,
        **more,
    }


def ran(version: int) -> dict[str, str]:
    return {
        "read_versions": json.dumps({"silver.orders": version}),
        "written": json.dumps({"ml.lists": version * 10}),
    }


def told(edges: list[Edge]) -> list[tuple[str, str, str, str]]:
    return [(str(e.origin), str(e.target), e.kind, e.detail) for e in edges]


def world(folder: Path, *rows: dict[str, Any]) -> RunReader:
    lake = DiskLake(folder)
    for name in ("lists", "other"):
        commit = CommitProperties(custom_metadata={"read.orders": "4"})
        write_deltalake(lake.url(f"ml/{name}"), pa.table({"a": [1]}), commit_properties=commit)
    JobRunsTable(lake).append(rows)
    return RunReader(lake)


def test_a_tasks_newest_success_says_what_it_read_and_wrote_at_which_versions(
    tmp_path: Path,
) -> None:
    reader = world(
        tmp_path, attempt(2, **ran(7)), attempt(1, **ran(3)), attempt(3, "failed", **ran(9))
    )
    paths = {name: PATHS[name] for name in ("ops.job_runs", "ml.lists")}
    assert told(reader.edges(paths)) == [
        ("silver.orders", "job:suggest.learn", "read", "version 7"),
        ("job:suggest.learn", "ml.lists", "written", "version 70"),
    ]  # fmt: skip


def test_a_published_table_is_an_edge_into_the_serving_database(tmp_path: Path) -> None:
    row = attempt(
        1, task="publish", read_versions='{"ml.lists": 3}', written='{"serving:lists": null}'
    )
    assert told(world(tmp_path, row).edges({"ops.job_runs": PATHS["ops.job_runs"]})) == [
        ("ml.lists", "job:suggest.publish", "read", "version 3"),
        ("job:suggest.publish", "serving:lists", "written", ""),
    ]  # fmt: skip


def test_a_model_that_no_job_has_written_says_itself_what_it_was_trained_on(tmp_path: Path) -> None:
    found = told(world(tmp_path, attempt(1, **ran(3))).edges(PATHS))
    assert ("silver.orders", "ml.other", "unknown", "version 4") in found
    assert not [edge for edge in found if edge[:2] == ("silver.orders", "ml.lists")]


def test_a_new_run_is_seen_and_runs_of_an_earlier_release_stop_nothing(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    old = SCHEMA.remove(SCHEMA.get_field_index("written"))
    write_deltalake(lake.url("ops/job_runs"), pa.Table.from_pylist([attempt(1)], schema=old))
    reader, paths = RunReader(lake), {"ops.job_runs": "ops/job_runs"}
    assert reader.edges(paths) == []
    JobRunsTable(lake).append([attempt(2, **ran(5))])
    assert len(reader.edges(paths)) == 2
