"""The place of events in the source's stream, and how far a table is merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from spark_streaming.contract.lsn import Lsn


class Position(NamedTuple):
    """An event's place in the stream; positions compare in commit order.

    LSNs alone do not: transactions overlap, and each is streamed whole when it commits.
    `total_order` counts the events of one transaction: all rows of a COPY share one LSN.
    """

    last_commit_lsn: Lsn
    lsn: Lsn
    total_order: int


START = Position(Lsn(0), Lsn(0), 0)
# Numbers below 0 are not Kafka partitions; a topic's marks store other facts under them.
TRUNCATE = -1  # the position of the last TRUNCATE
FIRST_SNAPSHOT = -2  # the LSN of the first snapshot, of its newest attempt
RESYNCED = -3  # the LSN below which the last resync removed rows
RESYNC_SEEN = -1000  # minus Kafka's partition: the LSN of the last resync's end that was read there


@dataclass(frozen=True)
class HighWater:
    """The greatest merged position of each (topic, partition).

    It also holds the last TRUNCATE of each topic, its first snapshot and the ends of its resyncs:
    events from before them may still come from another partition.
    """

    positions: Mapping[tuple[str, int], Position] = field(default_factory=dict)

    def get(self, topic: str, partition: int) -> Position:
        """Return the greatest merged position; START if nothing is merged."""
        return self.positions.get((topic, partition), START)

    def truncated(self, topic: str) -> Position:
        """Return the position of the topic's last TRUNCATE; START without one."""
        return self.get(topic, TRUNCATE)

    def merge(self, other: HighWater) -> HighWater:
        """Return the greater mark of the two for each partition of either."""
        merged = dict(self.positions)
        for place, position in other.positions.items():
            merged[place] = max(position, merged.get(place, START))
        return HighWater(merged)

    def of_topic(self, topic: str) -> HighWater:
        """Return the marks of one topic."""
        return HighWater({place: m for place, m in self.positions.items() if place[0] == topic})

    @property
    def greatest_commit_lsn(self) -> Lsn:
        """The greatest commit LSN of all positions; 0 without one."""
        return max((p.last_commit_lsn for p in self.positions.values()), default=Lsn(0))

    def marks(self, topic: str) -> dict[int, Position]:
        """Return one topic's marks by partition, with those under TRUNCATE, FIRST_SNAPSHOT etc."""
        return {place[1]: mark for place, mark in self.positions.items() if place[0] == topic}

    def to_json(self) -> str:
        """Return `{topic: {partition: [last commit LSN, LSN, total order]}}` as JSON."""
        plain: dict[str, dict[str, list[int]]] = {}
        for (topic, partition), position in sorted(self.positions.items()):
            plain.setdefault(topic, {})[str(partition)] = list(position)
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> HighWater:
        """Read the text that `to_json` wrote. Raises: ValueError for anything else."""
        try:
            return cls(
                {
                    (topic, int(partition)): Position(Lsn(int(commit)), Lsn(int(lsn)), int(order))
                    for topic, partitions in json.loads(text).items()
                    for partition, (commit, lsn, order) in partitions.items()
                }
            )
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a high-water mark: {error}") from error


def parse_sequence(sequence: str) -> tuple[Lsn | None, Lsn | None]:
    """Parse Debezium's `source.sequence`, JSON text `["24","25"]`: (last commit LSN, LSN).

    The first is None until the connector has seen a commit, as in the first snapshot.
    Raises: ValueError for other text.
    """
    # The common form needs no JSON parser; this runs once for each event.
    commit, separator, lsn = sequence[2:-2].partition('","')
    if separator and sequence[:2] == '["':
        return Lsn(int(commit)), Lsn(int(lsn))
    parts = json.loads(sequence)
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(f"not a sequence: {sequence[:80]}")
    return (None if parts[0] is None else Lsn(int(parts[0]))), (
        None if parts[1] is None else Lsn(int(parts[1]))
    )
