"""Finds the first event of a topic if silver has merged nothing of the topic yet.

Kafka keeps events for a time, bronze for good. A table that silver never saw begins in bronze, and
so does each table of a lake that was emptied while bronze stayed. The query's own plan begins at
the first event that Kafka has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from kafka import TopicPartition

from spark_streaming.contract.names import INTERNAL_SCHEMA
from spark_streaming.reading.offsets import BatchSpan, Offsets
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_names import SilverNames

log = logging.getLogger(__name__)


def not_in_silver(lake: Lake, prefix: str) -> Callable[[str], bool]:
    """Return a function that tests whether a topic's table could be in silver but does not exist yet."""

    names = SilverNames(lake)

    def is_new(topic: str) -> bool:
        source = names.source_of(topic, prefix)
        if source is None or source[0] == INTERNAL_SCHEMA:
            return False
        return not lake.exists(lake.silver_path(names.of(*source)))

    return is_new


class Kafka(Protocol):
    def beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...


class Beginnings:
    """Gives each partition of a batch its start.

    Args:
        kafka: gives the first offset that the broker has.
        archived: gives the first offset that bronze has of (topic, partition); None if it has none.
        merged: the merged offsets in the ledger.
        is_new: whether silver has no table of a topic yet but may get one.
    """

    def __init__(
        self,
        kafka: Kafka,
        archived: Callable[[str, int], int | None],
        merged: Offsets,
        is_new: Callable[[str], bool],
    ) -> None:
        self._kafka = kafka
        self._archived = archived
        self._is_new = is_new
        self._known = {(topic, p): -1 for topic, places in merged.items() for p in places}

    def started(self, span: BatchSpan, batch_id: int) -> BatchSpan:
        """The span with a start for every partition; Spark's plan has none for a new partition.

        A repeated batch gets the same starts. Raises: DirectReadError; OSError if bronze does
        not answer.
        """
        met = [
            TopicPartition(topic, partition)
            for topic, partitions in span.end.items()
            for partition in partitions
            if self._known.get((topic, partition), batch_id) == batch_id
        ]
        unplanned = [tp for tp in met if tp.partition not in span.start.get(tp.topic, {})]
        new = {topic for topic in {tp.topic for tp in met} if self._is_new(topic)}
        asked = [tp for tp in met if tp in unplanned or tp.topic in new]
        start = {topic: dict(partitions) for topic, partitions in span.start.items()}
        for tp, begin in (self._kafka.beginnings(asked) if asked else {}).items():
            planned = start.get(tp.topic, {}).get(tp.partition, begin)
            first = self._first(tp, min(begin, planned)) if tp.topic in new else planned
            start.setdefault(tp.topic, {})[tp.partition] = first
        self._known |= {(tp.topic, tp.partition): batch_id for tp in met}
        return BatchSpan(start, span.end)

    def _first(self, tp: TopicPartition, begin: int) -> int:
        """The first offset that bronze or Kafka has; Kafka has the offsets from `begin` on."""
        if not begin:
            return 0
        archived = self._archived(tp.topic, tp.partition)
        if archived is not None and archived < begin:
            log.info(
                "%s, partition %d: bronze has events from offset %d on, Kafka from %d on",
                tp.topic,
                tp.partition,
                archived,
                begin,
            )
            return archived
        log.warning(
            "%s, partition %d: Kafka has dropped the events before offset %d, and bronze has none\n"
            "  hint: rows that the table had by then are missing in silver; `headwater verify` "
            "finds them",
            tp.topic,
            tp.partition,
            begin,
        )
        return begin
