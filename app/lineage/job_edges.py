"""The edges of jobs, from `ops.job_runs`, and of models' tables, from the properties of their Delta commits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.lineage.edge import JOB, LAKE, READ, SERVING, UNKNOWN, WRITTEN, Edge, Place

# A model records in its commit the versions of silver's tables that it has read.
COMMIT_READ = "read."
_SERVING = f"{SERVING}:"
COLUMNS = ("job", "task", "state", "ended_at", "read_versions", "written")


def job_edges(attempts: Iterable[Mapping[str, Any]]) -> Iterator[Edge]:
    """Yield the edges of each task's newest successful attempt: tables → task → tables.

    Args:
        attempts: rows of `ops.job_runs` with COLUMNS, in any order.
    """
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in attempts:
        if row["task"] is None or row["state"] != "succeeded":
            continue
        task = (row["job"], row["task"])
        if task not in newest or newest[task]["ended_at"] < row["ended_at"]:
            newest[task] = row
    for (job, name), row in sorted(newest.items()):
        task_place, by = Place(JOB, f"{job}.{name}"), f"job {job}"
        for table, version in sorted(json.loads(row["read_versions"] or "{}").items()):
            yield Edge(Place(LAKE, table.lower()), task_place, READ, by, _at(version))
        for target, version in sorted(json.loads(row["written"] or "{}").items()):
            is_served = target.startswith(_SERVING)
            place = (
                Place(SERVING, target.removeprefix(_SERVING))
                if is_served
                else Place(LAKE, target.lower())
            )
            yield Edge(task_place, place, WRITTEN, by, _at(version))


def model_edges(table: str, commit: Mapping[str, Any]) -> Iterator[Edge]:
    """Yield the edges to a model's table from the tables it was trained on, which its newest commit names.

    Args:
        table: `schema.table`.
        commit: the commit's properties; each that begins with COMMIT_READ names a table of silver.
    """
    for key, version in sorted(commit.items()):
        if key.startswith(COMMIT_READ):
            origin = Place(LAKE, f"silver.{key.removeprefix(COMMIT_READ)}".lower())
            yield Edge(origin, Place(LAKE, table), UNKNOWN, "model", _at(version))


def _at(version: object) -> str:
    return "" if version is None else f"version {version}"
