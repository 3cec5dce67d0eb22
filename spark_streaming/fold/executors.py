"""Runs fold tasks in Spark's executors, and makes the frame of their rows."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.fold.fold_tasks import (
    CARRIED,
    EVENT,
    REJECT,
    REPORT,
    ROW,
    TAG,
    FoldTask,
    Report,
    as_output,
    output_schema,
)
from spark_streaming.fold.keyed_in_parts import LargePart
from spark_streaming.reading.kafka_source import RAW_COLUMNS, events_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Makes the frame of a part's raw events: RAW_COLUMNS, all partitions of one topic.
Events = Callable[["SparkSession"], "DataFrame"]


class Executors:
    """Runs fold tasks over one part's events; see `keyed_in_parts.Run`."""

    def __init__(self, session: SparkSession, events: Events) -> None:
        self._session = session
        self._events = events

    def __call__(self, task: FoldTask, tasks: int, changed_keys: frozenset[bytes]) -> SparkOutput:
        """Run a task; all its output is on the executors' disks when this returns."""
        session = self._session.newSession()
        return SparkOutput(_folding(self._events(session), task, tasks, changed_keys))


class SparkOutput:
    """The tasks' output, as a frame on the executors' disks."""

    def __init__(self, frame: DataFrame) -> None:
        from pyspark import StorageLevel

        self.frame = frame.persist(StorageLevel.DISK_ONLY)
        try:
            reports = [pickle.loads(row[0]) for row in self._carried(REPORT).collect()]
        except BaseException:
            self.close()
            raise
        self.report: Report = reduce(Report.merge, reports, Report())

    def rejects(self) -> Iterator[Reject]:
        """Yield the rejects, a Spark partition at a time."""
        for row in self._carried(REJECT).toLocalIterator():
            yield pickle.loads(row[0])

    def events(self) -> list[RawEvent]:
        """Return the forwarded events; at most as many as one task may hold."""
        return [pickle.loads(row[0]) for row in self._carried(EVENT).collect()]

    def close(self) -> None:
        """Delete the output on the executors."""
        self.frame.unpersist()

    def _carried(self, tag: str) -> DataFrame:
        return self.frame.where(f"{TAG} = '{tag}'").select(CARRIED)


def folded_rows(part: LargePart) -> DataFrame:
    """Return a frame of a part's folded rows, as in `Folded.rows`."""
    assert isinstance(part.output, SparkOutput)
    rows = part.output.frame
    if part.changed_keys is not None and len(part.changed_keys.rows):
        from_driver = as_output(part.changed_keys.rows, part.contract)
        rows = rows.unionByName(rows.sparkSession.createDataFrame(from_driver))
    rows = rows.where(f"{TAG} = '{ROW}'").drop(TAG, CARRIED)
    flags = [name for name in rows.columns if name.startswith("_keep_")]
    return rows.drop(*(name for name in flags if name[6:] not in part.report.keeps))


def _folding(
    raw: DataFrame, task: FoldTask, tasks: int, changed_keys: frozenset[bytes]
) -> DataFrame:
    """Return the frame of all tasks' output.

    Events with equal keys go to one task; those of changed keys to one more task, which forwards
    them to the driver.
    """
    from pyspark import TaskContext
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    where = F.expr(f"cast(pmod(xxhash64(key), {tasks}) AS int)")
    if changed_keys:
        keys = ", ".join(f"X'{key.hex()}'" for key in sorted(changed_keys))
        where = F.when(F.expr(f"coalesce(key IN ({keys}), false)"), tasks).otherwise(where)
    forwarding_task = tasks if changed_keys else -1

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        events = _events(batches)
        if context is not None and context.partitionId() == forwarding_task:
            return task.forward(events)
        return task.run(events)

    spread = (
        raw.select(*RAW_COLUMNS)
        .withColumn("_task", where)
        .repartitionById(tasks + (1 if changed_keys else 0), "_task")
        .drop("_task")
    )
    return spread.mapInArrow(run, from_arrow_schema(output_schema(task.contract)))


def _events(batches: Iterator[pa.RecordBatch]) -> Iterator[RawEvent]:
    for batch in batches:
        for found in events_of(pa.Table.from_batches([batch])).values():
            yield from found
