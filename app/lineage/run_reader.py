"""Reads from the lake which tables jobs and models have read; reads each table only if it has a new version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.lineage.edge import WRITTEN, Edge
from app.lineage.job_edges import COLUMNS, job_edges, model_edges
from spark_streaming.storage.lake import Lake

JOB_RUNS = "ops.job_runs"
MODELS = "ml."


class RunReader:
    """Used by one thread. Raises: DeltaError, OSError if the lake does not answer."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: dict[str, tuple[tuple[str, int], list[Edge]]] = {}

    def edges(self, paths: Mapping[str, str]) -> list[Edge]:
        """Return the edges of jobs, and of models' tables that were not written by a job.

        Args:
            paths: the path in the lake of each table, by `schema.table`.
        """
        for gone in self._known.keys() - paths.keys():
            del self._known[gone]
        runs = self._read(JOB_RUNS, paths[JOB_RUNS]) if JOB_RUNS in paths else []
        by_jobs = {edge.target.name for edge in runs if edge.kind == WRITTEN}
        models = [n for n in paths if n.startswith(MODELS) and n not in by_jobs]
        return [*runs, *(edge for name in sorted(models) for edge in self._read(name, paths[name]))]

    def _read(self, name: str, path: str) -> Iterable[Edge]:
        table = self._lake.table(path)
        version = (str(table.metadata().id), int(table.version()))
        known = self._known.get(name)
        if known is None or known[0] != version:
            if name == JOB_RUNS:
                dataset = table.to_pyarrow_dataset()
                there = [column for column in COLUMNS if column in dataset.schema.names]
                rows = dataset.to_table(columns=there).to_pylist()
                empty = dict.fromkeys(COLUMNS)  # a column that an earlier release did not write
                found = list(job_edges({**empty, **row} for row in rows))
            else:
                found = list(model_edges(name, table.history(1)[0]))
            known = self._known[name] = (version, found)
        return known[1]
