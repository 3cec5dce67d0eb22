"""Where events stand in the source's stream, and how far a table has been merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Position(NamedTuple):
    """An event's place in the stream; compares in commit order.

    The LSN alone does not: transactions overlap, and each is streamed whole when it commits.
    `total_order` counts the events of one transaction: a COPY gives many rows one LSN.
    """

    last_commit_lsn: int
    lsn: int
    total_order: int


START = Position(0, 0, 0)
# The partition under which a topic's marks keep its last TRUNCATE: Kafka's begin at 0.
TRUNCATE = -1
# And under which the LSN of the first snapshot stands, of the newest try where it was interrupted.
FIRST_SNAPSHOT = -2


@dataclass(frozen=True)
class HighWater:
    """The greatest position already merged, for each (topic, partition).

    Beside them stands the last TRUNCATE of each topic: what was before it may still come, from
    another partition. So stands its first snapshot, whose interrupted tries may still come.
    """

    positions: Mapping[tuple[str, int], Position] = field(default_factory=dict)

    def get(self, topic: str, partition: int) -> Position:
        """The position merged so far; START where nothing was."""
        return self.positions.get((topic, partition), START)

    def truncated(self, topic: str) -> Position:
        """The position of the topic's last TRUNCATE; START without one."""
        return self.get(topic, TRUNCATE)

    def merge(self, other: HighWater) -> HighWater:
        """The greater of both, for each partition that either knows."""
        merged = dict(self.positions)
        for place, position in other.positions.items():
            merged[place] = max(position, merged.get(place, START))
        return HighWater(merged)

    def of_topic(self, topic: str) -> HighWater:
        """The part that concerns one topic."""
        return HighWater({place: m for place, m in self.positions.items() if place[0] == topic})

    def marks(self, topic: str) -> dict[int, Position]:
        """One topic's marks by partition, and those under TRUNCATE and FIRST_SNAPSHOT."""
        return {place[1]: mark for place, mark in self.positions.items() if place[0] == topic}

    def to_json(self) -> str:
        """`{topic: {partition: [last commit LSN, LSN, total order]}}`."""
        plain: dict[str, dict[str, list[int]]] = {}
        for (topic, partition), position in sorted(self.positions.items()):
            plain.setdefault(topic, {})[str(partition)] = list(position)
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> HighWater:
        """What `to_json` wrote; raises ValueError for anything else."""
        try:
            return cls(
                {
                    (topic, int(partition)): Position(*(int(part) for part in position))
                    for topic, partitions in json.loads(text).items()
                    for partition, position in partitions.items()
                }
            )
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a high-water mark: {error}") from error


def lsn_text(lsn: int) -> str:
    """A log position as Postgres prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_sequence(sequence: str) -> tuple[int | None, int | None]:
    """The (last commit LSN, LSN) of Debezium's `source.sequence`, JSON text `["24","25"]`.

    The first is None until the connector has seen a commit: right after the first snapshot.
    Raises ValueError for other text.
    """
    # The common form without a JSON parser: this runs once for each event.
    commit, separator, lsn = sequence[2:-2].partition('","')
    if separator and sequence[:2] == '["':
        return int(commit), int(lsn)
    parts = json.loads(sequence)
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(f"not a sequence: {sequence[:80]}")
    return (None if parts[0] is None else int(parts[0])), (
        None if parts[1] is None else int(parts[1])
    )
