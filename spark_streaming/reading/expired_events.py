"""Reads events that Kafka has expired from bronze, which keeps every event."""

from __future__ import annotations

from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze, UnreadableObjectError
from spark_streaming.reading.bronze_names import first_offset


class NotArchivedError(Exception):
    """Bronze lacks events that Kafka has expired; the message names the offsets."""


class TooManyBytesError(Exception):
    """Events take more memory than allowed."""


class Archive:
    """Reads complete spans of offsets from bronze, in place of Kafka."""

    def __init__(self, bronze: Bronze) -> None:
        self._bronze = bronze

    def first(self, topic: str, partition: int) -> int | None:
        """Return the first offset that bronze has of a partition; None if it has none.

        Raises: OSError if the object store does not answer.
        """
        path = next(self._bronze.objects(topic, partition), None)
        return None if path is None else first_offset(path)

    def read(
        self, topic: str, partition: int, start: int, end: int, bytes_max: int | None = None
    ) -> list[RawEvent]:
        """Return all events of a partition from offset `start` up to, but without, `end`.

        Offsets without a record are transaction markers and aborted records; the objects prove
        which (`bronze.Proof`). Before an object of an older version one marker is accepted.
        Raises: NotArchivedError if more is missing, or bronze cannot be read;
            TooManyBytesError if the events take more than `bytes_max`.
        """

        def explain(_: int, first: int, last: int) -> None:
            raise NotArchivedError(f"bronze lacks the offsets {first} to {last}")

        events, size = list[RawEvent](), 0
        try:
            for event in self._bronze.events(topic, partition, start, explain, end):
                events.append(event)
                size += len(event.value or b"")
                if bytes_max is not None and size > bytes_max:
                    raise TooManyBytesError(f"more than {bytes_max} bytes")
            return events
        except (OSError, UnreadableObjectError) as error:
            raise NotArchivedError(f"bronze cannot be read: {error}") from error
