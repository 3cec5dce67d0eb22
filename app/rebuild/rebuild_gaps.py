"""Decides whether offsets that bronze lacks were ever records.

Most objects of bronze show this themselves. For the others, Kafka is asked while it still has the
records, and the gaps that it explained earlier are remembered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.verify.bronze_check import without
from app.verify.verify_bronze import ExplainedGaps
from spark_streaming.reading.bronze_proof import MARKER_OFFSETS_MAX

READ_S = 120.0
_HINT = (
    "`./headwater verify --bronze` names the objects around it; put the missing object back, or "
    "read the table again from the source: `./headwater resync TABLE`"
)


class Gaps:
    """The gaps of one topic's bronze.

    Args:
        consumer: a Kafka consumer (`tail.open_consumer`).
        explained: gaps that Kafka has shown to hold no record.
        kept_from: the offset before which a partition's events were deleted by age.
    """

    def __init__(
        self,
        consumer: Any,
        topic: str,
        explained: ExplainedGaps,
        kept_from: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self._kept_from = kept_from
        self._consumer = consumer
        self._topic = topic
        self._explained = explained
        places = tail.partitions(consumer, topic)
        self.begins = {
            place.partition: int(begin)
            for place, begin in consumer.beginning_offsets(places).items()
        }

    def explain(self, partition: int, first: int, last: int) -> None:
        """Check that the offsets `first` to `last` held only transaction markers.

        Raises: HeadwaterError naming the offsets of missing records.
        """
        kept_from = self._kept_from(partition)
        if first < kept_from:
            raise HeadwaterError(
                f"bronze no longer has the beginning of {self._topic}",
                detail=f"partition {partition}: events before offset {kept_from} were deleted by age "
                "(`bronze_keep_days`), so nothing can be rebuilt from bronze alone",
                hint="the current table is not affected; to read it again from the source: "
                "`./headwater resync TABLE`",
            )
        begin = self.begins.get(partition, sys.maxsize)
        if begin <= last:
            lost = self._in_kafka(partition, max(first, begin), last)
            if lost:
                raise HeadwaterError(
                    f"bronze lacks records of {self._topic} that Kafka has",
                    detail=f"partition {partition}: offsets {lost[0]} to {lost[-1]} "
                    f"({len(lost)} records)",
                    hint=_HINT,
                )
        gone = (first, min(last, begin - 1))
        known = self._explained.of(self._topic, partition)
        # For a single missing offset this is called only if the object shows that a record was
        # lost.
        allowed = 0 if first == last else MARKER_OFFSETS_MAX
        if without(*gone, known) > allowed:
            raise HeadwaterError(
                f"bronze has a gap in {self._topic}",
                detail=f"partition {partition}: offsets {gone[0]} to {gone[1]} are missing, and "
                "Kafka does not have them any more",
                hint=_HINT,
            )

    def check_end(self, reached: Mapping[int, int]) -> None:
        """Check that Kafka has the events after bronze's end, so that the stream can continue.

        Raises: HeadwaterError naming the offsets that neither bronze nor Kafka has.
        """
        for partition, begin in self.begins.items():
            first = reached.get(partition, 0)
            known = self._explained.of(self._topic, partition)
            if without(first, begin - 1, known) > MARKER_OFFSETS_MAX:
                raise HeadwaterError(
                    f"bronze ends too early in {self._topic}",
                    detail=f"partition {partition}: offsets {first} to {begin - 1} are neither in "
                    "bronze nor in Kafka",
                    hint=f"is the bronze sink running? {_HINT}",
                )

    def _in_kafka(self, partition: int, first: int, last: int) -> list[int]:
        events = tail.read_between(
            self._consumer,
            self._topic,
            {partition: first},
            {partition: last + 1},
            deadline_s=READ_S,
        )
        return [event.offset for event in events]
