"""What `Evolver` plans for a topic's events of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.schema.definitions import Pending


@dataclass(frozen=True)
class EventPlan:
    """What to do with a topic's events of a batch.

    Args:
        steps: what is merged before the last events, each under the contract that the table has
            by then, and what it follows afterwards.
        events: to decode under the contract that the table has after the steps.
        rejects: events that wait in quarantine for their policy to change.
    """

    events: list[RawEvent]
    steps: list[tuple[list[RawEvent], Pending]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class ContractChanged(Exception):
    """Decoding showed that the table changed: the events have to be split again."""
