"""One table's part of a batch, as a value after each step; one function makes each from the last.

`Prepared` (decoded, folded, judged by the table's own rules) becomes `Validated` (judged by the
rules that refer to other tables, too), and `Validated` becomes `Merged`. A part that fails on the
way becomes `Failed`, and `Stopped` if only its own table has the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from spark_streaming.events.event import Place, Reject
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import Folded
from spark_streaming.ops.breaches import Breach
from spark_streaming.ops.stopped import Slice, Stop
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.rules.rules import TableRules
from spark_streaming.rules.screen import Screened
from spark_streaming.schema.topic import Topic
from spark_streaming.tables.engine_protocol import MergeResult


@dataclass(frozen=True)
class Taken:
    """The events that a part takes of its topic.

    Args:
        rows_in: the number of events; `skipped`: how many of them are repetitions.
        high_water: the topic's mark after these events.
        seen_time: the newest commit time of a streamed event.
    """

    topic: Topic
    rows_in: int
    high_water: HighWater
    skipped: int = 0
    seen_time: datetime | None = None


@dataclass(frozen=True)
class Judged:
    """A part after its table's own rules; `fresh`: the rows that decoding rejected."""

    screened: Screened
    rules: TableRules
    fresh: QuarantinedRows


@dataclass(frozen=True)
class Prepared:
    """A part that is decoded, folded and judged by its table's own rules.

    Args:
        result: of the merged events: those from before a change of the table, or all events.
        judged: the rows still to merge; None if there are none.
        source_time: the newest commit time of the rows still to merge.
    """

    taken: Taken
    rejects: Sequence[Reject] = ()
    result: MergeResult | None = None
    judged: Judged | None = None
    source_time: datetime | None = None


@dataclass(frozen=True)
class Validated:
    """A part that all rules have judged.

    Args:
        rejects: events for quarantine.
        closed: quarantine entries that the part supersedes.
        breaches: the rules that its rows break.
        folded: the rows still to merge; None if there are none.
    """

    prepared: Prepared
    rejects: Sequence[Reject]
    closed: frozenset[Place] = frozenset()
    breaches: Sequence[Breach] = ()
    folded: Folded | None = None

    @property
    def topic(self) -> Topic:
        return self.prepared.taken.topic


@dataclass(frozen=True)
class Merged:
    """What a batch did to one table, as it is written to the ledger.

    Args:
        rejected: how many events went to quarantine.
        seconds: how long the merge took.
        claims: whether the table is as complete as the batch; False for a table without events.
    """

    taken: Taken
    rejected: int = 0
    result: MergeResult | None = None
    engine: str | None = None
    seconds: float = 0.0
    source_time: datetime | None = None
    claims: bool = True

    @classmethod
    def nothing(cls, topic: Topic) -> Merged:
        """A part without events."""
        return cls(Taken(topic, 0, topic.high_water))

    @property
    def topic(self) -> Topic:
        return self.taken.topic

    def followed_by(self, later: Merged) -> Merged:
        """Combine with a later part of the same table, which merged several times."""
        times = [t for t in (self.source_time, later.source_time) if t]
        seen = [t for t in (self.taken.seen_time, later.taken.seen_time) if t]
        taken = replace(
            later.taken,
            rows_in=self.taken.rows_in + later.taken.rows_in,
            skipped=self.taken.skipped + later.taken.skipped,
            seen_time=max(seen, default=None),
        )
        return replace(
            later,
            taken=taken,
            rejected=self.rejected + later.rejected,
            result=later.result.after(self.result) if later.result else self.result,
            engine=later.engine or self.engine,
            seconds=self.seconds + later.seconds,
            source_time=max(times, default=None),
        )


@dataclass(frozen=True)
class Failed:
    """A part that could not be merged.

    Args:
        done: the slices that were merged before the failure.
        planned: the slice that failed; None if it is the whole part.
    """

    done: Merged
    error: Exception
    planned: Slice | None = None

    @property
    def topic(self) -> Topic:
        return self.done.topic


@dataclass(frozen=True)
class Stopped:
    """A part whose table is stopped; `done`: the events that were merged before."""

    done: Merged
    stop: Stop

    @property
    def topic(self) -> Topic:
        return self.done.topic


@dataclass(frozen=True)
class Work:
    """Parts of some topics, merged after the first round; `run` merges them."""

    topics: Sequence[str]
    run: Callable[[], Sequence[Merged | Failed]] = field(repr=False)
