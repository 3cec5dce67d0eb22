"""Events that Kafka has expired, from bronze, which has each of them for good."""

from __future__ import annotations

from spark_streaming.bronze import MARKER_OFFSETS_MAX, Bronze, UnreadableObjectError
from spark_streaming.events import RawEvent


class NotArchivedError(Exception):
    """Bronze does not have all of what Kafka has expired; the text says which offsets."""


class Archive:
    """Bronze in place of Kafka, for spans of offsets that must be whole."""

    def __init__(self, bronze: Bronze) -> None:
        self._bronze = bronze

    def read(self, topic: str, partition: int, start: int, end: int) -> list[RawEvent]:
        """All events of a partition from offset `start` up to before `end`.

        Between two records one offset may be without any: the marker that ends a transaction.
        Raises: NotArchivedError where more is missing, or bronze cannot be read.
        """

        def explain(_: int, first: int, last: int) -> None:
            if min(last + 1, end) - first > MARKER_OFFSETS_MAX:
                raise NotArchivedError(f"bronze lacks the offsets {first} to {last}")

        events = list[RawEvent]()
        reached = start
        try:
            for event in self._bronze.events(topic, partition, start, explain):
                if event.offset >= end:
                    return events
                events.append(event)
                reached = event.offset + 1
        except (OSError, UnreadableObjectError) as error:
            raise NotArchivedError(f"bronze cannot be read: {error}") from error
        if end - reached > MARKER_OFFSETS_MAX:
            raise NotArchivedError(f"bronze ends before offset {reached}")
        return events
