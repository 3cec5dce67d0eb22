"""A table that differs is compared again when silver follows the source's table."""

from __future__ import annotations

from pathlib import Path
from random import Random

from app.compare.catch_up import follows
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from tests.spark.evolving import EvolvingJob
from tests.support.disk_lake import DiskLake
from tests.unit.evolving_source import EvolvingSource
from tests.unit.spark_streaming.events.test_evolution_histories import KINDS


def test_silver_follows_a_changed_table_when_it_has_taken_the_change_up(tmp_path: Path) -> None:
    source = EvolvingSource(Random(1), KINDS)
    job = EvolvingJob(DiskLake(tmp_path / "lake"), ArrowEngine(), tmp_path, source)
    name = (source.schema, source.table)
    assert follows(job.catalog, name), "silver has nothing of it yet: there is nothing to wait for"
    source.insert(1)
    job.catalog.lsn = source.lsn
    job.run()
    assert follows(job.catalog, name)
    source.alter("add_column")
    job.catalog.lsn = source.lsn
    assert not follows(job.catalog, name)
    job.settle()
    assert follows(job.catalog, name)
