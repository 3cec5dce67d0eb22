"""One table's part of a batch: each value is made by one function from the one before it.

`Prepared` (decoded, folded, judged by the table's own rules) becomes `Validated` (judged by the
rules that refer to other tables, too), and that `Merged`. A part that fails on the way is `Failed`;
where only its table has the problem, `Stopped` is what the ledger keeps of it.
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
        rows_in: how many came; `skipped`: how many of them are repetitions.
        high_water: the topic's mark after them.
        seen_time: the newest commit time of a streamed one.
    """

    topic: Topic
    rows_in: int
    high_water: HighWater
    skipped: int = 0
    seen_time: datetime | None = None


@dataclass(frozen=True)
class Judged:
    """A part as its table's own rules leave it; `fresh` is what its decoding rejected."""

    screened: Screened
    rules: TableRules
    fresh: QuarantinedRows


@dataclass(frozen=True)
class Prepared:
    """A part that is decoded, folded and judged by its table's own rules.

    Args:
        result: what is merged of it already: events from before a change of the table, or all.
        judged: what is left to merge; None where nothing is.
        source_time: the newest commit time of what is left to merge.
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
        rejects: for quarantine.
        closed: entries of quarantine that it supersedes.
        breaches: the rules that its rows break.
        folded: what is left to merge; None where nothing is.
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
    """What a batch did to one table, as the ledger tells it.

    Args:
        rejected: how many events went to quarantine.
        seconds: how long the merge took.
        claims: whether the table is as complete as the batch; False if it never had an event.
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
        """No event of a topic is taken."""
        return cls(Taken(topic, 0, topic.high_water))

    @property
    def topic(self) -> Topic:
        return self.taken.topic

    def followed_by(self, later: Merged) -> Merged:
        """Combine with a later one, for a table that merged several times."""
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
        done: what was merged of it all the same, as slices before the one that failed.
        planned: the slice that was being merged, where it is not the whole part.
    """

    done: Merged
    error: Exception
    planned: Slice | None = None

    @property
    def topic(self) -> Topic:
        return self.done.topic


@dataclass(frozen=True)
class Stopped:
    """A part whose table is stopped, and what was merged of it before."""

    done: Merged
    stop: Stop

    @property
    def topic(self) -> Topic:
        return self.done.topic


@dataclass(frozen=True)
class Work:
    """Parts of some topics that the driver does not take at once; `run` merges them."""

    topics: Sequence[str]
    run: Callable[[], Sequence[Merged | Failed]] = field(repr=False)
