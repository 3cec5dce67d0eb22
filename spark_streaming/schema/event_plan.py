"""The plan that `Evolver` makes for a topic's events of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.schema.definitions import Pending


@dataclass(frozen=True)
class EventPlan:
    """What to do with a topic's events of a batch.

    Args:
        steps: merges before that of the last events: each merges events under the contract that the
            table has by then, and lets it follow a pending change afterwards.
        events: the last events, to decode under the contract that the table has after the steps.
        rejects: events that wait in quarantine until their policy changes.
    """

    events: list[RawEvent]
    steps: list[tuple[list[RawEvent], Pending]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class ContractChanged(Exception):
    """Decoding showed that the table changed, so the events have to be split again."""
