"""Whether what bronze lacks of a topic were ever records: Kafka says so where it still can."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from app.errors import HeadwaterError
from app.lake import tail
from app.lake.bronze_check import without
from app.lake.verify_bronze import ExplainedGaps
from spark_streaming.bronze import MARKER_OFFSETS_MAX

READ_S = 120.0
_HINT = (
    "`./headwater verify --bronze` names the objects around it; put the dropped object back, or "
    "ask for a new snapshot of the table instead"
)


class Gaps:
    """The gaps of one topic.

    Args:
        consumer: of Kafka (`tail.open_consumer`).
        explained: gaps that Kafka showed to hold no record while it could.
    """

    def __init__(self, consumer: Any, topic: str, explained: ExplainedGaps) -> None:
        self._consumer = consumer
        self._topic = topic
        self._explained = explained
        places = tail.partitions(consumer, topic)
        self.begins = {
            place.partition: int(begin)
            for place, begin in consumer.beginning_offsets(places).items()
        }

    def explain(self, partition: int, first: int, last: int) -> None:
        """Return where the offsets `first` to `last` hold no record but a transaction's marker.

        Raises: HeadwaterError naming the offsets that are missing.
        """
        begin = self.begins.get(partition, sys.maxsize)
        if begin <= last:
            found = self._in_kafka(partition, max(first, begin), last)
            if found:
                raise HeadwaterError(
                    f"bronze lacks records of {self._topic} that Kafka has",
                    detail=f"partition {partition}: offsets {found[0]} to {found[-1]} "
                    f"({len(found)} records)",
                    hint=_HINT,
                )
        gone = (first, min(last, begin - 1))
        known = self._explained.of(self._topic, partition)
        if without(*gone, known) > MARKER_OFFSETS_MAX:
            raise HeadwaterError(
                f"bronze has a gap in {self._topic}",
                detail=f"partition {partition}: offsets {gone[0]} to {gone[1]} are missing, and "
                "Kafka does not have them any more",
                hint=_HINT,
            )

    def check_end(self, reached: Mapping[int, int]) -> None:
        """Whether Kafka has what comes behind bronze's end, for the stream to go on with.

        Raises: HeadwaterError naming the offsets that neither has.
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
